package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dynamo/client"
)

// edit changes the cluster file before any node starts.
func (p *processes) edit(from, to string) {
	p.t.Helper()
	b, err := os.ReadFile(p.file)
	if err != nil {
		p.t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(from)) {
		p.t.Fatalf("no %q in the cluster file", from)
	}
	if err := os.WriteFile(p.file, bytes.Replace(b, []byte(from), []byte(to), 1), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// smallDisk mounts a small file system for a node's data. Where that is not allowed it says false.
func (p *processes) smallDisk(id, size string) (dir string, ok bool) {
	p.t.Helper()
	dir = filepath.Join(filepath.Dir(p.file), "data", id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		p.t.Logf("no small disk for the node (%v)", err)
		return dir, false
	}
	p.t.Cleanup(func() {
		if p.running[id] != nil {
			p.kill(id)
		}
		if err := syscall.Unmount(dir, 0); err != nil {
			p.t.Error(err)
		}
	})
	return dir, true
}

func free(t *testing.T, dir string) int64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

func total(t *testing.T, dir string) int64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks) * st.Bsize
}

// filler takes all but so many bytes of the disk.
func filler(t *testing.T, dir string, leave int64) (remove func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	remove = func() { _ = os.Remove(path) } // removed already, in some tests
	t.Cleanup(remove)
	if n := free(t, dir) - leave; n > 0 {
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return remove
}

func (p *processes) metric(id, name string) string {
	p.t.Helper()
	r, err := p.via(id).Do(p.t.Context(), client.Request{Method: http.MethodGet, Path: "/metrics"})
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(r.Body), "\n") {
		if v, ok := strings.CutPrefix(line, "dynamo_"+name+" "); ok {
			return v
		}
	}
	return ""
}

func isDiskFull(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && e.Status == http.StatusInsufficientStorage && e.Code == "disk_full"
}

// once writes without the client's own retries.
func (p *processes) once(id, key string, o client.CallOptions) error {
	ctx, cancel := context.WithTimeout(p.t.Context(), 3*time.Second)
	defer cancel()
	_, err := p.via(id).Put(ctx, "notes", key, []byte("v"), o)
	return err
}

// TestFullDisk fills the disk of one node of three: every node goes on taking writes, for the others do,
// the full one goes on reading, and it takes writes again once there is space.
func TestFullDisk(t *testing.T) {
	p := newProcesses(t, 3)
	dir, small := p.smallDisk("n1", "256m") // two logs of 35 MiB each are preallocated
	limits := "limits: {min_free_bytes: 16MiB, min_free_percent: 50}\n"
	leave := int64(12 << 20)
	if !small {
		// The disk that the test runs on is full for a node that is told to leave nearly all of it free.
		mark := min(free(t, dir)-4<<30, total(t, dir)/100*50)
		limits = fmt.Sprintf("limits: {min_free_bytes: %d, min_free_percent: 50}\n", mark)
		leave = mark - 1<<30
	}
	p.edit("keyspaces:", limits+"keyspaces:")
	p.start(p.ids...)
	p.ready(p.ids...)
	for i := range 30 {
		p.put(p.ids[i%3], "notes", fmt.Sprint("before", i), "v", client.CallOptions{})
	}
	remove := filler(t, dir, leave)
	until(t, 5*time.Second, "n1 shows that its disk is full", func() error {
		if v := p.metric("n1", "disk_full"); v != "1" {
			return fmt.Errorf("disk_full is %q", v)
		}
		return nil
	})
	if small {
		p.worksAround(t)
	} else {
		until(t, 5*time.Second, "507 with every disk full", func() error {
			if err := p.once("n1", "all are full", client.CallOptions{}); !isDiskFull(err) {
				return fmt.Errorf("answer: %v", err)
			}
			return nil
		})
	}
	remove()
	attempts := 0
	took := until(t, 10*time.Second, "n1 takes writes", func() error {
		attempts++ // another key each time: what W=all refuses may be on the others, as a sibling of the next
		return p.once("n1", fmt.Sprint("after", attempts), client.CallOptions{W: "all"})
	})
	t.Logf("all replicas take writes %v after there was space", took)
	if v := p.metric("n1", "disk_full"); v != "0" {
		t.Errorf("n1 took a write with disk_full %q", v)
	}
	for i := range 30 {
		if !small {
			break // nothing was written while all disks were full
		}
		until(t, 10*time.Second, "all replicas have what was written meanwhile", func() error {
			v, err := p.via("n1").Get(t.Context(), "notes", fmt.Sprint("during", i), client.CallOptions{R: "all"})
			if err == nil && string(v.Bytes) != "v" {
				err = fmt.Errorf("%+v", v)
			}
			return err
		})
	}
	if err := p.stop("n1"); err != nil {
		t.Errorf("n1 did not stop in good order: %v", err)
	}
}

