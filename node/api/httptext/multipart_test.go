package httptext

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func parts(named ...string) string {
	var b strings.Builder
	for i := 0; i < len(named); i += 2 {
		fmt.Fprintf(&b, "--x\r\nContent-Disposition: form-data; name=%q; filename=f\r\n\r\n%s\r\n", named[i], named[i+1])
	}
	return b.String() + "--x--\r\n"
}

func TestModuleParts(t *testing.T) {
	const form = `multipart/form-data; boundary=x`
	for _, c := range []struct {
		contentType, body, module, config string
		ok                                bool
	}{
		{form, parts("module", "\x00asm\r\n--", "config", "c"), "\x00asm\r\n--", "c", true},
		{form, parts("config", "c", "module", "m"), "m", "c", true},
		{"Multipart/Mixed; boundary=x", parts("module", "m"), "m", "", true},
		{form, parts("module", "m", "config", ""), "m", "", true},
		{form, parts("config", "c"), "", "", false},
		{form, parts("module", ""), "", "", false},
		{form, parts("module", "m", "module", "n"), "", "", false},
		{form, parts("module", "m", "other", "n"), "", "", false},
		{form, parts("module", "m")[:40], "", "", false},
		{form, "", "", "", false},
		{"multipart/form-data", parts("module", "m"), "", "", false},
		{"multipart/form-data; boundary", parts("module", "m"), "", "", false},
	} {
		module, config, err := ModuleParts(c.contentType, []byte(c.body))
		if string(module) != c.module || string(config) != c.config || (err == nil) != c.ok {
			t.Errorf("%s %q: %q %q %v", c.contentType, c.body, module, config, err)
		}
	}
}

func FuzzModuleParts(f *testing.F) {
	f.Add("multipart/form-data; boundary=x", []byte(parts("module", "m", "config", "c")))
	f.Add("multipart/mixed; boundary=\"\"", []byte("--"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		module, config, err := ModuleParts(contentType, body)
		if err == nil && (len(module) == 0 || !bytes.Contains(body, module) || !bytes.Contains(body, config)) {
			t.Fatalf("%q %q: %q %q", contentType, body, module, config)
		}
	})
}
