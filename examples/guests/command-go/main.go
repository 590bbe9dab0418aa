// Command command-go is the cart merge as a program: a request in JSON on standard input, the answer in
// JSON on standard output.
//
//	GOOS=wasip1 GOARCH=wasm go build -ldflags=-s -o cart.wasm .
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"dynamo/examples/cart-merge/cart"
)

// request is what of the store's request a cart needs. In JSON, Go's []byte is base64.
type request struct {
	Siblings []struct {
		Value []byte `json:"value_base64"`
	} `json:"siblings"`
}

type response struct {
	Status      string `json:"status"`
	Value       []byte `json:"value_base64,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	Message     string `json:"message,omitempty"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cart:", err) // to the store's log
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	var req request
	if err := json.NewDecoder(in).Decode(&req); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	return json.NewEncoder(out).Encode(answer(req))
}

func answer(req request) response {
	values := make([][]byte, 0, len(req.Siblings))
	for _, s := range req.Siblings {
		values = append(values, s.Value)
	}
	merged, err := cart.Merge(values)
	if err != nil {
		return response{Status: "error", Message: err.Error()}
	}
	return response{Status: "value", Value: merged, ContentType: cart.ContentType}
}
