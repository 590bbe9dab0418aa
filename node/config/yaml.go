package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// maxFileBytes bounds a cluster file; a thousand nodes take a tenth of it.
const maxFileBytes = 1 << 20

// readYAML returns the root of the one YAML document in data, made of plain mappings, lists and scalars only, or nil
// after having reported why not.
func readYAML(data []byte, r *report) *yaml.Node {
	if len(data) > maxFileBytes {
		r.add(&Error{Line: 1, Column: 1, Message: fmt.Sprintf("the file is larger than %s", formatSize(maxFileBytes))})
		return nil
	}
	if e := checkText(data); e != nil {
		r.add(e)
		return nil
	}
	data = maskVariables(data)
	d := yaml.NewDecoder(bytes.NewReader(data))
	var root, second yaml.Node
	switch err := decodeNode(d, &root); {
	case errors.Is(err, io.EOF):
		r.add(&Error{Line: 1, Column: 1, Message: "the file is empty"})
		return nil
	case err != nil:
		r.add(syntaxError(data, err))
		return nil
	}
	unmaskVariables(&root)
	checkPlain(&root, r)
	switch err := decodeNode(d, &second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		r.add(syntaxError(data, err))
	default:
		r.add(&Error{
			Line: second.Line, Column: second.Column,
			Message: "a second YAML document begins here", Suggestion: "one file describes one cluster; remove the ---",
		})
	}
	if r.count > 0 || len(root.Content) != 1 {
		return nil
	}
	return root.Content[0]
}

// The braces of ${NAME} while YAML is parsed: within {...} and [...] braces would end a value that has no quotes. The
// characters are of a private use area and as many as they stand for, so that columns stay right; checkText refuses them in a file.
const (
	maskedOpen  = '\uE000'
	maskedClose = '\uE001'
)

// maskVariables hides the braces of what looks like a variable.
func maskVariables(data []byte) []byte {
	return regexp.MustCompile(`\$\{([^{}\s"']*)\}`).ReplaceAll(data, []byte("$$"+string(maskedOpen)+"${1}"+string(maskedClose)))
}

// unmask shows the braces again.
func unmask(s string) string {
	return strings.NewReplacer(string(maskedOpen), "{", string(maskedClose), "}").Replace(s)
}

func unmaskVariables(n *yaml.Node) {
	if strings.ContainsRune(n.Value, maskedOpen) {
		n.Value = unmask(n.Value)
	}
	for _, child := range n.Content {
		unmaskVariables(child)
	}
}

// decodeNode is d.Decode without its panics: the parser of the yaml package reports some malformed inputs that way,
// and a file must not be able to stop the process.
func decodeNode(d *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: %v", p)
		}
	}()
	return d.Decode(n)
}

// checkText refuses what is no text, because the YAML parser would do so without a position. It accepts the printable
// characters of YAML 1.2, section 5.1.
func checkText(data []byte) *Error {
	line, column := 1, 1
	for i := 0; i < len(data); {
		c, width := utf8.DecodeRune(data[i:])
		switch {
		case c == utf8.RuneError && width == 1:
			return &Error{Line: line, Column: column, Message: fmt.Sprintf("byte 0x%02x is not UTF-8", data[i])}
		case !isPrintable(c) && (c != '\uFEFF' || i > 0):
			return &Error{Line: line, Column: column, Message: fmt.Sprintf("control character %U", c)}
		case c == maskedOpen || c == maskedClose:
			return &Error{Line: line, Column: column, Message: fmt.Sprintf("private use character %U", c)}
		case c == '\n':
			line, column = line+1, 0
		}
		column++
		i += width
	}
	return nil
}

func isPrintable(c rune) bool {
	switch {
	case c == '\t', c == '\n', c == '\r', c == 0x85:
		return true
	case c < 0x20, 0x7f <= c && c < 0xa0, c == 0xfeff, c == 0xfffe, c == 0xffff:
		return false
	}
	return true
}

// syntaxError gives an error of the yaml package a position as exact as it tells.
func syntaxError(data []byte, err error) *Error {
	e := &Error{Line: 1, Column: 1}
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(message); m != nil {
		message = message[len(m[0]):]
		if line, err := strconv.Atoi(m[1]); err == nil {
			e.Line = line
		}
		if strings.HasPrefix(message, "did not find expected") {
			e.Line++ // errors of the grammar, unlike those of the scanner, count from 0
		}
	}
	// A line beyond the last one is the end of the file.
	e.Line = min(e.Line, 1+bytes.Count(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")))
	if m := regexp.MustCompile(`^unknown anchor '(.*)' referenced$`).FindStringSubmatch(message); m != nil {
		if at := bytes.Index(data, []byte("*"+m[1])); at >= 0 {
			e.Line = 1 + bytes.Count(data[:at], []byte("\n"))
			e.Column = 1 + utf8.RuneCount(data[1+bytes.LastIndexByte(data[:at], '\n'):at])
		}
		e.Message, e.Suggestion = "aliases are not allowed", "write the value out, or quote it if it begins with *"
		return e
	}
	e.Message = "not valid YAML here or in what begins here: " + shorten(unmask(message))
	switch {
	case strings.Contains(message, "tab character"):
		e.Suggestion = "indent with spaces, not tabs"
	case strings.Contains(message, "cannot start any token"):
		e.Suggestion = "indent with spaces, not tabs, and quote values that begin with @, ` or %"
	case strings.Contains(message, "mapping values are not allowed"):
		e.Suggestion = "check the indentation, and quote values that contain \": \""
	}
	return e
}

// checkPlain refuses what makes a file mean something else than it shows: anchors, aliases, merge keys and tags.
func checkPlain(n *yaml.Node, r *report) {
	fail := func(what, suggestion string) {
		r.add(&Error{Line: n.Line, Column: n.Column, Message: what + " are not allowed", Suggestion: suggestion})
	}
	switch {
	case n.Kind == yaml.AliasNode:
		fail("aliases", "write the value out, or quote it if it begins with *")
		return // what it stands for is checked where it is
	case n.Anchor != "":
		fail("anchors", "remove it, or quote the value if it begins with &")
	case n.Style&yaml.TaggedStyle != 0:
		fail("tags", "remove it, or quote the value if it begins with !")
	case n.Kind == yaml.ScalarNode && n.Tag == "!!merge":
		fail("merge keys", "write the values out")
	}
	for _, child := range n.Content {
		checkPlain(child, r)
	}
}

// describe names the type of a value for people.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!null":
		return "nothing"
	case "!!int":
		return "an integer"
	case "!!float":
		return "a decimal number"
	case "!!bool":
		return "a boolean"
	case "!!timestamp":
		return "a date"
	default:
		return "a string"
	}
}
