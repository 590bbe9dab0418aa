// Package disk is what a data directory is beside its database: whose it is, and the few file operations
// that survive a crash.
package disk

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"dynamo/node/causal"
)

// Identity is what the actors of this disk are named by. It rests on one rule: a dot names one value for
// ever. A disk that lost writes (an unsynced log, a restored backup, a wiped directory) and went on as
// the same actor would give their dots to other values, and replicas would take the new for the old.
//
//   - An empty or unreadable directory takes a new Node.
//   - A boot that is not provably the state of a clean stop takes a higher Incarnation. The proof is a
//     mark that Close leaves, with a fingerprint of the database as it left it. How much higher is drawn by
//     chance: a disk that was set back to an earlier state, as by a backup or a snapshot of a machine, would
//     take the same next one twice, and where it meets none of its peers nobody could tell it so.
//   - Boot grows at every boot.
//
// A copy of a directory that was stopped cleanly passes the proof, so two copies come up as the same
// (Node, Incarnation, Boot), and an old copy with a Boot below one seen before: this disk cannot know,
// its peers can. They refuse it, and the owner calls RenewIdentity.
type Identity struct {
	Node        causal.NodeID
	Incarnation uint32
	Boot        uint64
}

// SeqLease is how many actors a lease covers: one synced write of the identity file for so many keys
// written for the first time. A crash skips what is left of it.
const SeqLease = 16384

// identityFile is the content of the file "identity":
//
//	u8 version=1  16 bytes node  u32 incarnation  u64 boot  u8 clean  u64 seq  32 bytes fingerprint  u32 crc
//
// Integers are big-endian, crc is the CRC-32C of all before it.
type identityFile struct {
	Identity
	clean bool
	// seq is the highest sequence number that may have been handed out.
	seq uint64
	// state is the fingerprint of the database at the clean stop.
	state [32]byte
}

const (
	identityV1    = 1
	identityBytes = 1 + 16 + 4 + 8 + 1 + 8 + 32 + 4
	IdentityName  = "identity"
)

