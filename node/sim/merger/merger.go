// Package merger lets a simulated cluster merge outside of its own WebAssembly machine: the modules of its users run as
// machine code in the process that runs the simulator, as they do in a real node, and not in an interpreter within. What a
// merge gives depends on nothing but the module and its input, so a run stays the same every time.
package merger

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"dynamo/resolver"
	"dynamo/resolver/frame"
)

// The calls: what each begins with.
const (
	callCheck = 'c'
	callLoad  = 'l'
	callMerge = 'm'
)

// patience is the time limit of a merge, which fuel ends long before: nobody waits on the virtual clock.
const patience = time.Hour

// maxCallBytes bounds what a call and its answer may hold.
const maxCallBytes = 64 << 20

// Engine is the side of the cluster: it makes a call of each load and merge. It is safe for concurrent use if Call is.
type Engine struct {
	// Call hands a call over and returns the answer.
	Call func(call []byte) []byte
}

// Check implements resolver.Engine.
func (e Engine) Check(l resolver.Limits, module []byte) (resolver.Info, error) {
	_, info, err := e.ask(callCheck, l, module, nil)
	return info, err
}

// Load implements resolver.Engine.
func (e Engine) Load(_ context.Context, l resolver.Limits, module, config []byte) (resolver.Merger, resolver.Info, error) {
	number, info, err := e.ask(callLoad, l, module, config)
	if err != nil {
		return nil, info, err
	}
	return away{e, number}, info, nil
}

// ask makes a call about a module.
func (e Engine) ask(kind byte, l resolver.Limits, module, config []byte) (uint64, resolver.Info, error) {
	call := []byte{kind}
	for _, n := range []uint64{l.MemoryBytes, uint64(l.ModuleBytes), uint64(l.OutputBytes), uint64(l.CallDepth), l.Fuel} {
		call = binary.AppendUvarint(call, n)
	}
	call = appendBytes(appendBytes(call, module), config)
	d := decoder{rest: e.Call(call)}
	err := d.failure()
	number, about := d.uint(), d.bytes()
	var info resolver.Info
	if !d.end() || json.Unmarshal(about, &info) != nil {
		return 0, info, broken()
	}
	return number, info, err
}

// away is one module, by its number on the other side.
type away struct {
	engine Engine
	number uint64
}

// Close implements resolver.Merger. The other side keeps modules until all simulations are over.
func (away) Close(context.Context) error { return nil }

// Merge implements resolver.Merger. Time does not pass meanwhile, so ctx cannot end.
func (m away) Merge(_ context.Context, req resolver.Request, maxOutputBytes int) (resolver.Response, resolver.Outcome, error) {
	call := binary.AppendUvarint([]byte{callMerge}, m.number)
	call = binary.AppendUvarint(call, uint64(max(maxOutputBytes, 0)))
	d := decoder{rest: m.engine.Call(frame.AppendRequest(call, req))}
	err := d.failure()
	r := resolver.Response{Status: resolver.Status(d.uint()), ContentType: string(d.bytes()), Payload: d.bytes(), Index: int(d.uint())}
	o := resolver.Outcome{Fuel: d.uint(), MemoryBytes: d.uint()}
	if !d.end() {
		return resolver.Response{}, resolver.Outcome{}, broken()
	}
	return r, o, err
}

func broken() error {
	return &resolver.Error{Code: resolver.CodeInternal, Message: "the simulator's host gave a broken answer"}
}

// Server is the side of the process around. It is safe for concurrent use; close it.
type Server struct {
	log *slog.Logger
	// mu guards what is loaded: a module of the same limits once, for all clusters. A load holds it.
	mu struct {
		sync.Mutex
		runtimes map[resolver.Limits]*resolver.Runtime
		known    map[key]uint64
		modules  []*resolver.Module
	}
}

type key struct {
	limits resolver.Limits
	id     [32]byte
}

