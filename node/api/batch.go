package api

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"dynamo/node/api/httptext"
	"dynamo/node/causal"
	"dynamo/node/coordinator"
)

const (
	// batchLanes is how many lines of a batch are worked on at a time.
	batchLanes = 16
	// maxBatchAnswerBytes bounds what the values of one batch's answer take in memory.
	maxBatchAnswerBytes = 64 << 20
)

// batchLine is one operation.
type batchLine struct {
	Op          string  `json:"op"`
	Key         *string `json:"key"`
	KeyBase64   []byte  `json:"key_base64"`
	Value       *[]byte `json:"value_base64"`
	ContentType string  `json:"content_type"`
	Context     string  `json:"context"`
}

// batchResult is one line of the answer.
type batchResult struct {
	Status int `json:"status"`
	shown
	Code        coordinator.Code `json:"code,omitempty"`
	Detail      string           `json:"detail,omitempty"`
	Retryable   *bool            `json:"retryable,omitempty"`
	MaybeStored *bool            `json:"maybe_stored,omitempty"`
}

// batchRun is a batch at work. Lines of the same key run in their order, others at the same time.
type batchRun struct {
	c       *call
	options coordinator.Options
	raw     bool
	timeout time.Duration
	lines   [][]byte
	results []batchResult
	// answerBytes counts what the answer takes so far.
	answerBytes atomic.Int64
}

// batch is POST /v1/kv/{keyspace}. It is not atomic: each line succeeds or fails by itself.
func (s *Server) batch(c *call) error {
	b := batchRun{c: c}
	var err error
	if b.options, err = c.options(); err != nil {
		return err
	}
	resolve, err := c.query.boolean("resolve", true)
	if err != nil {
		return err
	}
	b.raw = !resolve
	if b.timeout, err = c.query.timeout(s.o.Limits.RequestTimeout, s.o.Limits.MaxTimeout); err != nil {
		return err
	}
	for line := range bytes.SplitSeq(c.body, []byte("\n")) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if b.lines = append(b.lines, line); len(b.lines) > s.o.Limits.BatchLines {
			e := badRequest("a batch has at most %d lines", s.o.Limits.BatchLines).(*coordinator.Error)
			e.Code = coordinator.CodeTooLarge
			return e
		}
	}
	if !c.take(len(c.body)) { // for what the lines are decoded into
		return overloaded()
	}
	b.run()
	var out bytes.Buffer
	for _, r := range b.results {
		line, err := encodeJSON(r)
		if err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		out.Write(line)
	}
	c.ctx.Response.Header.SetContentType(mediaNDJSON)
	c.ctx.Response.SetBodyRaw(out.Bytes())
	return nil
}

// run parses the lines and works them off.
func (b *batchRun) run() {
	b.results = make([]batchResult, len(b.lines))
	var lanes [batchLanes][]func()
	for i, raw := range b.lines {
		line, key, err := b.parse(raw)
		if err != nil {
			b.results[i] = b.failed(err, false)
			continue
		}
		h := fnv.New32a()
		h.Write(key)
		lane := h.Sum32() % batchLanes
		lanes[lane] = append(lanes[lane], func() { b.results[i] = b.do(line, key) })
	}
	var wg sync.WaitGroup
	for _, lane := range lanes {
		if len(lane) == 0 {
			continue
		}
		wg.Go(func() {
			for _, f := range lane {
				f()
			}
		})
	}
	wg.Wait()
}

// parse checks one line.
func (b *batchRun) parse(raw []byte) (l batchLine, key []byte, err error) {
	if err := decodeJSON(raw, &l); err != nil {
		return l, nil, err
	}
	switch {
	case l.Key != nil && l.KeyBase64 != nil, l.Key == nil && l.KeyBase64 == nil:
		return l, nil, badKey("a line has either key or key_base64")
	case l.Key == nil:
		key = l.KeyBase64
	case strings.ContainsRune(*l.Key, '\uFFFD') && !bytes.ContainsRune(raw, '\uFFFD') && !bytes.Contains(bytes.ToLower(raw), []byte(`\ufffd`)):
		return l, nil, badKey("key has half a surrogate pair, which is no character")
	default:
		key = []byte(*l.Key)
	}
	if err := checkKey(key, b.c.s.o.Limits.MaxKeyBytes); err != nil {
		return l, nil, err
	}
	switch l.Op {
	case "put":
		if l.Value == nil {
			return l, nil, badRequest("put wants value_base64")
		}
		if !httptext.IsContentType(l.ContentType) {
			return l, nil, badRequest("content_type is longer than %d bytes or not printable ASCII", httptext.MaxContentTypeBytes)
		}
	case "get", "delete":
		if l.Value != nil || l.ContentType != "" || (l.Op == "get" && l.Context != "") {
			return l, nil, badRequest("%s takes neither a value nor a content type, and get no context", l.Op)
		}
	default:
		return l, nil, badRequest("op %q is none of put, get, delete", l.Op)
	}
	return l, key, nil
}

// do runs one line; a panic in it fails this line alone.
func (b *batchRun) do(l batchLine, key []byte) (r batchResult) {
	isWrite := l.Op != "get"
	defer func() {
		if v := recover(); v != nil {
			r = b.failed(fmt.Errorf("panic: %v\n%s", v, debug.Stack()), isWrite)
		}
	}()
	ctx, cancel := context.WithTimeout(b.c.context, b.timeout)
	defer cancel()
	kv := b.c.s.o.KV
	if !isWrite {
		if b.answerBytes.Load() > maxBatchAnswerBytes {
			return b.failed(&coordinator.Error{Code: coordinator.CodeTooLarge, Detail: "the values of this batch fill an answer; get the rest in another one", Retryable: true}, false)
		}
		a, err := kv.Get(ctx, coordinator.ReadRequest{Keyspace: b.c.keyspace, Key: key, Options: b.options, Raw: b.raw})
		if err != nil {
			return b.failed(err, false)
		}
		return b.found(a)
	}
	req := coordinator.WriteRequest{Keyspace: b.c.keyspace, Key: key, Options: b.options, Token: l.Context, Value: causal.Value{Deleted: true}}
	if l.Op == "put" {
		req.Value = causal.Value{Bytes: *l.Value, ContentType: shownType(l.ContentType)}
	}
	a, err := kv.Write(ctx, req)
	if err != nil {
		return b.failed(err, true)
	}
	r = batchResult{Status: fasthttp.StatusNoContent, shown: shown{Context: a.Token}}
	if l.Op == "put" {
		r.ETag = a.ETag
	}
	return r
}

func (b *batchRun) found(a coordinator.Answer) batchResult {
	r := batchResult{Status: fasthttp.StatusOK, shown: show(a)}
	switch {
	case !a.Found():
		r.Status, r.Code, r.Detail = fasthttp.StatusNotFound, coordinator.CodeNotFound, "there is no such key"
		if a.Token != "" {
			r.Detail = "the key was deleted"
		}
	case len(a.Siblings) > 0:
		r.Status = fasthttp.StatusMultipleChoices
	}
	b.answerBytes.Add(int64(r.size()))
	return r
}

func (b *batchRun) failed(err error, isWrite bool) batchResult {
	p := b.c.s.describe(err, b.c.id, isWrite)
	return batchResult{Status: p.Status, Code: p.Code, Detail: p.Detail, Retryable: p.Retryable, MaybeStored: p.MaybeStored}
}
