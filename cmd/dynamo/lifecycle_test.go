package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLifecycleCommands(t *testing.T) {
	n := newNode(t, map[string]http.HandlerFunc{
		"GET /v1/conflicts/ks":                    says(`{"conflicts":[{"key":"a\u001b","count":3,"age_seconds":61.2,"why":"trap","detail":"x"},{"key_base64":"/w==","count":2,"age_seconds":0,"merged":"feed"}],"next":"b","unheard":["n3"]}`),
		"POST /v1/keyspaces/ks/resolver/release":  says(`{"released":["n1"],"unheard":["n2"]}`),
		"POST /v1/keyspaces/ks/resolver/shadow":   says(`{"sha256":"ab","nodes":["n1"]}`),
		"GET /v1/keyspaces/ks/resolver/shadow":    says(`{"calls":4,"equal":3,"different":1,"equal_share":0.75,"nodes":{"n1":{"sha256":"abcdabcdabcdabcd","examples":[{"key_base64":"aw==","siblings":2,"active":{"status":"value","value_base64":"YQ=="},"candidate":{"status":"error","error":"trap"}}]}}}`),
		"DELETE /v1/keyspaces/ks/resolver/shadow": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"POST /v1/keyspaces/ks/resolver/promote":  says(`{"sha256":"ab","version":7,"check":{"outcome":"lawful"}}`),
		"PUT /v1/keyspaces/ks/resolver":           says(`{"sha256":"feed","version":0,"abi":"v1","size":1,"check":{"outcome":"lawful"}}`),
		"GET /v1/keyspaces/ks/resolver":           says(`{"active":null,"history":[],"quarantine":{"since":"2026-01-02T03:04:05Z","code":"trap","reason":"20 in a row"}}`),
	})
	dir := t.TempDir()
	for name, content := range map[string]string{"m.wasm": "m", "c.js": "the config"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	module, config := filepath.Join(dir, "m.wasm"), filepath.Join(dir, "c.js")
	for _, c := range []struct {
		args        string
		code        int
		asked, body string
		out         string
	}{
		{"conflicts ks --unmerged --after a --limit 7", 0, "GET /v1/conflicts/ks?after=a&limit=7&unmerged=true", "", `"a\x1b"   3          1m1s   trap`},
		{"conflicts ks", 0, "GET /v1/conflicts/ks?limit=100", "", `"\xff"    2          0s     merged`},
		{"conflicts ks -o json", 0, "GET /v1/conflicts/ks?limit=100", "", `"unheard"`},
		{"conflicts ks --limit 0", 2, "", "", ""},
		{"release ks", 0, "POST /v1/keyspaces/ks/resolver/release", "", "released on [n1]"},
		{"show ks", 0, "GET /v1/keyspaces/ks/resolver", "", "QUARANTINED on this node since 2026-01-02T03:04:05Z: 20 in a row"},
		{"upload ks " + module + " --no-activate", 0, "PUT /v1/keyspaces/ks/resolver?activate=false&check=strict", "m", "feed"},
		{"upload ks " + module + " --config " + config, 0, "PUT /v1/keyspaces/ks/resolver?check=strict", "the config", "feed"},
		{"shadow ks ab", 0, "POST /v1/keyspaces/ks/resolver/shadow", `{"sha256":"ab"}`, "running on [n1]"},
		{"shadow ks", 0, "GET /v1/keyspaces/ks/resolver/shadow", "", `"k": active value "a", candidate error "trap"`},
		{"shadow ks --stop", 0, "DELETE /v1/keyspaces/ks/resolver/shadow", "", ""},
		{"shadow ks ab --stop", 2, "", "", ""},
		{"promote ks --check warn", 0, "POST /v1/keyspaces/ks/resolver/promote?check=warn", "", "version  7"},
		{"promote ks ab", 0, "POST /v1/keyspaces/ks/resolver/promote?check=strict", `{"sha256":"ab"}`, "version  7"},
		{"upload ks --builtin lww --config " + config, 2, "", "", ""},
	} {
		n.asked, n.body = "", ""
		code, out, errs := n.ask(t, append([]string{"resolver"}, strings.Fields(c.args)...)...)
		if code != c.code || n.asked != c.asked || !strings.Contains(n.body, c.body) || !strings.Contains(out, c.out) {
			t.Errorf("%s: exit %d, asked %q %q\n%s%s", c.args, code, n.asked, n.body, out, errs)
		}
	}
}
