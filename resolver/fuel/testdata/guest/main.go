// Package main is a Go guest: floats, maps, goroutines, recursion, panics.
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"sort"
	"strings"
)

func main() {}

//go:wasmexport floats
func floats(n int32) float64 {
	sum := 0.0
	for i := range n {
		x := float64(i) / 7
		sum += math.Sin(x)*math.Sqrt(x+1) - math.Pow(x, 1.5)/math.Max(1, x*x)
	}
	return sum
}

//go:wasmexport maps
func maps(n int32) int64 {
	m := map[string][]int{}
	for i := range int(n) {
		k := fmt.Sprint("k", i*7919%31)
		m[k] = append(m[k], i)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return -1
	}
	var back map[string][]int
	if err := json.Unmarshal(b, &back); err != nil {
		return -2
	}
	keys := make([]string, 0, len(back))
	for k := range back {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	h := int64(17)
	for _, c := range strings.Join(keys, ",") {
		h = h*31 + int64(c)
	}
	return h
}

//go:wasmexport recurse
func recurse(n int32) int32 {
	if n < 2 {
		return 1
	}
	return recurse(n-1) + n
}

//go:wasmexport panics
func panics(n int32) (out int32) {
	defer func() {
		if recover() != nil {
			out = -n
		}
	}()
	ch := make(chan int32)
	go func() { ch <- n }()
	a := []int32{1, 2, 3}
	return a[<-ch]
}
