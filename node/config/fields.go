package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// decoder turns nodes into values and reports what does not fit.
type decoder struct {
	report
	dir    string // absolute; relative paths of the file start here
	lookup func(string) (string, bool)
}

// fail reports a mistake at a node.
func (d *decoder) fail(n *yaml.Node, key, suggestion, format string, args ...any) {
	d.add(&Error{Line: n.Line, Column: n.Column, Key: key, Message: fmt.Sprintf(format, args...), Suggestion: suggestion})
}

// fields are the values of one mapping by their keys.
type fields struct {
	d      *decoder
	node   *yaml.Node
	path   string
	value  map[string]*yaml.Node
	broken map[string]bool // keys with a mistake already, so that rules about several keys keep quiet about them
}

// mapping reads the keys of a mapping; none if n is something else. Every key must be one of known.
func (d *decoder) mapping(n *yaml.Node, path string, known, required []string) *fields {
	f := &fields{d: d, node: n, path: path, value: map[string]*yaml.Node{}, broken: map[string]bool{}}
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "", "expected a mapping of keys to values, got %s", describe(n))
		for _, key := range known {
			f.broken[key] = true
		}
		return f
	}
	meant := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		switch first, exists := f.value[name.Value]; {
		case name.Kind != yaml.ScalarNode:
			d.fail(name, path, "", "expected a key, got %s", describe(name))
		case exists:
			d.fail(name, f.key(name.Value), "", "duplicate key %q, first given at line %d", name.Value, first.Line)
		case slices.Contains(known, name.Value):
			f.value[name.Value] = value
		default:
			if len(d.errs) == maxErrors {
				d.count++ // a file of nothing but unknown keys would take seconds to explain
				continue
			}
			suggestion, probable := suggest(name.Value, known)
			d.fail(name, path, suggestion, "unknown key %s", quote(name.Value))
			meant[probable] = true
		}
	}
	for _, key := range required {
		if f.value[key] == nil && !meant[key] { // a misspelt key is not missing as well
			d.fail(n, path, "", "missing required key %q", key)
			f.broken[key] = true
		}
	}
	for key := range meant {
		if f.value[key] == nil {
			f.broken[key] = true
		}
	}
	return f
}

// list reads the items of a list; none if the key is absent or something else.
func (f *fields) list(key string) []*yaml.Node {
	n := f.value[key]
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		suggestion := ""
		if n.Tag == "!!null" {
			suggestion = "remove the key, or write [] for none"
		}
		f.fail(key, suggestion, "expected a list, got %s", describe(n))
		return nil
	}
	return n.Content
}

// item is the path of one item of a list.
func (f *fields) item(key string, i int) string { return fmt.Sprintf("%s[%d]", f.key(key), i) }

// key is the path of a key of f.
func (f *fields) key(name string) string {
	if f.path == "" {
		return shorten(name)
	}
	return f.path + "." + shorten(name)
}

// fail reports a mistake in the value of a key, at the mapping if it is absent.
func (f *fields) fail(key, suggestion, format string, args ...any) {
	n := f.value[key]
	if n == nil {
		n = f.node
	}
	f.broken[key] = true
	f.d.fail(n, f.key(key), suggestion, format, args...)
}

// raw shows the value of a key as the file has it, without the values of variables.
func (f *fields) raw(key string) string { return quote(f.value[key].Value) }

// scalar returns the text of a value, which must have the type of that tag ("!!str" ...) unless it holds a variable.
// It returns false if the key is absent or wrong.
func (f *fields) scalar(key, tag, expected string) (string, bool) {
	n := f.value[key]
	if n == nil {
		return "", false
	}
	if n.Kind != yaml.ScalarNode {
		f.fail(key, "", "expected %s, got %s", expected, describe(n))
		return "", false
	}
	text, isExpanded, ok := f.expand(key, n)
	if !ok {
		return "", false
	}
	if n.Tag != tag && !isExpanded {
		suggestion := ""
		switch {
		case n.Tag == "!!null":
			suggestion = "give it a value or remove the key"
		case tag == "!!str":
			suggestion = "put it in quotes"
		case n.Tag == "!!str" && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
			suggestion = "remove the quotes"
		}
		f.fail(key, suggestion, "expected %s, got %s", expected, describe(n))
		return "", false
	}
	return text, true
}

// expand replaces ${NAME} by the variable's value and $$ by $. What a variable holds is not expanded again.
func (f *fields) expand(key string, n *yaml.Node) (text string, isExpanded, ok bool) {
	const literal = `write $$ for a literal "$"`
	rest := n.Value
	var b strings.Builder
	for {
		before, after, found := strings.Cut(rest, "$")
		b.WriteString(before)
		if !found {
			return b.String(), isExpanded, true
		}
		if strings.HasPrefix(after, "$") {
			b.WriteByte('$')
			rest = after[1:]
			continue
		}
		name, tail, closed := strings.Cut(strings.TrimPrefix(after, "{"), "}")
		switch {
		case !strings.HasPrefix(after, "{"):
			f.fail(key, "write ${NAME} for a variable, $$ for a literal \"$\"", `a single "$"`)
			return "", false, false
		case !closed:
			f.fail(key, literal, `"${" without "}"`)
			return "", false, false
		case !isVariable(name):
			f.fail(key, literal, "%s is no name of an environment variable", quote(name))
			return "", false, false
		}
		value, isSet := f.d.lookup(name)
		switch {
		case !isSet:
			f.fail(key, "set it, or "+literal, "environment variable %s is not set", shorten(name))
			return "", false, false
		case !utf8.ValidString(value):
			f.fail(key, "", "the value of environment variable %s is not UTF-8", shorten(name))
			return "", false, false
		}
		b.WriteString(value)
		isExpanded, rest = true, tail
	}
}

