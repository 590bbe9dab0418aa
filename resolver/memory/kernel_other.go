//go:build !linux || !(amd64 || arm64)

package memory

// Elsewhere all memory is the garbage collector's: what Linear needs is Linux's own.
func reserve(uint64) []byte { return nil }

func release([]byte) {}

func discard([]byte) error { return errNoHome }

// image is what there is on Linux only.
type image struct{ bytes []byte }

func newImage([]run, int) (*image, error) { return nil, errNoHome }

func (*image) mapOver([]byte) error { return errNoHome }

func (*image) close() error { return nil }

// pagemap is what there is on Linux only.
type pagemap struct{}

func openPagemap() (*pagemap, error) { return nil, errNoHome }

func (*pagemap) close() error { return nil }

func (*pagemap) written([]byte, func(from, to int)) error { return errNoHome }
