//go:build !linux || !(amd64 || arm64)

package memory

// image is what there is on Linux only.
type image struct{}

func newImage(*Snapshot, int) (*image, error) { return nil, errNoHome }

func (*image) close() error { return nil }

func (*image) mapImage() ([]byte, error) { return nil, errNoHome }

// pagemap is what there is on Linux only.
type pagemap struct{}

func openPagemap() (*pagemap, error) { return nil, errNoHome }

func (*pagemap) close() error { return nil }

func (*pagemap) written([]byte, func(from, to int)) error { return errNoHome }

func unmap([]byte) error { return errNoHome }

func forget([]byte) error { return errNoHome }
