package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"dynamo/node/wire"
)

const benchCallers = 64

// inParallel runs call b.N times from 64 goroutines.
func inParallel(b *testing.B, call func() error) {
	b.Helper()
	if err := call(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	done := make(chan error, benchCallers)
	var left atomic.Int64
	left.Store(int64(b.N))
	for range benchCallers {
		go func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range benchCallers {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

// cpuTime is what this process has used of all cores: it counts both ends of a call, and other
// processes disturb it less than they do the clock.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// answers is what a replica would say: an acknowledgement to wire.Apply, an object of 1 KiB to wire.Read.
func answers(object []byte) handlerFunc {
	return func(_ context.Context, _ string, m wire.Message) (wire.Message, error) {
		if m.Kind() == wire.KindApply {
			return &wire.Ack{}, nil
		}
		return &wire.ReadReply{Object: object}, nil
	}
}

func benchMessages() (object []byte, requests []wire.Message) {
	object = bytes.Repeat([]byte("x"), 1<<10)
	target := wire.Target{Keyspace: "carts", KeyspaceID: 7, Key: []byte("customer/4711")}
	return object, []wire.Message{&wire.Apply{Target: target, Object: object}, &wire.Read{Target: target, WantObject: true}}
}

// BenchmarkTransport compares this protocol with the same messages as binary bodies of fasthttp, both
// over loopback with a deadline on every call, 64 callers at a time.
func BenchmarkTransport(b *testing.B) {
	object, requests := benchMessages()
	for _, m := range requests {
		b.Run(fmt.Sprintf("%s/own", m.Kind()), func(b *testing.B) { benchOwn(b, object, m) })
		b.Run(fmt.Sprintf("%s/fasthttp", m.Kind()), func(b *testing.B) { benchFastHTTP(b, object, m) })
	}
}

func benchOwn(b *testing.B, object []byte, m wire.Message) {
	f := &tcpFabric{}
	listen := func(id string) *TCP {
		n, err := Listen(f.options(spec{id: id, handler: answers(object)}))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { n.Close() })
		return n
	}
	n1, n2 := listen("n1"), listen("n2")
	f.addrs = map[string]string{"n2": n2.Addr().String()}
	inParallel(b, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, err := n1.Call(ctx, "n2", m)
		return err
	})
}

func benchFastHTTP(b *testing.B, object []byte, m wire.Message) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	handler := answers(object)
	server := &fasthttp.Server{
		NoDefaultServerHeader: true, NoDefaultDate: true, NoDefaultContentType: true,
		Handler: func(rc *fasthttp.RequestCtx) {
			timeout := binary.BigEndian.Uint32(rc.Request.Header.Peek("T"))
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(timeout)*time.Millisecond)
			defer cancel()
			// The body belongs to fasthttp, a message to its handler.
			m, err := wire.Decode(wire.Kind(rc.Path()[1]-'a'), bytes.Clone(rc.PostBody()))
			if err != nil {
				rc.Error(err.Error(), fasthttp.StatusBadRequest)
				return
			}
			reply, err := handler(ctx, "n1", m)
			if err != nil {
				rc.Error(err.Error(), fasthttp.StatusInternalServerError)
				return
			}
			rc.Response.SetBodyRaw(reply.AppendTo(nil))
		},
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	b.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			b.Error(err)
		}
		<-served
	})
	client := &fasthttp.HostClient{
		Addr: l.Addr().String(), MaxConns: benchCallers, NoDefaultUserAgentHeader: true,
		DisableHeaderNamesNormalizing: true, DisablePathNormalizing: true,
	}
	uri := "http://n2/" + string(rune('a'+m.Kind()))
	timeout := string(binary.BigEndian.AppendUint32(nil, 0x61626364))
	inParallel(b, func() error {
		request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		defer fasthttp.ReleaseRequest(request)
		defer fasthttp.ReleaseResponse(response)
		request.SetRequestURI(uri)
		request.Header.SetMethod("POST")
		request.Header.Set("T", timeout)
		request.SetBodyRaw(m.AppendTo(nil))
		if err := client.DoTimeout(request, response, 2*time.Second); err != nil {
			return err
		}
		if response.StatusCode() != fasthttp.StatusOK {
			return fmt.Errorf("status %d", response.StatusCode())
		}
		_, err := wire.Decode(m.Kind().Reply(), bytes.Clone(response.Body()))
		return err
	})
}
