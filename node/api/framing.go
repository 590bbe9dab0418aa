package api

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"
)

// framing is how a request's headers announce its body.
type framing struct {
	// length is the declared length in bytes, -1 for a chunked body.
	length int
	// expects says that the client waits for "100 Continue".
	expects bool
}

func (f framing) hasBody() bool { return f.length != 0 }

// framingOf reads the raw header block, for the parsed one no longer shows a Content-Length that stood
// beside a Transfer-Encoding, nor what headerReceived has changed. Two readings of where a body ends are how requests are smuggled, so
// whatever could be read twice is refused (RFC 9112, sections 5.2 and 6.3).
func framingOf(h *fasthttp.RequestHeader) (framing, error) {
	f, hasLength, coding := framing{expects: len(h.Peek("Expect")) > 0}, false, ""
	for line := range bytes.Lines(h.RawHeaders()) {
		if line[0] == ' ' || line[0] == '\t' {
			return framing{}, badRequest("a header is folded over several lines")
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			n, err := parseNumber(strings.TrimSpace(string(value)))
			if err != nil {
				return framing{}, badRequest("Content-Length is not a number of bytes, or a very large one")
			}
			f.length, hasLength = n, true
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			coding += strings.TrimSpace(string(value)) + ","
		}
	}
	switch {
	case hasLength && coding != "":
		return framing{}, badRequest("Content-Length and Transfer-Encoding exclude each other")
	case coding != "" && !strings.EqualFold(coding, "chunked,"):
		return framing{}, badRequest("the one known Transfer-Encoding is chunked")
	}
	if coding != "" {
		f.length = -1
	}
	return f, nil
}
