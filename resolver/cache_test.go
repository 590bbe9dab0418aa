package resolver

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dynamo/resolver/frame"
)

// saying is a module that always answers with the text. Two of equal length differ in data alone, not in
// machine code.
func saying(text string) []byte {
	return resolverModule(frame.AppendResponse(nil, Response{Payload: []byte(text)}), nil).build()
}

// failing has the same shape as saying, but traps.
func failing() []byte {
	return resolverModule(frame.AppendResponse(nil, Response{Payload: []byte("one")}), trapOp).build()
}

// answerOf compiles the module in a runtime of its own and runs it.
func answerOf(t *testing.T, dir string, module []byte) (string, error) {
	t.Helper()
	r := newCachedRuntime(t, DefaultLimits(), dir)
	m, err := r.Load(t.Context(), module, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, _, err := m.Merge(t.Context(), twoSiblings(), 100)
	if err := r.Close(context.Background()); err != nil {
		t.Error(err)
	}
	return string(resp.Payload), err
}

func wantAnswer(t *testing.T, dir string, module []byte, want string) {
	t.Helper()
	if got, err := answerOf(t, dir, module); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// entryOf is the cache file of a module.
func entryOf(t *testing.T, dir string, module []byte) string {
	t.Helper()
	p, err := inspect(module, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, entryName(p.code, DefaultLimits().pages()))
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustWrite(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestCachedCodeIsRun puts the code of a module that traps in the place of one that answers: the answer
// is gone, so it was not compiled again.
func TestCachedCodeIsRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "when", "needed")
	wantAnswer(t, dir, saying("one"), "one")
	if _, err := answerOf(t, dir, failing()); CodeOf(err) != CodeTrap {
		t.Fatalf("got %v", err)
	}
	name, _, err := decodeEntry(mustRead(t, entryOf(t, dir, saying("one"))))
	if err != nil {
		t.Fatal(err)
	}
	_, code, err := decodeEntry(mustRead(t, entryOf(t, dir, failing())))
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, entryOf(t, dir, saying("one")), appendEntry(nil, name, code))
	if got, err := answerOf(t, dir, saying("one")); CodeOf(err) != CodeTrap {
		t.Errorf("got %q, %v", got, err)
	}
	l := DefaultLimits()
	l.MemoryBytes /= 2
	m := mustCompile(t, newCachedRuntime(t, l, dir), saying("one"))
	if _, _, err := m.Merge(t.Context(), twoSiblings(), 100); err != nil {
		t.Errorf("code made for other limits was used: %v", err)
	}
}

func TestDamagedCache(t *testing.T) {
	stages := t.TempDir()
	t.Setenv("TMPDIR", stages)
	dir := t.TempDir()
	module := saying("one")
	wantAnswer(t, dir, module, "one")
	path := entryOf(t, dir, module)
	sound := mustRead(t, path)
	name, code, err := decodeEntry(sound)
	if err != nil {
		t.Fatal(err)
	}
	damaged := map[string][]byte{
		"empty": {}, "long": append(slices.Clone(sound), 0),
		"code that the engine refuses":   appendEntry(nil, name, []byte("WAZEVO")),
		"code of an older engine":        appendEntry(nil, name, append([]byte("WAZEVO\x01v"), make([]byte, 40)...)),
		"a name that nobody looks for":   appendEntry(nil, "other", code),
		"a name outside":                 appendEntry(nil, "../../escaped", code),
		"a name that cannot be a file":   appendEntry(nil, "a\x00b", code),
		"a name that is the directory's": appendEntry(nil, filepath.Dir(name), code),
	}
	for i := 0; i < len(sound); i += 1 + len(sound)/23 {
		damaged["cut at "+strconv.Itoa(i)] = sound[:i]
		flipped := slices.Clone(sound)
		flipped[i] ^= 1 << (i % 8)
		damaged["flipped at "+strconv.Itoa(i)] = flipped
	}
	for what, b := range damaged {
		t.Run(what, func(t *testing.T) {
			mustWrite(t, path, b)
			wantAnswer(t, dir, module, "one")
			wantAnswer(t, dir, module, "one") // what the engine refused is gone now
			if !strings.Contains(what, "cannot be") && !strings.Contains(what, "directory's") && !bytes.Equal(mustRead(t, path), sound) {
				t.Error("the entry was not replaced")
			}
		})
	}
	if left, err := os.ReadDir(stages); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestCacheThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	mustWrite(t, file, nil)
	wantAnswer(t, file, saying("one"), "one")
	wantAnswer(t, filepath.Join(file, "below"), saying("one"), "one")
	wantAnswer(t, "/proc/self/none", saying("one"), "one")
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(entryOf(t, dir, saying("one")), "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, dir, saying("one"), "one")
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
	t.Setenv("TMPDIR", file)
	wantAnswer(t, dir, saying("two"), "two")
}

// TestSharedCache: processes that compile the same at once do not harm each other.
func TestSharedCache(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r, err := New(Options{CacheDir: dir})
			if err != nil {
				t.Error(err)
				return
			}
			for _, text := range []string{"one", "two"} {
				m, err := r.Load(t.Context(), saying(text), nil)
				if err != nil {
					t.Error(err)
					return
				}
				if resp, _, err := m.Merge(t.Context(), twoSiblings(), 100); err != nil || string(resp.Payload) != text {
					t.Errorf("%q, %v", resp.Payload, err)
				}
			}
			if err := r.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
		t.Errorf("%v, %v", files, err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	dir := t.TempDir()
	name := func(i int) string { return strings.Repeat("0", 63) + strconv.Itoa(i) + cacheSuffix }
	for i, file := range []string{name(0), name(1) + ".1.tmp", name(2), name(3), "mine.code"} {
		path := filepath.Join(dir, file)
		mustWrite(t, path, make([]byte, 10))
		at := time.UnixMilli(int64(1000 * (i + 1)))
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := (codeCache{dir: dir, limit: 25}).prune(name(0)); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]bool{name(0): true, name(1) + ".1.tmp": false, name(2): false, name(3): true, "mine.code": true} {
		if _, err := os.Lstat(filepath.Join(dir, file)); (err == nil) != want {
			t.Errorf("%s: kept %v, want %v", file, err == nil, want)
		}
	}
}

// TestEngineVersion: code of another engine must not be taken for this one's.
func TestEngineVersion(t *testing.T) {
	if want := "github.com/tetratelabs/wazero " + engineVersion + "\n"; !bytes.Contains(mustRead(t, "../go.mod"), []byte(want)) {
		t.Errorf("go.mod does not contain %q: adapt engineVersion", want)
	}
}

func TestCacheFileGolden(t *testing.T) {
	const golden = "02" + "ad5e5c783e0db0e5fa0bb43ccbd2fa57bcb778f6102536b0d85692803439978f" + "0300" + "612f62" + "636f6465"
	b := appendEntry(nil, "a/b", []byte("code"))
	if got := hex.EncodeToString(b); got != golden {
		t.Errorf("got  %s\nwant %s", got, golden)
	}
	if name, code, err := decodeEntry(b); err != nil || name != "a/b" || string(code) != "code" {
		t.Errorf("%q, %q, %v", name, code, err)
	}
}

func FuzzCacheFile(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendEntry(nil, "a/b", []byte("code")))
	f.Add(appendEntry(nil, "../b", nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, code, err := decodeEntry(b)
		if err != nil {
			if !errors.Is(err, errCacheEntry) {
				t.Fatal(err)
			}
			// With a right checksum, too.
			name, code, err = decodeEntry(appendEntry(nil, string(b[:min(len(b), 9)]), b))
		}
		if err == nil && (!filepath.IsLocal(name) || len(code) > len(b)) {
			t.Fatalf("%q, %d bytes of %d", name, len(code), len(b))
		}
	})
}
