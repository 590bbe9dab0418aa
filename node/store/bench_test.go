package store

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

func BenchmarkUpdateSync(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := mustOpen(b, Options{Dir: b.TempDir(), Rand: seeded(1), Now: time.Now})
			value := strings.Repeat("v", 256)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range writers {
				n := b.N / writers
				if w < b.N%writers {
					n++
				}
				wg.Go(func() {
					for i := range n {
						if _, err := s.Update(b.Context(), own(0, 1, fmt.Sprint(w, i%1000)), Sync, write(value)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s := mustOpen(b, Options{Dir: b.TempDir(), Rand: seeded(1), Now: time.Now})
	const keys = 100_000
	value := strings.Repeat("v", 256)
	for i := range keys {
		mustUpdate(b, s, own(0, 1, numbered(i)), Buffered, write(value))
	}
	if err := s.db.Flush(); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		shift int
	}{{"hit", 0}, {"miss", keys}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if _, err := s.Get(own(0, 1, numbered(rand.IntN(keys)+c.shift))); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
