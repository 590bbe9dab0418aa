package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"dynamo/node"
	"dynamo/node/causal"
	"dynamo/node/config"
	"dynamo/node/coordinator"
)

// openAlone starts the only node of a cluster on a file system, without an HTTP door.
func openAlone(t *testing.T, fs vfs.FS, log *slog.Logger, fatal func(error)) *node.Node {
	t.Helper()
	var addr [2]string
	var probes [2]net.Listener
	for i := range addr {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		probes[i], addr[i] = l, l.Addr().String()
	}
	for _, l := range probes {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	cfg := &config.Cluster{
		Name: "alone", Partitions: 16, Replication: config.Majority(1), Limits: config.DefaultLimits(), Insecure: true,
		Nodes: []config.Node{{ID: "n1", Zone: "a", Weight: 1, HTTP: "n1:1", Peer: addr[0], Gossip: addr[1], Data: "/n1"}},
		Keyspaces: []config.Keyspace{{
			Name: "notes", N: 1, R: 1, W: 1, Conflict: config.PolicyLWW, Durability: config.DurabilitySync, MaxValueBytes: 1 << 20,
		}},
	}
	n, err := node.Open(t.Context(), node.Options{
		Cluster: cfg, ID: "n1", Logger: log, Fatal: fatal,
		Seams: node.Seams{FS: fs, Listen: func(string) (net.Listener, error) { return nil, nil }},
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-n.Ready():
	case <-time.After(10 * time.Second):
		t.Fatal("not ready")
	}
	return n
}

// A log that answers with EIO stops the node: it says so once, acknowledges nothing from then on, ends in
// time, and after the restart everything is there that it acknowledged before.
func TestLogErrorStopsTheNode(t *testing.T) {
	var broken atomic.Bool
	mem := vfs.NewCrashableMem()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && strings.HasSuffix(op.Path, ".log") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.EIO
		}
		return nil
	}))
	var log lockedBuffer
	fatal := make(chan error, 9)
	n := openAlone(t, fs, slog.New(slog.NewTextHandler(&log, nil)), func(err error) { fatal <- err })
	put := func(key string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := n.Requests().Write(ctx, coordinator.WriteRequest{
			Keyspace: "notes", Key: []byte(key), Value: causal.Value{Bytes: []byte("v")},
		})
		return err
	}
	var acked []string
	for i := range 20 {
		if i == 10 {
			broken.Store(true)
		}
		key := fmt.Sprint("k", i)
		if err := put(key); err == nil {
			acked = append(acked, key)
		}
	}
	if len(acked) != 10 {
		t.Errorf("acknowledged %q", acked)
	}
	select {
	case err := <-fatal:
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("fatal: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the node does not say that it must stop")
	}
	if !strings.Contains(log.String(), "the disk failed: the node must stop") {
		t.Errorf("the log says nothing: %s", log.String())
	}
	closed := make(chan error, 1)
	go func() { closed <- n.Close(t.Context()) }()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("the node does not end")
	}
	after := openAlone(t, mem.CrashClone(vfs.CrashCloneCfg{}), slog.New(slog.DiscardHandler), func(err error) { t.Error(err) })
	for _, key := range acked {
		a, err := after.Requests().Get(t.Context(), coordinator.ReadRequest{Keyspace: "notes", Key: []byte(key)})
		if err != nil || a.Value == nil || string(a.Value.Bytes) != "v" {
			t.Errorf("%s was acknowledged: %+v, %v", key, a, err)
		}
	}
	if err := after.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
