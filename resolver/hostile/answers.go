package hostile

import (
	"encoding/binary"

	"dynamo/resolver/frame"
)

// Pointers are attacks by what dynamo_alloc gives, and where results are said to lie.
func Pointers() []Attack {
	allocs := func(code []byte) parts {
		p := runs(nil)
		p.bodies[alloc].code = code
		return p
	}
	result := func(at, n uint32) parts {
		p := runs(nil)
		p.bodies[resolve].code = i64(int64(uint64(at)<<32 | uint64(n)))
		return p
	}
	const page = 64 << 10
	return []Attack{
		fails("dynamo_alloc gives -1", "invalid_output", allocs(i32(-1))),
		fails("dynamo_alloc gives the smallest number", "invalid_output", allocs(i32(-1<<31))),
		fails("dynamo_alloc gives the last byte", "invalid_output", allocs(i32(page-1))),
		fails("dynamo_alloc gives the end of the memory", "invalid_output", allocs(i32(page))),
		// The request begins with its magic number, which is no status.
		fails("dynamo_alloc gives the place of the answer", "invalid_output", allocs(i32(answerAt))),
		merges("dynamo_alloc gives 0", allocs(i32(0)).heapless()),
		fails("result beyond the end", "invalid_output", result(page-4, 22)),
		fails("result that wraps around", "invalid_output", result(1<<32-4, 22)),
		fails("result of 4 GiB", "oversize", result(answerAt, 1<<32-1)),
		fails("result of 0xffffffffffffffff", "oversize", result(1<<32-1, 1<<32-1)),
		fails("result of nothing", "invalid_output", result(answerAt, 0)),
	}
}

// heapless moves the answer to where a request at 0 does not reach.
func (p parts) heapless() parts {
	raw := frame.AppendResponse(nil, frame.Response{Payload: []byte("merged")})
	p.data = [][]byte{active(32<<10, raw)}
	p.bodies[resolve].code = i64(32<<10<<32 | int64(len(raw)))
	return p
}

