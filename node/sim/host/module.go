package host

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// built holds sim.wasm.gz, which `make build` puts there, and a README.
//
//go:embed module
var built embed.FS

// maxSimulatorBytes bounds what the embedded simulator unpacks to.
const maxSimulatorBytes = 512 << 20

// Module returns the simulator: the one in this binary, or else, of a binary that plain `go build` made, one that is
// built from the sources beside it and kept in cache, a directory; that takes a while, and log is told so.
func Module(ctx context.Context, cache string, log io.Writer) ([]byte, error) {
	packed, err := built.ReadFile("module/sim.wasm.gz")
	if errors.Is(err, fs.ErrNotExist) {
		return buildSimulator(ctx, cache, log)
	}
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("the simulator in this binary: %w", err)
	}
	return io.ReadAll(io.LimitReader(z, maxSimulatorBytes))
}

// CacheDir is where modules and machine code are kept between runs; "" if there is no such place.
func CacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	dir = filepath.Join(dir, "dynamo")
	if os.MkdirAll(dir, 0o700) != nil {
		return ""
	}
	return dir
}

func buildSimulator(ctx context.Context, cache string, log io.Writer) ([]byte, error) {
	const advice = "this binary was built without the simulator: build it with `make build`"
	_, self, _, ok := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(self), "..", "..", "..", "tools", "sim", "build.sh")
	if !ok || !filepath.IsAbs(self) {
		return nil, errors.New(advice)
	}
	if _, err := os.Stat(script); err != nil {
		return nil, errors.New(advice)
	}
	if cache == "" {
		dir, err := os.MkdirTemp("", "dynamo-simulator-")
		if err != nil {
			return nil, err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		cache = dir
	}
	id, err := executableHash()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(cache, "simulator-"+id+".wasm")
	if b, err := os.ReadFile(file); err == nil {
		return b, nil
	}
	fmt.Fprintln(log, "building the simulator; this takes about a minute, once per binary")
	var out bytes.Buffer
	build := exec.CommandContext(ctx, "sh", script, file+".new")
	build.Stdout, build.Stderr = &out, &out
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("%s (%w: %s)", advice, err, bytes.TrimSpace(out.Bytes()))
	}
	if err := os.Rename(file+".new", file); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}

// executableHash names this binary: another one needs another simulator.
func executableHash() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}
