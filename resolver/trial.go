package resolver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"dynamo/resolver/fuel"
)

// Trial is how a module is compiled for the first time: in a child process with limits. The gate
// keeps out what is known to hurt the compiler; the trial is for what is not known. A node that
// compiled such a module itself would die of it, and again at each boot.
type Trial struct {
	// Command starts the child: a program and its arguments which call TrialMain with standard input and
	// output. The child gets no environment but what the Go runtime needs.
	Command []string
	// MemoryBytes limits the child's data segment; default 1.5 GiB. A Go guest of 3 MB takes about a tenth.
	// It holds on Linux and macOS.
	MemoryBytes uint64
	// CPU limits the child's processor time, rounded up to seconds; default 30 s. It holds where MemoryBytes does.
	CPU time.Duration
	// Wall limits the time from start to end; default 90 s.
	Wall time.Duration
}

func (t Trial) withDefaults() Trial {
	if t.MemoryBytes == 0 {
		t.MemoryBytes = 1536 << 20
	}
	if t.CPU <= 0 {
		t.CPU = 30 * time.Second
	}
	if t.Wall <= 0 {
		t.Wall = 90 * time.Second
	}
	return t
}

// Verdicts is a durable memory of trials. Its methods are called from several goroutines.
type Verdicts interface {
	// Get returns what was put last, false if that is nothing or empty.
	Get(key [32]byte) (verdict string, ok bool, err error)
	// Put remembers a verdict; an empty one is forgotten.
	Put(key [32]byte, verdict string) error
}

// verdictPassed is kept under the hash of the code as it is compiled, by which engine and for how much memory; why
// a module failed, under its own SHA-256 together with what it was tried with: see failedKey.
const verdictPassed = "passed"

// Retry forgets that a module, named by its SHA-256, failed its trial, so that the next Load tries it again.
func (r *Runtime) Retry(sha [32]byte) error {
	if r.verdicts == nil {
		return nil
	}
	return r.verdicts.Put(r.failedKey(sha), "")
}

// failedKey is where a failed trial is remembered. A module that is rewritten or compiled otherwise is tried again.
func (r *Runtime) failedKey(sha [32]byte) [32]byte {
	b := append([]byte("dynamo.trial.v1\x00"), cacheVersion, fuel.Version)
	b = append(append(b, engineVersion...), 0)
	b = binary.BigEndian.AppendUint32(b, r.limits.pages())
	b = binary.BigEndian.AppendUint32(b, uint32(r.limits.CallDepth))
	return sha256.Sum256(append(b, sha[:]...))
}

// verdict returns what is known of a trial, "" if nothing is.
func (r *Runtime) verdict(key [32]byte) (string, error) {
	if r.verdicts == nil {
		return "", nil
	}
	v, ok, err := r.verdicts.Get(key)
	if err != nil {
		return "", &Error{Code: CodeUnavailable, Message: "what trials said is not known", Err: err}
	}
	if !ok {
		return "", nil
	}
	return v, nil
}

// remember keeps a verdict. Without it, there is one more trial some day.
func (r *Runtime) remember(key [32]byte, verdict string) {
	if r.verdicts == nil {
		return
	}
	if err := r.verdicts.Put(key, verdict); err != nil {
		r.log.Error("the outcome of a trial is not remembered", slog.String("verdict", verdict), slog.Any("err", err))
	}
}

// compileOnTrial compiles a module. If it is for the first time, a child does it and hands over the machine
// code.
func (m *Module) compileOnTrial(ctx context.Context, module []byte) error {
	r := m.runtime
	entry := entryName(m.code, r.limits.pages())
	if r.trial == nil || r.cache.has(entry) {
		return m.compile(ctx, r.cache)
	}
	passed := sha256.Sum256([]byte(entry))
	reason, err := r.verdict(r.failedKey(m.info.SHA256))
	if err != nil {
		return err
	}
	if reason != "" {
		return failf(CodeCompile, "it failed before and is not tried again: %s", reason)
	}
	switch before, err := r.verdict(passed); {
	case err != nil:
		return err
	case before == verdictPassed:
		return m.compile(ctx, r.cache)
	}
	cache := r.cache
	if cache.dir == "" {
		if cache.dir, err = os.MkdirTemp("", "dynamo-trial-"); err != nil {
			return &Error{Code: CodeUnavailable, Message: "no directory to compile in", Err: err}
		}
		defer func() {
			if err := os.RemoveAll(cache.dir); err != nil {
				r.log.Warn("what a trial left cannot be removed", slog.Any("err", err))
			}
		}()
	}
	if err := r.trial.run(ctx, module, r.limits, cache.dir); err != nil {
		if CodeOf(err) == CodeCompile {
			r.remember(r.failedKey(m.info.SHA256), reasonOf(err))
		}
		return err
	}
	r.remember(passed, verdictPassed)
	return m.compile(ctx, cache)
}

// What parent and child say to each other: the parent a header of JSON, its length before it as a
// big-endian u32, then the module up to the end; the child trialReady when the limits are in force, and
// then one object of JSON. A child that dies before it is ready says nothing about the module.
type (
	trialRequest struct {
		Version     int    `json:"version"`
		MemoryBytes uint64 `json:"memory_bytes"` // of the child
		CPUSeconds  uint64 `json:"cpu_seconds"`
		Limits      Limits `json:"limits"`
		CacheDir    string `json:"cache_dir"`
	}
	trialAnswer struct {
		Version int    `json:"version"`
		Code    Code   `json:"code"` // empty: it was compiled
		Message string `json:"message"`
	}
)