// isVariable reports whether s may name an environment variable (POSIX, with lower case).
func isVariable(s string) bool {
	return isWord(s, 255, func(c byte) bool { return isAlphanumeric(c) || c == '_' }) && (s[0] < '0' || s[0] > '9')
}

// shorten cuts what is shown without quotes.
func shorten(s string) string {
	q := quote(s)
	return q[1 : len(q)-1]
}

// text returns a string that passes check, which says what is wrong otherwise. An absent key gives fallback.
func (f *fields) text(key, fallback string, check func(string) (wrong string)) string {
	s, ok := f.scalar(key, "!!str", "a string")
	if !ok {
		return fallback
	}
	if wrong := check(s); wrong != "" {
		f.fail(key, "", "%s", wrong)
		return fallback
	}
	return s
}

// word returns a string that isAllowed accepts; rule describes which those are.
func (f *fields) word(key, fallback, rule string, isAllowed func(string) bool) string {
	return f.text(key, fallback, func(s string) string {
		if isAllowed(s) {
			return ""
		}
		return f.raw(key) + " is not allowed here: expected " + rule
	})
}

// enum returns one of a few words, or "" after a mistake.
func (f *fields) enum(key, fallback string, known []string) string {
	s, ok := f.scalar(key, "!!str", list(known))
	switch {
	case f.broken[key]:
		return ""
	case !ok:
		return fallback
	case !slices.Contains(known, s):
		suggestion, _ := suggest(f.value[key].Value, known)
		f.fail(key, suggestion, "%s is not allowed here", f.raw(key))
		return ""
	}
	return s
}

func (f *fields) boolean(key string) bool {
	s, ok := f.scalar(key, "!!bool", "true or false")
	switch {
	case ok && strings.EqualFold(s, "true"):
		return true
	case ok && !strings.EqualFold(s, "false"):
		f.fail(key, "", "expected true or false, got %s", f.raw(key))
	}
	return false
}

func (f *fields) integer(key string, fallback int) int {
	s, ok := f.scalar(key, "!!int", "an integer")
	if !ok {
		return fallback
	}
	v, ok := parseInt(s)
	if !ok {
		f.fail(key, "", "expected an integer in plain decimal, got %s", f.raw(key))
		return fallback
	}
	return int(v)
}

// parseInt reads a decimal integer with perhaps a sign and underscores. Leading zeros, which some read as octal, and
// other bases are refused.
func parseInt(s string) (int64, bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || digits[0] < '0' || digits[0] > '9' || (digits[0] == '0' && len(digits) > 1) {
		return 0, false
	}
	v, err := strconv.ParseInt(strings.ReplaceAll(s, "_", ""), 10, 64)
	return v, err == nil
}

// size returns a number of bytes.
func (f *fields) size(key string, fallback int64) int64 {
	tag := "!!str"
	if n := f.value[key]; n != nil && n.Tag == "!!int" {
		tag = n.Tag
	}
	s, ok := f.scalar(key, tag, "a size")
	if !ok {
		return fallback
	}
	v, ok := parseSize(s)
	if !ok {
		f.fail(key, "write 65536, 64KiB, 1MiB or 4GiB", "expected a size, got %s", f.raw(key))
		return fallback
	}
	return v
}

// duration returns a time span in nanoseconds.
func (f *fields) duration(key string, fallback int64) int64 {
	if n := f.value[key]; n != nil && n.Tag == "!!int" {
		f.fail(key, "write "+shorten(n.Value)+"s for seconds", "expected a duration with its unit, got an integer")
		return fallback
	}
	s, ok := f.scalar(key, "!!str", "a duration")
	if !ok {
		return fallback
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		f.fail(key, "write 500ms, 30s or 24h", "expected a duration, got %s", f.raw(key))
		return fallback
	}
	return int64(v)
}

// file returns a path as the file has it.
func (f *fields) file(key string) string {
	return f.text(key, "", func(s string) string {
		switch {
		case s == "":
			return "the path is empty"
		case strings.ContainsRune(s, 0):
			return "the path contains a zero byte"
		case s == "~" || strings.HasPrefix(s, "~/"):
			return "~ is not expanded, write ${HOME}"
		}
		return ""
	})
}

// absolute makes a path of the file absolute; "" stays "".
func (d *decoder) absolute(path string) string {
	switch {
	case path == "":
		return ""
	case filepath.IsAbs(path):
		return filepath.Clean(path)
	default:
		return filepath.Join(d.dir, path)
	}
}
