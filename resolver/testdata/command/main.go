// Command command merges lists of lines, one program run for each merge.
package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

type sibling struct {
	Value []byte `json:"value_base64"`
}

type request struct {
	Siblings []sibling `json:"siblings"`
}

type response struct {
	Status string `json:"status"`
	Value  []byte `json:"value_base64,omitempty"`
}

var runs int

func main() {
	runs++
	in, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	var req request
	if err := json.Unmarshal(in, &req); err != nil {
		panic(err)
	}
	lines := map[string]bool{}
	for _, s := range req.Siblings {
		if len(s.Value) == 0 {
			fmt.Fprintln(os.Stderr, "an empty list")
			os.Exit(3)
		}
		for line := range strings.Lines(string(s.Value)) {
			lines[strings.TrimSpace(line)] = true
		}
	}
	file := "opened"
	if _, err := os.ReadFile("/etc/hostname"); err != nil {
		file = "refused"
	}
	out := strings.Join(slices.Sorted(maps.Keys(lines)), "\n") + fmt.Sprintf("\nruns %d, clock %d, random %s, environment %v, arguments %v, file %s",
		runs, time.Now().UnixMilli(), rand.Text(), os.Environ(), os.Args, file)
	if err := json.NewEncoder(os.Stdout).Encode(response{"value", []byte(out)}); err != nil {
		panic(err)
	}
}
