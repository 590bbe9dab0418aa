package resolver

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"dynamo/resolver/hostile"
)

func rss(t *testing.T, what string) int {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), what+":")
	var n int
	fmt.Sscan(after, &n)
	return n >> 10
}

func TestProbe(t *testing.T) {
	l := DefaultLimits()
	l.Timeout = 20 * time.Second
	r := newRuntime(t, l)
	for _, a := range hostile.Attacks() {
		if a.Refused != "" {
			continue
		}
		m, err := r.Load(t.Context(), a.Module, a.Config)
		if err != nil {
			t.Fatal(err)
		}
		debug.FreeOSMemory()
		os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o600)
		before := rss(t, "VmRSS")
		var took time.Duration
		for i := range 5 {
			begin := time.Now()
			m.Merge(t.Context(), twoSiblings(), 100)
			if i == 1 {
				took = time.Since(begin)
			}
		}
		if n := rss(t, "VmHWM") - before; n > 10 {
			t.Logf("%s: %v %d MB now %d", a.Name, took, n, rss(t, "VmRSS")-before)
		}
		m.Close(t.Context())
	}
}