// worksAround is what a cluster does while the disk of n1 is full.
func (p *processes) worksAround(t *testing.T) {
	for i := range 30 {
		p.put(p.ids[i%3], "notes", fmt.Sprint("during", i), "v", client.CallOptions{})
	}
	for i := range 30 {
		if v := p.get("n1", "notes", fmt.Sprint("before", i), client.CallOptions{R: "all"}); string(v.Bytes) != "v" {
			t.Errorf("before%d via n1: %+v", i, v)
		}
		if v := p.get("n1", "notes", fmt.Sprint("during", i), client.CallOptions{}); string(v.Bytes) != "v" {
			t.Errorf("during%d via n1: %+v", i, v)
		}
	}
	if p.metric("n1", "disk_full_refused_total") == "0" {
		t.Error("n1 refused nothing")
	}
	r, err := http.Get(p.urls["n1"] + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	if _ = r.Body.Close(); r.StatusCode != http.StatusOK {
		t.Errorf("readyz of the full node: %d", r.StatusCode)
	}
	// With nobody to turn to, the client hears the reason.
	attempts := 0
	p.cut("n1", "n2", "n3")
	until(t, 10*time.Second, "507 from a full node that is alone", func() error {
		if err := p.once("n1", "alone", client.CallOptions{W: "1"}); !isDiskFull(err) {
			return fmt.Errorf("answer: %v", err)
		}
		return nil
	})
	p.cut("n1")
	until(t, 10*time.Second, "n1 finds the others again", func() error {
		attempts++
		return p.once("n1", fmt.Sprint("again", attempts), client.CallOptions{})
	})
}

// TestLogWithoutSpace turns the guard off and fills the disk: the node must stop, loudly, and must not
// have acknowledged what is not there after the restart.
func TestLogWithoutSpace(t *testing.T) {
	p := newProcesses(t, 3)
	dir, small := p.smallDisk("n1", "24m")
	if !small {
		t.Log("a limit on the size of files stands in for it: the log fails all the same")
	}
	p.edit("keyspaces:", "limits: {min_free_bytes: 0}\nkeyspaces:")
	p.edit("n: 3, r: 2, w: 2", "n: 1, r: 1, w: 1")
	p.solo("n1")
	if small {
		p.start("n1")
	} else {
		p.startLimited("n1")
	}
	p.ready("n1")
	if small {
		filler(t, dir, 2<<20)
	}
	p.stopsLoudly(t)
}

// solo leaves only one node in the cluster file.
func (p *processes) solo(id string) {
	p.t.Helper()
	b, err := os.ReadFile(p.file)
	if err != nil {
		p.t.Fatal(err)
	}
	var out []string
	for line := range strings.SplitSeq(string(b), "\n") {
		if !strings.HasPrefix(line, "  - {id:") || strings.Contains(line, "{id: "+id+",") {
			out = append(out, line)
		}
	}
	if err := os.WriteFile(p.file, []byte(strings.Join(out, "\n")), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// startLimited starts a node whose files may not grow beyond 8 MiB, or 16 where the shell counts in KiB.
func (p *processes) startLimited(id string) {
	p.t.Helper()
	p.logs[id] = &lockedBuffer{}
	c := exec.Command("sh", "-c", `ulimit -f 16384; trap '' XFSZ; exec "$0" serve -f "$1" --node "$2"`, p.binary, p.file, id)
	c.Stderr = p.logs[id]
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.running[id] = c
}

func (p *processes) stopsLoudly(t *testing.T) {
	c := p.running["n1"]
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	acked := map[string]bool{}
	value := bytes.Repeat([]byte("x"), 32<<10)
	limit := time.NewTimer(60 * time.Second)
	defer limit.Stop()
	var err error
	for i, up := 0, true; up; i++ {
		select {
		case err = <-ended:
			up = false
		case <-limit.C:
			t.Fatal("the node neither stops nor fails")
		default:
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			key := fmt.Sprint("k", i)
			if _, err := p.via("n1").Put(ctx, "notes", key, value, client.CallOptions{}); err == nil {
				acked[key] = true
			}
			cancel()
		}
	}
	delete(p.running, "n1")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() == 0 {
		t.Fatalf("the process ended with %v", err)
	}
	log := p.logs["n1"].String()
	if !strings.Contains(log, "no space left on device") && !strings.Contains(log, "file too large") {
		t.Errorf("nothing says why: %s", log)
	}
	t.Logf("%d writes were acknowledged, then: %v", len(acked), err)
	if len(acked) == 0 {
		t.Error("nothing was acknowledged: this test shows nothing")
	}
	_ = os.Remove(filepath.Join(filepath.Dir(p.file), "data", "n1", "filler")) // there is none without a small disk
	p.start("n1")
	p.ready("n1")
	for key := range acked {
		if v := p.get("n1", "notes", key, client.CallOptions{}); !bytes.Equal(v.Bytes, value) {
			t.Errorf("%s was acknowledged, and is %d bytes after the restart", key, len(v.Bytes))
		}
	}
}

// TestUnusableData breaks the database of a node that is down.
func TestUnusableData(t *testing.T) {
	p := newProcesses(t, 3)
	p.start(p.ids...)
	p.ready(p.ids...)
	p.put("n1", "notes", "k", "v", client.CallOptions{W: "all"})
	if err := p.stop("n1"); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(filepath.Dir(p.file), "data", "n1")
	tables, err := filepath.Glob(filepath.Join(data, "db", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	if err := os.Truncate(tables[0], 10); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(p.binary, "serve", "-f", p.file, "--node", "n1", "--log-level", "error").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the process ended with %v", err)
	}
	last := strings.Split(strings.TrimSpace(string(out)), "\n")
	said := 0
	for _, line := range last {
		if strings.HasPrefix(line, "dynamo: ") && strings.Contains(line, data) && strings.Contains(line, "--reset-unusable-data") {
			said++
		}
	}
	if said != 1 {
		t.Errorf("the node said:\n%s", out)
	}
	p.startWith("n1", "--reset-unusable-data")
	p.ready("n1")
	aside, err := filepath.Glob(filepath.Join(data, "db.unusable-*", filepath.Base(tables[0])))
	if err != nil || len(aside) != 1 {
		t.Errorf("kept %q, %v", aside, err)
	}
	p.put("n1", "notes", "k2", "v2", client.CallOptions{})
	if v := p.get("n1", "notes", "k", client.CallOptions{}); string(v.Bytes) != "v" {
		t.Errorf("%+v", v)
	}
}
