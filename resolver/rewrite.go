package resolver

import "encoding/binary"

// interruptionPoint is an empty loop. The engine asks at the head of every loop
// whether the time is over, and nowhere else: a call tree of exponential size
// without a single loop would run for years. So one goes where a function is
// entered and in front of instructions that may touch the whole memory. It has
// no parameters and no results, hence it is valid anywhere.
const interruptionPoint = "\x03\x40\x0b" // loop, no type, end

// rewrite returns the module to be compiled: armed with interruption points,
// every memory and table with a maximum, custom sections left out. Functions
// keep their numbers. The cost of a point is some nanoseconds when it is passed.
// More exports are added as encoded.
func (s *scan) rewrite(exports [][]byte) []byte {
	module := s.c.b
	out := make([]byte, 0, len(module)+len(module)/8+64)
	out = append(out, module[:8]...)
	for _, sec := range s.sections {
		content := module[sec.start:sec.end]
		switch sec.id {
		case sectionTable:
			content = s.boundedTables()
		case sectionMemory:
			content = s.boundedMemory()
		case sectionExport:
			content = s.extendedExports(content, exports)
		case sectionCode:
			content = s.armedCode()
		}
		out = append(out, sec.id)
		out = binary.AppendUvarint(out, uint64(len(content)))
		out = append(out, content...)
	}
	return out
}

func (s *scan) boundedTables() []byte {
	out := binary.AppendUvarint(nil, uint64(len(s.tables)))
	for _, t := range s.tables {
		out = append(out, t.refType, 1)
		out = binary.AppendUvarint(out, uint64(t.least))
		out = binary.AppendUvarint(out, uint64(t.most))
	}
	return out
}

func (s *scan) boundedMemory() []byte {
	out := binary.AppendUvarint(nil, uint64(s.memories))
	for range s.memories {
		out = append(out, 1)
		out = binary.AppendUvarint(out, uint64(s.memory.least))
		out = binary.AppendUvarint(out, uint64(s.memory.most))
	}
	return out
}

func (s *scan) armedCode() []byte {
	module := s.c.b
	out := binary.AppendUvarint(nil, uint64(len(s.bodies)))
	for _, b := range s.bodies {
		size := b.end - b.start + len(b.points)*len(interruptionPoint)
		out = binary.AppendUvarint(out, uint64(size))
		from := b.start
		for _, at := range b.points {
			out = append(out, module[from:at]...)
			out = append(out, interruptionPoint...)
			from = at
		}
		out = append(out, module[from:b.end]...)
	}
	return out
}