// Answers are attacks by what an answer holds.
func Answers() []Attack {
	u32 := func(n ...uint32) []byte {
		var b []byte
		for _, v := range n {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		return b
	}
	whole := frame.AppendResponse(nil, frame.Response{ContentType: "text/plain", Payload: []byte("merged")})
	raw := func(b []byte) parts { return answersRaw(b, nil) }
	large := answersRaw(u32(0, 0, 20*mib), nil).withPages(largest)
	large.bodies[resolve].code = i64(answerAt<<32 | (20*mib + 12))
	huge := answersRaw(u32(0, 0, 60*mib), nil).withPages(largest)
	huge.bodies[resolve].code = i64(answerAt<<32 | (60*mib + 12))
	return []Attack{
		fails("message that is not UTF-8", "guest_error", answers(frame.Response{Status: frame.StatusError, Payload: []byte("no\xff\xfe\r\nX-Injected: 1\x00")}, nil)),
		fails("message of 60 KB", "guest_error", answers(frame.Response{Status: frame.StatusError, Payload: make([]byte, 60_000)}, nil)),
		fails("keep", "keep", answers(frame.Response{Status: frame.StatusKeep}, nil)),
		fails("content type with a line end", "invalid_output", answers(frame.Response{ContentType: "a\r\nSet-Cookie: b=c", Payload: []byte("x")}, nil)),
		fails("content type of 60 KB", "invalid_output", raw(cat(u32(0, 60_000), make([]byte, 60_000), u32(0)))),
		fails("frame cut in its status", "invalid_output", raw(whole[:3])),
		fails("frame cut in its content type", "invalid_output", raw(whole[:10])),
		fails("frame cut in its payload", "invalid_output", raw(whole[:len(whole)-1])),
		fails("frame with a byte left over", "invalid_output", raw(cat(whole, []byte{0}))),
		fails("frame with a length of 4 GiB", "invalid_output", raw(u32(0, 0, 1<<32-1))),
		fails("frame with a content type of 4 GiB", "invalid_output", raw(u32(0, 1<<32-1, 0))),
		fails("unknown status", "invalid_output", raw(u32(5, 0, 0))),
		fails("status of 2^32-1", "invalid_output", raw(u32(1<<32-1, 0, 0))),
		fails("selects a sibling that is not there", "invalid_output", answers(frame.Response{Status: frame.StatusSelect, Index: 1 << 30}, nil)),
		fails("value of 20 MiB", "oversize", large),
		fails("value of 60 MiB", "oversize", huge),
	}
}

// States are attacks on repeatability: what they answer depends on what they keep, on addresses, on clocks and on
// random numbers. An answer is 8 bytes.
func States() []Attack {
	// The frame is in place, but for the payload at answerAt+12.
	const payload = answerAt + 12
	store := func(value []byte) []byte { return cat(i32(payload), value, ops(0x37, 3, 0)) }
	number := func(code ...[]byte) parts { return answers(frame.Response{Payload: make([]byte, 8)}, cat(code...)) }
	long := ops(0xad) // i64.extend_i32_u
	load := func(at int64) []byte { return cat(i32(at), ops(0x28, 2, 0)) }
	inMemory := number(i32(512), load(512), i32(1), ops(0x6a, 0x36, 2, 0), store(cat(load(512), long)))
	inGlobal := number(ops(0x23, 0), i64(1), ops(0x7c, 0x24, 0), store(ops(0x23, 0)))
	inGlobal.globals = [][]byte{cat(ops(0x7e, 1), i64(0), ops(opEnd))}
	// table.grow by one: the size is the count.
	inTable := number(ops(0xd0, funcRef), i32(1), ops(0xfc, 15, 0, opDrop), store(cat(ops(0xfc, 16, 0), long))).tabled(1)
	inSize := number(i32(1), ops(0x40, 0, opDrop), store(cat(ops(0x3f, 0), long)))
	// An entry of the table is set at the first call: whether it is null tells.
	inEntry := number(store(cat(i32(0), ops(0x25, 0, 0xd1), long)), i32(0), ops(0xd2, resolve), ops(0x26, 0)).tabled(1)
	// The segment is dropped at the first call, and cannot be read at the second.
	inSegment := number(i32(payload), i32(0), i32(8), ops(0xfc, 8, 1, 0), ops(0xfc, 9, 1))
	inSegment.data = append(inSegment.data, cat(ops(1), text("12345678")))
	inSegment.passive = true
	address := number(store(cat(get(0), long)))
	address.globals = [][]byte{cat(ops(0x7f, 1), i32(heapAt), ops(opEnd))}
	address.bodies[alloc].code = cat(ops(0x23, 0), i32(64), ops(0x6a, 0x24, 0), ops(0x23, 0))
	asks := func(f function, args []byte) parts { return number(args, call(0), ops(opDrop)).importing(f) }
	clock, random := wasi("clock_time_get", "iIi"), wasi("random_get", "ii")
	stack := number(store(cat(ops(0x23, 0))))
	stack.globals = [][]byte{cat(ops(0x7e, 1), i64(0), ops(opEnd))}
	stack.bodies[alloc].code = cat(ops(0x23, 0), i64(1), ops(0x7c, 0x24, 0), i32(heapAt))
	nan := number(store(cat(ops(0x44, 0, 0, 0, 0, 0, 0, 0, 0, 0x44, 0, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0xbd)))) // 0/0
	return []Attack{
		merges("counter in memory", inMemory),
		merges("counter in a global", inGlobal),
		merges("counter in a table", inTable),
		merges("counter in the size of the memory", inSize),
		merges("mark in an entry of a table", inEntry),
		merges("mark in a segment", inSegment),
		merges("counter in dynamo_alloc", stack),
		merges("answers by address", address),
		merges("answers by the wall clock", asks(clock, cat(i32(0), i64(0), i32(payload)))),
		merges("answers by the monotonic clock", asks(clock, cat(i32(1), i64(0), i32(payload)))),
		merges("answers by random numbers", asks(random, cat(i32(payload), i32(8)))),
		merges("answers by the bits of a NaN", nan),
	}
}

// Traps end in the engine.
func Traps() []Attack {
	trap := func(name string, code []byte) Attack { return fails(name, "trap", runs(code)) }
	drop := ops(opDrop)
	start := runs(nil, function{code: ops(0)})
	start.start = extra
	data := runs(nil)
	data.data = append(data.data, active(64<<10, []byte("x")))
	elements := runs(nil).tabled(1, alloc, resolve)
	initial := runs(cat(i32(0), i32(0), i32(1000), ops(0xfc, 8, 0, 0)))
	initial.passive = true
	return []Attack{
		trap("unreachable", ops(0)),
		trap("division by zero", cat(i32(1), i32(0), ops(0x6d), drop)),
		trap("division that overflows", cat(i32(-1<<31), i32(-1), ops(0x6d), drop)),
		trap("conversion of a NaN", ops(0x43, 0, 0, 0xc0, 0x7f, 0xa8, opDrop)),
		trap("load beyond the end", cat(i32(-1), ops(0x28, 2, 0), drop)),
		trap("load with an offset of 4 GiB", cat(i32(-1), ops(0x28, 2), unsigned(1<<32-1), drop)),
		trap("store beyond the end", cat(i32(64<<10-3), i32(1), ops(0x36, 2, 0))),
		fails("memory.init beyond the segment", "trap", initial),
		fails("call_indirect of another type", "trap", runs(indirect(0, extra), function{}).tabled(1, resolve)),
		fails("call_indirect of a null", "trap", runs(indirect(0, extra), function{}).tabled(1)),
		fails("call_indirect beyond the table", "trap", runs(indirect(7, extra), function{}).tabled(1, extra)),
		fails("table.get beyond the end", "trap", runs(cat(i32(9), ops(0x25, 0), drop)).tabled(1)),
		fails("start function that traps", "trap", start),
		fails("_initialize that traps", "trap", runs(nil).exporting("_initialize", function{code: ops(0)})),
		fails("data beyond the memory", "trap", data),
		merges("elements beyond the table", elements), // the engine leaves them out
	}
}
