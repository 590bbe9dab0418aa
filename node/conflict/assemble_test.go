package conflict

import "slices"

// assembled returns a module whose merge is the given code.
func assembled(code ...byte) []byte {
	section := func(id byte, content []byte) []byte { return slices.Concat([]byte{id, byte(len(content))}, content) }
	export := func(name string, kind, index byte) []byte {
		return slices.Concat([]byte{byte(len(name))}, []byte(name), []byte{kind, index})
	}
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, []byte{2, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7e}),
		section(3, []byte{2, 0, 1}),
		section(5, []byte{1, 0, 1}),
		section(7, slices.Concat([]byte{3}, export("memory", 2, 0), export("dynamo_alloc", 0, 0), export("dynamo_resolve_v1", 0, 1))),
		section(10, slices.Concat([]byte{2, 4, 0, 0x41, 16, 0x0b, byte(len(code) + 2), 0}, code, []byte{0x0b})),
	)
}

// endless is a merge that never ends, trap one that always fails.
func endless() []byte { return assembled(0x03, 0x40, 0x0c, 0, 0x0b, 0x42, 0) }

func trap() []byte { return assembled(0x00) }