// NewServer returns a server; log gets what modules print.
func NewServer(log *slog.Logger) *Server {
	s := &Server{log: log}
	s.mu.runtimes, s.mu.known = map[resolver.Limits]*resolver.Runtime{}, map[key]uint64{}
	return s
}

// Close frees all modules.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, r := range s.mu.runtimes {
		errs = append(errs, r.Close(ctx))
	}
	return errors.Join(errs...)
}

// Answer answers a call, whatever is in it.
func (s *Server) Answer(ctx context.Context, call []byte) []byte {
	if len(call) == 0 || len(call) > maxCallBytes {
		return nil
	}
	d := decoder{rest: call[1:]}
	switch call[0] {
	case callCheck, callLoad:
		l := resolver.Limits{
			MemoryBytes: d.uint(), ModuleBytes: int(d.uint()), OutputBytes: int(d.uint()), Timeout: patience,
			CallDepth: int(d.uint()), Fuel: d.uint(),
		}
		module, config := d.bytes(), d.bytes()
		if !d.end() {
			return nil
		}
		number, info, err := s.load(ctx, l, module, config, call[0] == callCheck)
		about, e := json.Marshal(info)
		return appendBytes(binary.AppendUvarint(appendFailure(nil, errors.Join(err, e)), number), about)
	case callMerge:
		number, limit := d.uint(), d.uint()
		req, err := frame.DecodeRequest(d.rest)
		m := s.at(number)
		if d.bad || err != nil || m == nil {
			return nil
		}
		r, o, err := m.Merge(ctx, req, int(min(limit, maxCallBytes)))
		out := binary.AppendUvarint(appendFailure(nil, err), uint64(r.Status))
		out = binary.AppendUvarint(appendBytes(appendBytes(out, []byte(r.ContentType)), r.Payload), uint64(r.Index))
		return binary.AppendUvarint(binary.AppendUvarint(out, o.Fuel), o.MemoryBytes)
	}
	return nil
}

func (s *Server) at(number uint64) *resolver.Module {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number >= uint64(len(s.mu.modules)) {
		return nil
	}
	return s.mu.modules[number]
}

func (s *Server) load(ctx context.Context, l resolver.Limits, module, config []byte, checkOnly bool) (uint64, resolver.Info, error) {
	if checkOnly {
		info, err := resolver.Check(module, l)
		return 0, info, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{l, resolver.Identity(module, config)}
	if n, ok := s.mu.known[k]; ok {
		return n, s.mu.modules[n].Info(), nil
	}
	r := s.mu.runtimes[l]
	if r == nil {
		var err error
		if r, err = resolver.New(resolver.Options{Limits: l, Logger: s.log}); err != nil {
			return 0, resolver.Info{}, &resolver.Error{Code: resolver.CodeInternal, Err: err}
		}
		s.mu.runtimes[l] = r
	}
	m, err := r.Load(ctx, module, config)
	if err != nil {
		return 0, resolver.Info{}, err
	}
	n := uint64(len(s.mu.modules))
	s.mu.modules, s.mu.known[k] = append(s.mu.modules, m), n
	return n, m.Info(), nil
}

// appendFailure appends an error: a code, empty if there is none, and a text.
func appendFailure(dst []byte, err error) []byte {
	if err == nil {
		return append(dst, 0, 0)
	}
	code := resolver.CodeOf(err)
	if code == "" {
		code = resolver.CodeInternal
	}
	text := strings.TrimPrefix(err.Error(), fmt.Sprintf("resolver: %s: ", code))
	return appendBytes(appendBytes(dst, []byte(code)), []byte(text))
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// decoder takes fields off the front. After the first one that is not there, all are zero and bad is set.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) uint() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.rest, d.bad = nil, true
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.rest)) {
		d.rest, d.bad = nil, true
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) failure() error {
	code, text := string(d.bytes()), string(d.bytes())
	if code == "" {
		return nil
	}
	return &resolver.Error{Code: resolver.Code(code), Message: text}
}

func (d *decoder) end() bool { return !d.bad && len(d.rest) == 0 }
