package sim

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"dynamo/node/config"
	"dynamo/node/coordinator"
)

// eventually waits, on virtual time, until f is content.
func eventually(t *testing.T, limit time.Duration, what string, f func() error) {
	t.Helper()
	start := time.Now()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Since(start) > limit {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// setFree makes the disk of a node say how much is left of it.
func setFree(c *Cluster, id string, mib uint64) {
	const total = 1 << 30
	c.disks[id].TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: mib << 20, TotalBytes: total, UsedBytes: total - mib<<20})
}

// A full node is passed over by every coordinator, itself included; its hints wait at a fallback.
func TestFullDisk(t *testing.T) {
	inBubble(t, 5, 7, func(t *testing.T, ctx context.Context, c *Cluster) {
		ids := []string{"n1", "n2", "n3", "n4", "n5"}
		for _, id := range ids { // the guard looks for figures when the disk is opened
			if err := c.Stop(ctx, id); err != nil {
				t.Fatal(err)
			}
			setFree(c, id, 500)
		}
		if err := c.StartAll(ctx); err != nil {
			t.Fatal(err)
		}
		setFree(c, "n1", 10)
		time.Sleep(time.Second)
		all := coordinator.Options{W: coordinator.QuorumAll}
		for i := range 20 {
			put(t, ctx, c, ids[i%5], "notes", fmt.Sprint(i), "v", "", all)
		}
		if _, err := write(ctx, c, "n2", "notes", "strict", "v", "", coordinator.Options{W: coordinator.QuorumAll, PrimariesOnly: true}); err == nil {
			loc, lerr := c.Node("n2").Requests().Locate("notes", []byte("strict"))
			if lerr != nil || strings.Contains(fmt.Sprint(loc.PreferenceList[:3]), "n1") {
				t.Errorf("a full primary acknowledged (%v)", lerr)
			}
		}
		for _, id := range ids {
			setFree(c, id, 10)
		}
		time.Sleep(time.Second)
		for _, id := range ids {
			if _, err := write(ctx, c, id, "notes", "none", "v", "", coordinator.Options{}); !isCode(err, coordinator.CodeDiskFull) {
				t.Errorf("with all disks full, via %s: %v", id, err)
			}
			if a := get(t, ctx, c, id, "notes", "3", coordinator.Options{}); a.Value == nil || string(a.Value.Bytes) != "v" {
				t.Errorf("read via %s: %+v", id, a)
			}
		}
		for _, id := range ids {
			setFree(c, id, 500)
		}
		eventually(t, 10*time.Second, "every node takes writes", func() error {
			for _, id := range ids {
				if _, err := write(ctx, c, id, "notes", "back", "v", "", all); err != nil {
					return err
				}
			}
			return nil
		})
	}, keyspace("notes", config.PolicyLWW))
}

// damage flips one bit in the middle of every table of a node that is down and reports how many there are.
func damage(t *testing.T, c *Cluster, id string) int {
	t.Helper()
	disk, dir := c.disks[id], "/"+id+"/db"
	names, err := disk.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		f, err := disk.Open(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err != nil || f.Close() != nil {
			t.Fatal(err)
		}
		at := bytes.Index(b, []byte("unique words"))
		if at < 0 {
			continue
		}
		b[at] ^= 1
		w, err := disk.Create(dir+"/"+name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil || w.Sync() != nil || w.Close() != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// A node that cannot read its copy refills it from the others, without a client that writes.
func TestCorruptRecordIsRefilled(t *testing.T) {
	inBubble(t, 3, 8, func(t *testing.T, ctx context.Context, c *Cluster) {
		// Long and without a pattern, so that it is stored as it is, in a block without metadata.
		source := rand.NewChaCha8([32]byte{1})
		noise := make([]byte, 10_000)
		for i := range 40 {
			_, _ = source.Read(noise) // never fails
			put(t, ctx, c, "n2", "notes", fmt.Sprint("other", i), string(noise), "", coordinator.Options{W: coordinator.QuorumAll})
		}
		value := "unique words" + string(noise)
		put(t, ctx, c, "n2", "notes", "k", value, "", coordinator.Options{W: coordinator.QuorumAll})
		if err := c.Stop(ctx, "n1"); err != nil {
			t.Fatal(err)
		}
		if damage(t, c, "n1") != 1 {
			t.Fatal("the value is not in one table")
		}
		if err := c.Start(ctx, "n1"); err != nil {
			t.Fatal(err)
		}
		// Alone, the node has no answer, and never says that the key is not there.
		c.Cut([]string{"n1"}, []string{"n2", "n3"})
		for range 5 {
			short, cancel := context.WithTimeout(ctx, 2*time.Second)
			a, err := c.Node("n1").Requests().Get(short, coordinator.ReadRequest{Keyspace: "notes", Key: []byte("k"), Options: coordinator.Options{R: 1}})
			cancel()
			if err == nil {
				t.Fatalf("n1 answers %+v for a record that it cannot read", a)
			}
		}
		c.Heal()
		eventually(t, 30*time.Second, "n1 can read its copy again", func() error {
			short, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			a, err := c.Node("n1").Requests().Get(short, coordinator.ReadRequest{Keyspace: "notes", Key: []byte("k"), Options: coordinator.Options{R: coordinator.QuorumAll}})
			if err == nil && (a.Value == nil || string(a.Value.Bytes) != value) {
				t.Fatalf("%+v", a)
			}
			return err
		})
		// A compaction may have met the table meanwhile. It cannot read it, and the node will not go on with that for long.
		if err := c.Stop(ctx, "n1"); err != nil && !strings.Contains(err.Error(), "cannot be read whole") {
			t.Fatal(err)
		}
	}, keyspace("notes", config.PolicySiblings))
}
