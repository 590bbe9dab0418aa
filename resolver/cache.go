package resolver

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dynamo/resolver/fuel"
)

// The file of one module's machine code:
//
//	u8 version, 32 bytes SHA-256 of what follows, u16 length of name, name, code
//
// where name is the engine's for the file, below its directory; it tells engine version and processor.
const (
	// cacheVersion is to be raised when the engine is configured otherwise, too: its own name for the
	// code does not say how.
	cacheVersion = 2
	// engineVersion is the engine's in go.mod. In the binaries of go test, the engine does not know it.
	engineVersion = "v1.12.0"
	cacheSuffix   = ".code"
	cacheHeader   = 1 + sha256.Size
	maxEntryBytes = 256 << 20
	maxCacheBytes = 512 << 20
)

var errCacheEntry = errors.New("cache file is damaged")

// codeCache keeps machine code in a directory, which processes may share: files are complete from the
// moment they have their name. The engine has a cache too, but believes most of what it reads there,
// lengths and entry points among it, so that one flipped bit ends the process. It only gets to see a
// directory of its own, with a file in it whose checksum was right.
//
// The checksum is against accidents. Whoever may write to the directory may run code in the process.
type codeCache struct {
	dir   string
	limit int64 // bytes in dir
}

// entryName is the file for a module as it is compiled: code is the rewritten one, with its depth of calls.
func entryName(code []byte, pages uint32) string {
	h := sha256.New()
	h.Write(append([]byte{cacheVersion, fuel.Version, byte(len(engineVersion))}, engineVersion...))
	h.Write(binary.LittleEndian.AppendUint32(nil, pages))
	h.Write(code)
	return hex.EncodeToString(h.Sum(nil)) + cacheSuffix
}

// stage is the directory that the engine sees while it compiles one module.
type stage struct {
	dir    string
	loaded fs.FileInfo // of the file that was put there, nil if none
}

// open makes a stage, with the code of the entry if there is any. A damaged entry counts as none.
// Remove the stage.
func (c codeCache) open(entry string) (*stage, error) {
	dir, err := os.MkdirTemp("", "dynamo-stage-")
	if err != nil {
		return nil, fmt.Errorf("stage of the code cache: %w", err)
	}
	s := &stage{dir: dir}
	name, code, err := readEntry(filepath.Join(c.dir, entry))
	if err != nil {
		return s, nil // it is compiled, and the entry replaced
	}
	path := filepath.Join(dir, filepath.FromSlash(name))
	err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, code, 0o600))
	if err == nil {
		s.loaded, err = os.Stat(path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stage of the code cache: %w", err), s.remove())
	}
	return s, nil
}

// has reports whether there is a sound entry.
func (c codeCache) has(entry string) bool {
	if c.dir == "" {
		return false
	}
	_, _, err := readEntry(filepath.Join(c.dir, entry))
	return err == nil
}

func (s *stage) remove() error { return os.RemoveAll(s.dir) }

// made returns the file that the engine has added to the stage; without one, name is empty.
func (s *stage) made() (name string, code []byte, err error) {
	err = filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || s.loaded != nil && os.SameFile(info, s.loaded) && info.ModTime().Equal(s.loaded.ModTime()) {
			return err
		}
		if name, err = filepath.Rel(s.dir, path); err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		code, err = os.ReadFile(path)
		return err
	})
	return name, code, err
}

// save keeps what the engine has made in the stage for the next time.
func (c codeCache) save(entry string, s *stage) error {
	name, code, err := s.made()
	if err != nil || name == "" || len(code) > maxEntryBytes {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(c.dir, entry+".*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(appendEntry(nil, name, code))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(c.dir, entry))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return c.prune(entry)
}

// drop deletes an entry that the engine was given and did not take.
func (c codeCache) drop(entry string, s *stage) error {
	if s.loaded == nil {
		return nil
	}
	return os.Remove(filepath.Join(c.dir, entry))
}

// prune deletes the oldest files until the rest fits, but never keep. What a process left behind that
// died while it wrote goes the same way.
func (c codeCache) prune(keep string) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	var files []fs.FileInfo
	var total int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !isEntry(e.Name()) || !info.Mode().IsRegular() {
			continue // gone, or not ours
		}
		total += info.Size()
		files = append(files, info)
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), strings.Compare(a.Name(), b.Name()))
	})
	for _, f := range files {
		if total <= c.limit {
			return nil
		}
		if f.Name() == keep {
			continue
		}
		if err := os.Remove(filepath.Join(c.dir, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		total -= f.Size()
	}
	return nil
}

// isEntry tells files of the cache, finished or not, from others.
func isEntry(name string) bool {
	sum, rest, ok := strings.Cut(name, cacheSuffix)
	_, err := hex.DecodeString(sum)
	return ok && err == nil && len(sum) == 2*sha256.Size && (rest == "" || strings.HasSuffix(rest, ".tmp"))
}

func readEntry(path string) (name string, code []byte, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxEntryBytes+1<<10 {
		return "", nil, errCacheEntry
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", nil, err
	}
	return decodeEntry(b)
}

func appendEntry(dst []byte, name string, code []byte) []byte {
	body := binary.LittleEndian.AppendUint16(nil, uint16(len(name)))
	body = append(append(body, name...), code...)
	sum := sha256.Sum256(body)
	return append(append(append(dst, cacheVersion), sum[:]...), body...)
}

// decodeEntry reads a cache file; code lies in b. It accepts any bytes. The name stays inside of the
// directory that it is used in.
func decodeEntry(b []byte) (name string, code []byte, err error) {
	if len(b) < cacheHeader+2 || b[0] != cacheVersion {
		return "", nil, errCacheEntry
	}
	body := b[cacheHeader:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[1:cacheHeader]) {
		return "", nil, errCacheEntry
	}
	n := int(binary.LittleEndian.Uint16(body))
	if body = body[2:]; n > len(body) {
		return "", nil, errCacheEntry
	}
	name = string(body[:n])
	if !filepath.IsLocal(filepath.FromSlash(name)) || name == "." {
		return "", nil, errCacheEntry
	}
	return name, body[n:], nil
}
