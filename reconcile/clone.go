package reconcile

import (
	"reflect"

	"github.com/docker/docker/api/types/swarm"
)

// cloneSpec returns a copy of s that shares nothing with it and keeps its shape:
// what is nil stays nil, what is empty stays empty. The shape matters, because an
// engine restarts tasks when a nil part of a task template becomes an explicit
// default.
func cloneSpec(s *swarm.ServiceSpec) *swarm.ServiceSpec {
	out := new(swarm.ServiceSpec)
	cloneInto(reflect.ValueOf(out).Elem(), reflect.ValueOf(s).Elem())
	return out
}

func cloneInto(dst, src reflect.Value) {
	switch src.Kind() {
	case reflect.Pointer:
		if src.IsNil() {
			return
		}
		dst.Set(reflect.New(src.Type().Elem()))
		cloneInto(dst.Elem(), src.Elem())
	case reflect.Slice:
		if src.IsNil() {
			return
		}
		dst.Set(reflect.MakeSlice(src.Type(), src.Len(), src.Len()))
		for i := range src.Len() {
			cloneInto(dst.Index(i), src.Index(i))
		}
	case reflect.Map:
		if src.IsNil() {
			return
		}
		dst.Set(reflect.MakeMapWithSize(src.Type(), src.Len()))
		for it := src.MapRange(); it.Next(); {
			v := reflect.New(src.Type().Elem()).Elem()
			cloneInto(v, it.Value())
			dst.SetMapIndex(it.Key(), v)
		}
	case reflect.Struct:
		for i := range src.NumField() {
			cloneInto(dst.Field(i), src.Field(i))
		}
	default:
		dst.Set(src)
	}
}
