package store

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The limits that every implementation enforces before it does anything, so that
// what the embedded store takes Consul takes too.
const (
	maxKey       = 512 // bytes
	maxName      = 128 // bytes, of an instance's ID and service
	maxMeta      = 64  // pairs
	maxMetaKey   = 128 // bytes
	maxMetaValue = 512 // bytes
)

// CheckKey refuses a key that does not mean the same to every implementation: it
// must be 1 to 512 bytes of printable UTF-8, of segments between single slashes,
// none of them "." or "..", without "%" (Consul unescapes a path twice).
func CheckKey(key string) error {
	if key == "" {
		return fmt.Errorf("store: empty key")
	}
	return checkPath(key, key)
}

// CheckPrefix is CheckKey for the start of a key: it may be empty or end in a slash.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return checkPath(prefix, strings.TrimSuffix(prefix, "/"))
}

func checkPath(name, path string) error {
	if len(name) > maxKey {
		return fmt.Errorf("store: key %.40q…: %d bytes, the limit is %d", name, len(name), maxKey)
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == '%' }) {
		return fmt.Errorf("store: key %q: want printable UTF-8 without %%", name)
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("store: key %q: empty or dotted segment between slashes", name)
		}
	}
	return nil
}

// CheckValue refuses a value of more than MaxValue bytes.
func CheckValue(key string, value []byte) error {
	if len(value) > MaxValue {
		return fmt.Errorf("store: %s: value of %d bytes, the limit is %d", key, len(value), MaxValue)
	}
	return nil
}

// CheckOps refuses a Commit of no changes or too many, of two of one key, or of values
// that are too large together.
func CheckOps(ops []Op) error {
	if len(ops) == 0 || len(ops) > MaxOps {
		return fmt.Errorf("store: %d changes at once, want 1 to %d", len(ops), MaxOps)
	}
	size, seen := 0, make(map[string]bool, len(ops))
	for _, op := range ops {
		if err := CheckKey(op.Key); err != nil {
			return err
		}
		if seen[op.Key] {
			return fmt.Errorf("store: %s: twice in one commit", op.Key)
		}
		seen[op.Key] = true
		size += len(op.Value)
	}
	if size > MaxCommit {
		return fmt.Errorf("store: %s and others: values of %d bytes in one commit, the limit is %d", ops[0].Key, size, MaxCommit)
	}
	return nil
}

// CheckInstance refuses a registration that some implementation could not hold:
// ID and service are 1 to 128 letters, digits, dots, dashes or underscores, the
// address is one that others could reach, and Meta keeps to its limits.
func CheckInstance(in Instance) error {
	if err := CheckService(in.Service); err != nil {
		return err
	}
	if !name(in.ID) {
		return fmt.Errorf("store: instance %.40q: want an ID of 1 to %d letters, digits, dots, dashes or underscores", in.ID, maxName)
	}
	if a := in.Addr.Addr(); !in.Addr.IsValid() || a.Zone() != "" || a.IsUnspecified() {
		return fmt.Errorf("store: instance %s: address %s: want an IP of its own and a port", in.ID, in.Addr)
	}
	if len(in.Meta) > maxMeta {
		return fmt.Errorf("store: instance %s: %d pairs of meta, the limit is %d", in.ID, len(in.Meta), maxMeta)
	}
	for k, v := range in.Meta {
		if k == "" || len(k) > maxMetaKey || strings.ContainsFunc(k, func(r rune) bool { return !word(r) }) || strings.HasPrefix(k, "consul-") {
			return fmt.Errorf("store: instance %s: meta key %.40q: want 1 to %d letters, digits, dashes or underscores, not consul-…", in.ID, k, maxMetaKey)
		}
		if len(v) > maxMetaValue || !utf8.ValidString(v) {
			return fmt.Errorf("store: instance %s: meta %s: want at most %d bytes of UTF-8, got %d", in.ID, k, maxMetaValue, len(v))
		}
	}
	return nil
}

// CheckService refuses a service's name on the same terms.
func CheckService(service string) error {
	if !name(service) {
		return fmt.Errorf("store: service %.40q: want a name of 1 to %d letters, digits, dots, dashes or underscores", service, maxName)
	}
	return nil
}

func name(s string) bool {
	return strings.Trim(s, ".") != "" && len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool { return r != '.' && !word(r) })
}

func word(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_'
}
