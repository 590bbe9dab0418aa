package main

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

// csvHeader is the first line of a file of events.
const csvHeader = "time,customer,invoice,sku,quantity"

// Bounds of one event: what a key, and a cart of sane size, can take.
const (
	maxCustomerBytes = 1024
	maxSKUBytes      = 256
	maxEventQuantity = 1 << 31
)

// event is one line: somebody puts quantity of sku into the cart, or takes it out if quantity is negative.
type event struct {
	customer, sku string
	quantity      int64
}

// readEvents reads a file of events, at most limit of them (0 = all).
func readEvents(name string, limit int) (_ []event, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	events, err := parseEvents(f, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return events, nil
}

// parseEvents reads events, compressed with gzip or not. An error names the line.
func parseEvents(in io.Reader, limit int) ([]event, error) {
	buffered := bufio.NewReader(in)
	in = buffered
	// A file of fewer than two bytes is not compressed, and has no header either.
	if magic, err := buffered.Peek(2); err == nil && string(magic) == "\x1f\x8b" {
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, err
		}
		in = z
	}
	r := csv.NewReader(in)
	r.ReuseRecord = true
	header, err := r.Read()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if got := strings.Join(header, ","); got != csvHeader {
		return nil, fmt.Errorf("line 1: want the header %s, got %.80q", csvHeader, got)
	}
	var events []event
	for limit == 0 || len(events) < limit {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		e, err := parseEvent(fields)
		if err != nil {
			line, _ := r.FieldPos(0)
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		events = append(events, e)
	}
	if len(events) == 0 {
		return nil, errors.New("there are no events in it")
	}
	return events, nil
}

func parseEvent(fields []string) (event, error) {
	customer, sku := strings.Clone(fields[1]), strings.Clone(fields[3])
	if customer == "" || len(customer) > maxCustomerBytes {
		return event{}, fmt.Errorf("the customer must have 1 to %d bytes", maxCustomerBytes)
	}
	if sku == "" || len(sku) > maxSKUBytes || !utf8.ValidString(sku) || strings.ContainsRune(sku, utf8.RuneError) {
		return event{}, fmt.Errorf("the SKU must be proper text of 1 to %d bytes", maxSKUBytes)
	}
	quantity, err := strconv.ParseInt(fields[4], 10, 64)
	if err != nil || quantity > maxEventQuantity || quantity < -maxEventQuantity {
		return event{}, fmt.Errorf("the quantity must be an integer from -%d to %d, not %.40q", maxEventQuantity, maxEventQuantity, fields[4])
	}
	return event{customer: customer, sku: sku, quantity: quantity}, nil
}

// task is an event and the nodes, by index, through which it is read and written.
type task struct {
	event
	readVia, writeVia int
}

// deal chooses the nodes of every event, the same ones for the same seed. Files list the items of a purchase one after
// the other, and the clients work on neighbours at the same time: where these are of one customer, they are written
// through different nodes. So one cart is written at once by several clients through several nodes.
func deal(events []event, nodes int, seed uint64) []task {
	random := rand.New(rand.NewPCG(seed, 0))
	tasks := make([]task, len(events))
	for i, e := range events {
		t := task{event: e, readVia: random.IntN(nodes), writeVia: random.IntN(nodes)}
		if i > 0 && nodes > 1 && tasks[i-1].customer == e.customer && tasks[i-1].writeVia == t.writeVia {
			t.writeVia = (t.writeVia + 1 + random.IntN(nodes-1)) % nodes
		}
		tasks[i] = t
	}
	return tasks
}
