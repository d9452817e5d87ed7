// Writes builtin.json: the shape of the built-in kinds, read by reflection from upstream's own Go
// types and, for the keys of list maps, from upstream's OpenAPI documents. To renew it:
//
//	cd tests/control_plane
//	go run ../../src/simulator/api_server/schema/generate.go \
//	    "$(go list -m -f '{{.Dir}}' k8s.io/kubernetes)/api/openapi-spec/v3" \
//	    > ../../src/simulator/api_server/schema/builtin.json
//
// A field is one string: protobuf number, type, then flags. Types: string, bool, int32, int64,
// float64, bytes, time, microtime, quantity, intorstring, any (schemaless JSON), or the name of a
// type; prefixes "[]" list, "{}" map by string, "*" pointer. Flags: o (omitted when empty, but never
// a struct), z (omitted when zero, a struct too), inline (a nested protobuf message whose fields are siblings in JSON), p=KEYS (strategic merge by these
// keys, or "p" for a list of scalars that merges), k (retainKeys), l=KEYS (apply treats the list
// as a map by these keys), l (a set).
package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	apps "k8s.io/api/apps/v1"
	authn "k8s.io/api/authentication/v1"
	authz "k8s.io/api/authorization/v1"
	batch "k8s.io/api/batch/v1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	events "k8s.io/api/events/v1"
	node "k8s.io/api/node/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	scheduling "k8s.io/api/scheduling/v1"
	storage "k8s.io/api/storage/v1"
	extensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var roots = []any{
	core.Pod{}, core.Node{}, core.Namespace{}, core.Event{}, core.ConfigMap{}, core.Secret{},
	core.Service{}, core.ServiceAccount{}, core.PersistentVolume{}, core.PersistentVolumeClaim{},
	core.ReplicationController{}, core.ResourceQuota{}, core.LimitRange{}, core.PodTemplate{},
	core.Endpoints{}, core.Binding{},
	events.Event{}, coordination.Lease{}, scheduling.PriorityClass{},
	policy.PodDisruptionBudget{}, policy.Eviction{},
	apps.ReplicaSet{}, apps.StatefulSet{}, apps.Deployment{}, apps.DaemonSet{},
	apps.ControllerRevision{}, batch.Job{}, batch.CronJob{},
	storage.StorageClass{}, storage.CSINode{}, storage.CSIDriver{},
	storage.CSIStorageCapacity{}, storage.VolumeAttachment{}, node.RuntimeClass{},
	resourcev1.ResourceClaim{}, resourcev1.ResourceClaimTemplate{}, resourcev1.ResourceSlice{},
	resourcev1.DeviceClass{},
	authn.TokenReview{}, authn.SelfSubjectReview{}, authz.SubjectAccessReview{},
	authz.SelfSubjectAccessReview{}, authz.SelfSubjectRulesReview{},
	rbac.Role{}, rbac.RoleBinding{}, rbac.ClusterRole{}, rbac.ClusterRoleBinding{},
	extensions.CustomResourceDefinition{}, meta.DeleteOptions{}, meta.Status{},
}

var leaves = map[reflect.Type]string{
	reflect.TypeOf(meta.Time{}):            "time",
	reflect.TypeOf(meta.MicroTime{}):       "microtime",
	reflect.TypeOf(resource.Quantity{}):    "quantity",
	reflect.TypeOf(intstr.IntOrString{}):   "intorstring",
	reflect.TypeOf(meta.FieldsV1{}):        "any",
	reflect.TypeOf(runtime.RawExtension{}): "any",
	reflect.TypeOf(extensions.JSON{}):      "any",
	reflect.TypeOf(meta.Duration{}):        "string",
}

var types = map[string]map[string]string{}
var specs = map[string]map[string]any{}

func name(t reflect.Type) string {
	path := t.PkgPath()
	path = strings.TrimSuffix(strings.TrimPrefix(path, "k8s.io/"), "/v1")
	path = path[strings.LastIndex(path, "/")+1:]
	return path + "." + t.Name()
}

