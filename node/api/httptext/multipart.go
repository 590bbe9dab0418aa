package httptext

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strings"
)

// IsMultipart reports whether a Content-Type says multipart/form-data or multipart/mixed.
func IsMultipart(contentType string) bool {
	m := MediaType(contentType)
	return m == "multipart/form-data" || m == "multipart/mixed"
}

// ModuleParts takes a multipart body apart: the part "module", and the part "config" if there is one. The parts are
// copies.
func ModuleParts(contentType string, body []byte) (module, config []byte, err error) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, nil, fmt.Errorf("Content-Type: %w", err)
	}
	r := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	parts := make(map[string][]byte)
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("multipart body: %w", err)
		}
		name := p.FormName()
		if name == "" {
			name = nameOf(p.Header.Get("Content-Disposition"))
		}
		if _, twice := parts[name]; twice || name != "module" && name != "config" {
			return nil, nil, fmt.Errorf("a part named %q: one part is to be module, another may be config", name)
		}
		if parts[name], err = io.ReadAll(p); err != nil {
			return nil, nil, fmt.Errorf("multipart body: %w", err)
		}
	}
	if len(parts["module"]) == 0 {
		return nil, nil, errors.New("no part named module, or an empty one")
	}
	return parts["module"], parts["config"], nil
}

// nameOf is the name in a Content-Disposition of any kind.
func nameOf(disposition string) string {
	_, params, err := mime.ParseMediaType(disposition)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(params["name"])
}
