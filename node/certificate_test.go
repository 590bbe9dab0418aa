package node

import (
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"dynamo/node/store"
	"dynamo/resolver/laws"
)

// TestCertificateKeepsEvidence: what a check found is there later, cut to its bound.
func TestCertificateKeepsEvidence(t *testing.T) {
	s, err := store.Open(store.Options{Dir: t.TempDir(), Rand: rand.Reader, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	n := &Node{o: Options{Seams: Seams{Now: time.Now}}, log: slog.New(slog.DiscardHandler), store: s}
	id := [32]byte{1}
	if c := n.certificate(id); c != nil {
		t.Fatalf("a certificate out of nothing: %s", c)
	}
	if err := n.forgetCertificate(id); err != nil {
		t.Fatal(err)
	}
	big := []byte(strings.Repeat("x", 50<<10))
	var evidence []laws.Equation
	for range 16 {
		evidence = append(evidence, laws.Equation{Law: "commutative", Inputs: [][]byte{big}, Outputs: [2][]byte{big, big}})
	}
	n.certify(id, laws.Report{Outcome: laws.Lawful, Tested: 16, Evidence: evidence}, true)
	var got certificate
	if err := json.Unmarshal(n.certificate(id), &got); err != nil {
		t.Fatal(err)
	}
	if got.Outcome != laws.Lawful || got.Tested != 16 || !got.Live || len(got.Evidence) == 0 || len(got.Evidence) == 16 {
		t.Fatalf("outcome %s, tested %d, live %t, %d equations", got.Outcome, got.Tested, got.Live, len(got.Evidence))
	}
	for range 2 {
		if err := n.forgetCertificate(id); err != nil || n.certificate(id) != nil {
			t.Fatalf("still there: %v", err)
		}
	}
}
