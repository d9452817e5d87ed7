#!/usr/bin/env bash
# Builds the servers that the tests run against (etcd, kube-apiserver, kube-scheduler, kubectl)
# from the module versions pinned in go.mod, and prints their folder as the last line on stdout.
#
#   KUBEBUILDER_ASSETS         a folder that holds the four programs; used as it is, nothing is built
#   MSS_CONTROL_PLANE_CACHE    where built programs are kept, instead of
#                              ${XDG_CACHE_HOME:-$HOME/.cache}/mss-scheduler/control-plane
#
# Exit codes: 0 ready, 1 failed, 3 Go is not installed and nothing is there to be used.
set -euo pipefail

kubernetes=v1.37.2
etcd=v3.7.3
programs="etcd kubectl kube-scheduler kube-apiserver"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf 'control plane: %s\n' "$*" >&2; }
fail() {
  local code=$1
  shift
  say "$@"
  exit "$code"
}

missing_in() {
  local program missing=""
  for program in $programs; do
    [ -x "$1/$program" ] || missing="$missing $program"
  done
  printf '%s' "${missing# }"
}

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  missing=$(missing_in "$KUBEBUILDER_ASSETS")
  [ -z "$missing" ] || fail 1 "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS lacks: $missing;" \
    "add them or unset the variable to have them built"
  printf '%s\n' "$KUBEBUILDER_ASSETS"
  exit 0
fi

cache=${MSS_CONTROL_PLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mss-scheduler/control-plane}
folder=$cache/kubernetes-$kubernetes-etcd-$etcd
if [ -z "$(missing_in "$folder")" ]; then
  printf '%s\n' "$folder"
  exit 0
fi

command -v go >/dev/null 2>&1 || fail 3 "cannot build $(missing_in "$folder"): go is not installed;" \
  "install Go 1.26 or newer, or point KUBEBUILDER_ASSETS at a folder with the programs"

package_of() {
  case $1 in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    *) echo "k8s.io/kubernetes/cmd/$1" ;;
  esac
}

# The published modules carry no version of their own: upstream's release scripts stamp it in the
# same way. Without it the API server refuses to emulate a release and kubectl calls itself v0.0.0.
stamps() {
  local package minor=${kubernetes#v1.}
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf -- '-X %s.gitVersion=%s ' "$package" "$kubernetes"
    printf -- '-X %s.gitMajor=1 -X %s.gitMinor=%s ' "$package" "$package" "${minor%%.*}"
    printf -- '-X %s.gitTreeState=clean ' "$package"
  done
}

build() {
  local program=$1 started=$SECONDS unfinished=$folder/.$1.$$
  say "building $program ($2); the first time takes up to ten minutes in all"
  # a program appears under its name only when it is whole, so a stopped build is simply resumed
  (cd "$here" && CGO_ENABLED=0 GOWORK=off go build -mod=readonly -buildvcs=false -trimpath \
    -ldflags "-s -w $(stamps)" -o "$unfinished" "$(package_of "$program")") || {
    rm -f "$unfinished"
    fail 1 "building $program failed; the lines above say why"
  }
  mv -f "$unfinished" "$folder/$program"
  say "built $program in $((SECONDS - started)) s"
}

mkdir -p "$folder"
# one builder at a time; where flock is not at hand two builders only waste work
exec 9>"$cache/.lock"
if command -v flock >/dev/null 2>&1; then
  flock -n 9 || {
    say "waiting for another build to end"
    flock 9
  }
fi

missing=$(missing_in "$folder")
total=$(wc -w <<<"$missing")
count=0
for program in $missing; do
  count=$((count + 1))
  build "$program" "$count of $total"
done
printf '%s\n' "$folder"