const (
	trialVersion = 1
	trialReady   = "ready\n"
	// maxTrialBytes bounds the header, and the child's answer and complaints.
	maxTrialBytes = 64 << 10
)

// run compiles a module in a child. Errors are CodeCompile, if that cannot be done within the limits,
// CodeCanceled, and CodeUnavailable if there is no child.
func (t Trial) run(ctx context.Context, module []byte, l Limits, cacheDir string) error {
	t = t.withDefaults()
	header, err := json.Marshal(trialRequest{
		Version: trialVersion, MemoryBytes: t.MemoryBytes, CPUSeconds: uint64((t.CPU + time.Second - 1) / time.Second),
		Limits: l, CacheDir: cacheDir,
	})
	if err != nil {
		return &Error{Code: CodeInternal, Message: "trial", Err: err}
	}
	timed, cancel := context.WithTimeout(ctx, t.Wall)
	defer cancel()
	cmd := exec.CommandContext(timed, t.Command[0], t.Command[1:]...)
	out, complaints := &capped{left: maxTrialBytes}, &capped{left: maxTrialBytes}
	cmd.Stdin = io.MultiReader(bytes.NewReader(binary.BigEndian.AppendUint32(nil, uint32(len(header)))), bytes.NewReader(header), bytes.NewReader(module))
	cmd.Stdout, cmd.Stderr = out, complaints
	cmd.Env = []string{"TMPDIR=" + os.TempDir(), "GOMAXPROCS=2", "GOTRACEBACK=none", "GOMEMLIMIT=" + strconv.FormatUint(t.MemoryBytes/4*3, 10)}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil && ctx.Err() == nil {
		return &Error{Code: CodeUnavailable, Message: "no child process to compile in", Err: err}
	}
	err = cmd.Wait() // fails if it did not start
	reply, ready := bytes.CutPrefix(out.b, []byte(trialReady))
	complaint, _, _ := strings.Cut(string(complaints.b), "\n")
	switch {
	case ctx.Err() != nil:
		return &Error{Code: CodeCanceled, Message: "compiling in a child process", Err: context.Cause(ctx)}
	case !ready:
		return &Error{Code: CodeUnavailable, Message: "the child process did not start: " + guestText([]byte(complaint)), Err: err}
	case timed.Err() != nil:
		return failf(CodeCompile, "not compiled within %v", t.Wall)
	case err != nil:
		return failf(CodeCompile, "the process that compiled it died: %v %s", err, guestText([]byte(complaint)))
	}
	var answer trialAnswer
	if err := json.Unmarshal(reply, &answer); err != nil || answer.Version != trialVersion {
		return failf(CodeUnavailable, "the child process gave no answer: %.100q", reply)
	}
	if answer.Code != "" {
		return failf(answer.Code, "%s", guestText([]byte(answer.Message)))
	}
	return nil
}

// reasonOf is what err says after its code, which goes another way.
func reasonOf(err error) string {
	return strings.TrimPrefix(err.Error(), "resolver: "+string(CodeOf(err))+": ")
}

// capped keeps the first bytes of what is written.
type capped struct {
	b    []byte
	left int
}

// Write implements io.Writer and takes everything.
func (c *capped) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.b, c.left = append(c.b, p[:n]...), c.left-n
	return len(p), nil
}

// TrialMain is the child: it reads a module from in, compiles it within the limits given there, which it puts upon the
// whole process, and writes to out how it went. The process must do nothing else. With a cache
// directory, the machine code stays there for the parent.
func TrialMain(ctx context.Context, in io.Reader, out io.Writer) error {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return fmt.Errorf("trial: header: %w", err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxTrialBytes {
		return fmt.Errorf("trial: header of %d bytes", n)
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(in, header); err != nil {
		return fmt.Errorf("trial: header: %w", err)
	}
	var req trialRequest
	if err := json.Unmarshal(header, &req); err != nil {
		return fmt.Errorf("trial: header: %w", err)
	}
	if req.Version != trialVersion {
		return fmt.Errorf("trial: version %d, want %d", req.Version, trialVersion)
	}
	if err := limitProcess(req.MemoryBytes, req.CPUSeconds); err != nil {
		return fmt.Errorf("trial: limits: %w", err)
	}
	if _, err := io.WriteString(out, trialReady); err != nil {
		return fmt.Errorf("trial: %w", err)
	}
	module, err := io.ReadAll(io.LimitReader(in, int64(req.Limits.ModuleBytes)+1))
	if err != nil {
		return fmt.Errorf("trial: module: %w", err)
	}
	answer := trialAnswer{Version: trialVersion}
	if err := compileOnce(ctx, module, req); err != nil {
		answer.Code, answer.Message = CodeOf(err), reasonOf(err)
		if answer.Code == "" {
			answer.Code = CodeInternal
		}
	}
	return json.NewEncoder(out).Encode(answer)
}

func compileOnce(ctx context.Context, module []byte, req trialRequest) error {
	r, err := New(Options{Limits: req.Limits, CacheDir: req.CacheDir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	_, err = r.Load(ctx, module, nil)
	return errors.Join(err, r.Close(ctx))
}