func schemaName(t reflect.Type) string {
	path := strings.Replace(t.PkgPath(), "k8s.io/api/", "io.k8s.api/", 1)
	path = strings.Replace(path, "k8s.io/apimachinery/", "io.k8s.apimachinery/", 1)
	path = strings.Replace(path, "k8s.io/apiextensions-apiserver/",
		"io.k8s.apiextensions-apiserver/", 1)
	return strings.ReplaceAll(path, "/", ".") + "." + t.Name()
}

func typeOf(t reflect.Type) string {
	if leaf, ok := leaves[t]; ok {
		return leaf
	}
	switch t.Kind() {
	case reflect.Pointer:
		return "*" + typeOf(t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return "[]" + typeOf(t.Elem())
	case reflect.Map:
		return "{}" + typeOf(t.Elem())
	case reflect.Struct:
		// a schema is one structural tree in Go too, but with JSON forms of its own
		if t.Name() == "JSONSchemaProps" {
			return "any"
		}
		walk(t)
		return name(t)
	case reflect.Int, reflect.Int64:
		return "int64"
	default:
		return t.Kind().String()
	}
}

func walk(t reflect.Type) {
	if _, ok := types[name(t)]; ok {
		return
	}
	fields := map[string]string{}
	types[name(t)] = fields
	properties, _ := specs[schemaName(t)]["properties"].(map[string]any)
	for i := 0; i < t.NumField(); i++ {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		key, options, _ := strings.Cut(tag, ",")
		number := "0"
		if parts := strings.Split(f.Tag.Get("protobuf"), ","); len(parts) > 1 {
			number = parts[1]
		}
		if key == "" && f.Anonymous {
			typ := typeOf(f.Type)
			if typ == "meta.TypeMeta" {
				continue
			}
			fields["~"+f.Name] = number + " " + typ + " inline"
			continue
		}
		if key == "-" || key == "" {
			continue
		}
		text := number + " " + typeOf(f.Type)
		if strings.Contains(options, "omitzero") {
			text += " z"
		} else if strings.Contains(options, "omitempty") {
			text += " o"
		}
		if strategy := f.Tag.Get("patchStrategy"); strings.Contains(strategy, "merge") {
			text += " p"
			if merge := f.Tag.Get("patchMergeKey"); merge != "" {
				text += "=" + merge
			}
		}
		if strings.Contains(f.Tag.Get("patchStrategy"), "retainKeys") {
			text += " k"
		}
		if property, ok := properties[key].(map[string]any); ok {
			switch property["x-kubernetes-list-type"] {
			case "set":
				text += " l"
			case "map":
				var keys []string
				for _, k := range property["x-kubernetes-list-map-keys"].([]any) {
					keys = append(keys, k.(string))
				}
				text += " l=" + strings.Join(keys, "+")
			}
		}
		fields[key] = text
	}
}

func main() {
	documents, _ := filepath.Glob(filepath.Join(os.Args[1], "*.json"))
	for _, document := range documents {
		var parsed struct {
			Components struct{ Schemas map[string]map[string]any }
		}
		text, err := os.ReadFile(document)
		if err != nil {
			panic(err)
		}
		if err := json.Unmarshal(text, &parsed); err != nil {
			panic(err)
		}
		for name, schema := range parsed.Components.Schemas {
			specs[name] = schema
		}
	}
	for _, root := range roots {
		walk(reflect.TypeOf(root))
	}
	// one type a line, sorted, so that a renewal reads well in a diff
	order := slices.Sorted(maps.Keys(types))
	fmt.Println("{")
	for i, key := range order {
		fields, _ := json.Marshal(types[key])
		end := ","
		if i == len(order)-1 {
			end = ""
		}
		fmt.Printf("%q: %s%s\n", key, fields, end)
	}
	fmt.Println("}")
}
