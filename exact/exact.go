// Package exact reads JSON that decides something: names as they are spelled, each once.
//
// encoding/json takes country and Country for one member, and of a member that is there
// twice the last or, field by field, a mixture. Two readers of one document then differ
// about whose law it names. Here both are errors, and so is a byte order mark, and text
// that is not UTF-8; what follows the value is one everywhere. It is the only JSON reader of
// the house (docs/adr/0014); writing is encoding/json's.
package exact

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Read reads one value that a person, a backend or this very program wrote: a member that
// v does not have is an error too.
func Read(data []byte, v any) error { return read(data, v, json.RejectUnknownMembers(true)) }

// Known reads what it knows of a value that a newer version of this program may have
// written: a join message, or a record that nodes share. Members that v does not have are
// ignored.
func Known(data []byte, v any) error { return read(data, v) }

func read(data []byte, v any, o ...json.Options) error {
	if bytes.HasPrefix(data, []byte("\ufeff")) {
		return errors.New("line 1: a byte order mark before the JSON: save it without one (RFC 8259 section 8.1)")
	}
	if err := json.Unmarshal(data, v, o...); err != nil {
		return reword(data, err)
	}
	return nil
}

// reword says where and what, and never quotes a value: it may be a secret.
func reword(data []byte, err error) error {
	var syntax *jsontext.SyntacticError
	var meaning *json.SemanticError
	switch {
	case errors.As(err, &syntax):
		what := "no JSON here: " + strings.TrimPrefix(text(syntax.Err), "jsontext: ")
		switch {
		case errors.Is(err, jsontext.ErrDuplicateName):
			what = "named twice"
		case strings.Contains(what, "after top-level value"):
			what = "one JSON value is wanted, more follows it"
		}
		return place(data, syntax.ByteOffset, syntax.JSONPointer, what)
	case errors.As(err, &meaning):
		what := "want " + kind(meaning.GoType)
		switch {
		case errors.Is(meaning.Err, json.ErrUnknownName):
			what = "unknown member: want " + strings.Join(members(meaning.GoType), ", ")
		case meaning.Err == nil && meaning.JSONKind != 0:
			what += ", not " + shape(meaning.JSONKind)
		}
		return place(data, meaning.ByteOffset, meaning.JSONPointer, what)
	}
	return err
}

func text(err error) string {
	if err == nil {
		return "malformed"
	}
	return err.Error()
}

func place(data []byte, offset int64, at jsontext.Pointer, what string) error {
	line := 1 + bytes.Count(data[:min(int(offset), len(data))], []byte("\n"))
	if at == "" {
		return fmt.Errorf("line %d: %s", line, what)
	}
	return fmt.Errorf("line %d: %.128q: %s", line, strings.TrimPrefix(string(at), "/"), what)
}

// shape names what stands in the text.
func shape(k jsontext.Kind) string {
	switch k {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case '0':
		return "a number"
	}
	return k.String()
}

// kind names what a Go type is in JSON.
func kind(t reflect.Type) string {
	switch {
	case t == nil:
		return "another type"
	case t == reflect.TypeFor[time.Time]():
		return "a time such as 2026-11-24T12:00:00Z"
	case t == reflect.TypeFor[[]byte]():
		return "base64"
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return "a string that is a " + t.Name()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Pointer:
		return kind(t.Elem())
	}
	return "a whole number within its limits"
}

// members are the names that an object of the type may have.
func members(t reflect.Type) (names []string) {
	if t == nil || t.Kind() != reflect.Struct {
		return []string{"none"}
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported() && !f.Anonymous:
		case f.Anonymous && name == "":
			names = append(names, members(f.Type)...)
		case name == "":
			names = append(names, f.Name)
		default:
			names = append(names, name)
		}
	}
	return names
}
