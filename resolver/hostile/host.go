package hostile

import (
	"bytes"
	"encoding/binary"
)

// HostCalls are attacks by the host's functions.
func HostCalls() []Attack {
	const n = 64 * mib
	fdWrite, fdRead := wasi("fd_write", "iiii"), wasi("fd_read", "iiii")
	random, poll, clock := wasi("random_get", "ii"), wasi("poll_oneoff", "iiii"), wasi("clock_time_get", "iIi")
	say := function{name: "dynamo.log", params: "ii"}
	// A thousand vectors, each all of the memory.
	vectors := bytes.Repeat(binary.LittleEndian.AppendUint32(make([]byte, 4), n), 1000)
	with := func(f function, code []byte) parts {
		p := runs(forever(code)).withPages(largest).importing(f)
		p.data = append(p.data, active(heapAt, vectors))
		return p
	}
	drop := ops(opDrop)
	// fd_write, fd_read and the like of the list of vectors.
	about := func(fd, count int64) []byte { return cat(i32(fd), i32(heapAt), i32(count), i32(8), call(0), drop) }
	out := []Attack{
		over("random_get of 64 MiB in a loop", with(random, cat(i32(0), i32(n), call(0), drop))),
		over("random_get of 4 GiB in a loop", with(random, cat(i32(0), i32(-1), call(0), drop))),
		over("random_get of one byte in a loop", with(random, cat(i32(0), i32(1), call(0), drop))),
		over("fd_write of 64 GB in a loop", with(fdWrite, about(2, 1000))),
		over("fd_write of 64 MB to standard output in a loop", with(fdWrite, about(1, 1))),
		over("fd_write of 2^32-1 vectors in a loop", with(fdWrite, about(2, -1))),
		over("fd_write of nothing in a loop", with(fdWrite, about(2, 0))),
		over("fd_read of 64 GB in a loop", with(fdRead, about(0, 1000))),
		over("poll_oneoff of 1024 in a loop", with(poll, cat(i32(heapAt), i32(n/2), i32(1024), i32(8), call(0), drop))),
		over("poll_oneoff that waits for years in a loop", with(poll, cat(i32(n/2), i32(n/4), i32(1), i32(8), call(0), drop))),
		over("clock_time_get in a loop", with(clock, cat(i32(1), i64(0), i32(8), call(0), drop))),
		over("sched_yield in a loop", with(wasi("sched_yield", ""), cat(call(0), drop))),
		over("dynamo.log of 64 MiB in a loop", with(say, cat(i32(0), i32(n), call(0)))),
		over("dynamo.log of 4 GiB in a loop", with(say, cat(i32(0), i32(-1), call(0)))),
		fails("proc_exit", "exit", runs(cat(i32(0), call(0))).importing(function{name: "wasi_snapshot_preview1.proc_exit", params: "i"})),
	}
	return append(out, commands(fdWrite, fdRead)...)
}

// commands are programs, in the command form.
func commands(fdWrite, fdRead function) []Attack {
	program := func(imported function, code []byte) parts {
		p := parts{imports: []function{imported}, bodies: []function{{code: code}}, pages: 16}
		p.exports = []export{{"memory", kindMem, 0}, {"_start", kindFunc, 1}}
		p.data = [][]byte{active(64, binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, heapAt), 64<<10))}
		return p
	}
	about := func(fd int64) []byte { return cat(i32(fd), i32(64), i32(1), i32(8), call(0), ops(opDrop)) }
	return []Attack{
		fails("command that prints without end", "oversize", program(fdWrite, forever(about(1)))),
		over("command that complains without end", program(fdWrite, forever(about(2)))),
		over("command that reads without end", program(fdRead, forever(about(0)))),
		fails("command that says nothing", "invalid_output", program(fdRead, nil)),
		fails("command that prints zeros", "invalid_output", program(fdWrite, about(1))),
		over("command that loops", program(fdRead, forever())),
	}
}
