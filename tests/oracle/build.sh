#!/usr/bin/env bash
# Builds the oracle, upstream's scheduler plugins behind a pipe, and prints the path of the program
# as the last line on stdout. It is kept beside the programs of ../control_plane/build.sh, under a
# name that changes with its sources.
#
#   MSS_CONTROL_PLANE_CACHE    where built programs are kept, instead of
#                              ${XDG_CACHE_HOME:-$HOME/.cache}/mss-scheduler/control-plane
#
# Exit codes: 0 ready, 1 failed, 3 Go is not installed and nothing is there to be used.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MSS_CONTROL_PLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mss-scheduler/control-plane}
sources=$(cat "$here"/*.go "$here/go.mod" | cksum | cut -d' ' -f1)
program=$cache/oracle-$sources

say() { printf 'oracle: %s\n' "$*" >&2; }

if [ -x "$program" ]; then
  printf '%s\n' "$program"
  exit 0
fi
command -v go >/dev/null 2>&1 || {
  say "cannot be built: go is not installed; install Go 1.26 or newer"
  exit 3
}

mkdir -p "$cache"
# one builder at a time, those of the control plane included
exec 9>"$cache/.lock"
if command -v flock >/dev/null 2>&1; then
  flock -n 9 || {
    say "waiting for another build to end"
    flock 9
  }
fi
if [ ! -x "$program" ]; then
  started=$SECONDS
  say "building; the first time takes some minutes"
  # it appears under its name only when it is whole
  (cd "$here" && CGO_ENABLED=0 GOWORK=off go build -mod=readonly -buildvcs=false -trimpath \
    -ldflags "-s -w" -o "$program.$$" .) || {
    rm -f "$program.$$"
    say "the build failed; the lines above say why"
    exit 1
  }
  mv -f "$program.$$" "$program"
  say "built in $((SECONDS - started)) s"
fi
printf '%s\n' "$program"
