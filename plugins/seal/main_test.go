package main

import (
	"os"
	"path/filepath"
	"testing"

	"dynamo/resolver/laws"
)

// TestModulesAreOfTheirSources: whoever changes a source, a sample or a module runs make plugins.
func TestModulesAreOfTheirSources(t *testing.T) {
	want, err := os.ReadFile("../" + sumsFile)
	if err != nil {
		t.Fatal(err)
	}
	got, err := sums("..")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("plugins/%s does not match the files: run make plugins\nthe files:\n%s\nthe list:\n%s", sumsFile, got, want)
	}
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	modules := filepath.Join(dir, "wasm")
	if run(dir, modules, true) == nil {
		t.Error("no modules are no error")
	}
	write("wasm/x.wasm", "\x00asm\x01\x00\x00\x00")
	if run(dir, modules, true) == nil {
		t.Error("missing samples are no error")
	}
	write("samples/x.txt", "1\n2\n")
	write("COMPILER", "c")
	write("build.sh", "b")
	for range 2 { // the second time replaces the samples
		if err := run(dir, modules, true); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(modules, "x.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := laws.Samples(b); err != nil || len(s) != 2 || string(s[1]) != "2" {
		t.Errorf("samples %q, %v", s, err)
	}
	before, err := os.ReadFile(filepath.Join(dir, sumsFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"wasm/x.wasm", "samples/x.txt", "src/y.c", "lib/y.h", "COMPILER", "build.sh"} {
		write(name, "changed")
		after, err := sums(dir)
		if err != nil || string(after) == string(before) {
			t.Errorf("a change of %s does not show: %v", name, err)
		}
		before = after
	}
}
