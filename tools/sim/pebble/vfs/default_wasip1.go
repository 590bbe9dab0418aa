//go:build wasip1

package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// A simulated cluster keeps its disks in memory: the file system of the operating system is never used.
var errNoDisk = errors.New("there is no disk in WebAssembly")

var errNotEmpty = errors.New("directory not empty")

type defFS struct{}

func (defaultFS) Lock(name string) (io.Closer, error)    { return defFS{}.Lock(name) }
func (defaultFS) OpenDir(string) (File, error)           { return nil, errNoDisk }
func (defaultFS) GetDiskUsage(string) (DiskUsage, error) { return DiskUsage{}, errNoDisk }
func deviceIDFromFileInfo(fs.FileInfo) DeviceID          { return DeviceID{} }
func wrapOSFileImpl(*os.File) File                       { panic(errNoDisk) }
