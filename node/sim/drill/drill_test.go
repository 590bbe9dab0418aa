package drill

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds = flag.Uint64("drill.seeds", 3, "how many times each drill is played")
	first = flag.Uint64("drill.first", 1, "the first seed")
)

// TestDrills plays all of them on the node as it is: every promise holds.
func TestDrills(t *testing.T) {
	for _, d := range All() {
		for seed := *first; seed < *first+*seeds; seed++ {
			t.Run(fmt.Sprint(d.Name, "/", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					broken, err := d.Run(t.Context(), Options{
						Seed: seed, Logger: slog.New(slog.DiscardHandler), Now: time.Now, ModuleCache: filepath.Join(os.TempDir(), "dynamo-test-modules"),
					})
					if err != nil {
						t.Fatal(err)
					}
					for _, b := range broken {
						t.Errorf("%s: %s", d.Promise, b)
					}
				})
			})
		}
	}
}