func (f identityFile) encode() []byte {
	b := append(make([]byte, 0, identityBytes), identityV1)
	b = append(b, f.Node[:]...)
	b = binary.BigEndian.AppendUint32(b, f.Incarnation)
	b = binary.BigEndian.AppendUint64(b, f.Boot)
	if f.clean {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.BigEndian.AppendUint64(b, f.seq)
	b = append(b, f.state[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// decodeIdentity is the inverse of encode, for any bytes.
func decodeIdentity(b []byte) (identityFile, error) {
	var f identityFile
	switch {
	case len(b) > 0 && b[0] != identityV1:
		return f, fmt.Errorf("identity version %d is not known", b[0])
	case len(b) != identityBytes:
		return f, fmt.Errorf("identity of %d bytes, not %d", len(b), identityBytes)
	case crc32.Checksum(b[:identityBytes-4], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(b[identityBytes-4:]):
		return f, errIdentitySum
	case b[29] > 1:
		return f, errIdentityShape
	}
	f.Node = causal.NodeID(b[1:17])
	f.Incarnation = binary.BigEndian.Uint32(b[17:])
	f.Boot = binary.BigEndian.Uint64(b[21:])
	f.clean = b[29] == 1
	f.seq = binary.BigEndian.Uint64(b[30:])
	f.state = [32]byte(b[38:70])
	return f, nil
}

// Keeper keeps the identity of an open directory. It is safe for concurrent use.
type Keeper struct {
	fs      FS
	dir     string
	rand    io.Reader
	current atomic.Pointer[Identity]
	// mu.file is what the disk has, or had before a write that failed half-way. next is the sequence
	// number to hand out next: never above file.seq + 1.
	mu struct {
		sync.Mutex
		file identityFile
		next uint64
	}
}

// Boot settles the identity of this boot and makes it durable, with the clean mark taken away, before
// anything else may touch the database. The caller holds the directory's lock.
func Boot(fs FS, dir, db string, rand io.Reader, log *slog.Logger) (id *Keeper, clean bool, err error) {
	id = &Keeper{fs: fs, dir: dir, rand: rand}
	was, found, err := readIdentity(fs, dir, log)
	if err != nil {
		return nil, false, err
	}
	state, exists, err := fingerprint(fs, db)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrDatabase, err)
	}
	next := was
	switch {
	case !found || !exists || was.Incarnation > math.MaxUint32-maxStep:
		// An identity without a database is a disk that lost everything, as when a broken database was
		// moved aside: it comes back as another.
		if next, err = id.fresh(); err != nil {
			return nil, false, err
		}
		if exists || found {
			log.Warn("the directory has lost its identity or its database: taking a new identity",
				"dir", dir, "identity_found", found, "database_found", exists, "disk", next.Node)
		}
	case was.clean && was.state == state:
		clean = true
		next.Boot++
	default:
		next.Boot++
		step, err := id.step()
		if err != nil {
			return nil, false, err
		}
		next.Incarnation += step
		log.Warn("not the continuation of a clean stop: taking a higher incarnation",
			"dir", dir, "disk", next.Node, "incarnation", next.Incarnation, "clean_mark", was.clean)
	}
	id.mu.next = next.seq + 1
	next.seq += SeqLease
	next.clean, next.state = false, [32]byte{}
	id.mu.Lock()
	defer id.mu.Unlock()
	return id, clean, id.write(next)
}

// maxStep bounds how much an incarnation grows by: room for 65536 unclean boots at the least, in three bytes of
// each actor.
const maxStep = 1 << 16

// step draws how much the incarnation grows by.
func (id *Keeper) step() (uint32, error) {
	var b [2]byte
	if _, err := io.ReadFull(id.rand, b[:]); err != nil {
		return 0, fmt.Errorf("disk: drawing an incarnation: %w", err)
	}
	return 1 + uint32(binary.BigEndian.Uint16(b[:])), nil
}

// readIdentity returns the content of the file; found is false if it is missing or corrupt. A file that
// is there and cannot be read is an error: it may be readable again at the next boot.
func readIdentity(fsys FS, dir string, log *slog.Logger) (f identityFile, found bool, err error) {
	path := fsys.PathJoin(dir, IdentityName)
	b, err := ReadFile(fsys, path, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return f, false, nil
	}
	if err != nil {
		return f, false, fmt.Errorf("disk: reading the identity: %w", err)
	}
	f, err = decodeIdentity(b)
	if err != nil {
		log.Error("CORRUPT IDENTITY: this disk becomes a new one to its peers", "path", path, "err", err, "bytes", fmt.Sprintf("%x", b))
		return identityFile{}, false, nil
	}
	return f, true, nil
}

// fresh is a first identity with a new uuid.
func (id *Keeper) fresh() (identityFile, error) {
	var f identityFile
	if _, err := io.ReadFull(id.rand, f.Node[:]); err != nil {
		return f, fmt.Errorf("disk: drawing a uuid: %w", err)
	}
	f.Node[6] = f.Node[6]&0x0f | 0x40 // version 4, random
	f.Node[8] = f.Node[8]&0x3f | 0x80 // variant of RFC 9562
	f.Incarnation, f.Boot = 1, 1
	return f, nil
}

// write makes f durable and current: beside, synced, renamed, directory synced. The caller holds mu.
func (id *Keeper) write(f identityFile) error {
	if err := ReplaceFile(id.fs, id.dir, IdentityName, f.encode()); err != nil {
		return fmt.Errorf("disk: writing the identity: %w", err)
	}
	id.mu.file = f
	id.current.Store(&f.Identity)
	return nil
}

// NewActor returns an actor that never was before. One call in SeqLease writes the file.
func (id *Keeper) NewActor() (causal.Actor, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.mu.next > id.mu.file.seq {
		f := id.mu.file
		f.seq += SeqLease
		if err := id.write(f); err != nil {
			return causal.Actor{}, err
		}
	}
	a := causal.Actor{Node: id.mu.file.Node, Incarnation: id.mu.file.Incarnation, Seq: id.mu.next}
	id.mu.next++
	return a, nil
}

// Renew takes a new uuid, at once and durably.
func (id *Keeper) Renew() error {
	id.mu.Lock()
	defer id.mu.Unlock()
	f, err := id.fresh()
	if err != nil {
		return err
	}
	f.seq = SeqLease
	if err := id.write(f); err != nil {
		return err
	}
	id.mu.next = 1
	return nil
}

// MarkClean leaves the proof of a clean stop. The database is closed, its directory still locked.
func (id *Keeper) MarkClean(fs FS, db string) error {
	state, exists, err := fingerprint(fs, db)
	if err != nil || !exists {
		return fmt.Errorf("disk: taking the fingerprint of %s (database there: %t): %w", db, exists, err)
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	f := id.mu.file
	f.clean, f.state, f.seq = true, state, id.mu.next-1
	return id.write(f)
}

// fingerprint hashes the present MANIFEST, which names every table and which each opening of the
// database changes, and the name and size of every log. The tables themselves are pebble's to check: it
// refuses to open if one is missing or of another size, and each of their blocks has a checksum.
func fingerprint(fs FS, db string) (state [32]byte, exists bool, err error) {
	d, err := pebble.Peek(db, fs)
	if err != nil || !d.Exists {
		return state, false, err
	}
	h := sha256.New()
	f, err := fs.Open(d.ManifestFilename)
	if err != nil {
		return state, false, err
	}
	_, err = io.Copy(h, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return state, false, fmt.Errorf("reading %s: %w", d.ManifestFilename, err)
	}
	names, err := fs.List(db)
	if err != nil {
		return state, false, err
	}
	slices.Sort(names)
	for _, name := range names {
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		info, err := fs.Stat(fs.PathJoin(db, name))
		if err != nil {
			return state, false, err
		}
		fmt.Fprintf(h, "\x00%s %d", name, info.Size())
	}
	h.Sum(state[:0])
	return state, true, nil
}

// Current is the identity of this boot.
func (id *Keeper) Current() Identity { return *id.current.Load() }

// ErrDatabase says that the database's state cannot be read, so that nobody can tell whether it continues a
// clean stop.
var ErrDatabase = errors.New("disk: the database's state cannot be read")

var (
	errIdentitySum   = errors.New("checksum does not match")
	errIdentityShape = errors.New("malformed identity")
)
