package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const threeEvents = csvHeader + `
2024-05-02T09:00,ann,1,apple,2
2024-05-02T09:00,ann,1,"pear, green",1
2024-05-02T10:00,bob,2,apple,-3
`

func TestParseEvents(t *testing.T) {
	want := []event{{"ann", "apple", 2}, {"ann", "pear, green", 1}, {"bob", "apple", -3}}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write([]byte(threeEvents)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"plain": threeEvents, "gzip": zipped.String()} {
		for limit, n := range map[int]int{0: 3, 1: 1, 2: 2, 3: 3, 9: 3} {
			got, err := parseEvents(strings.NewReader(text), limit)
			if err != nil || !reflect.DeepEqual(got, want[:n]) {
				t.Errorf("%s, limit %d: got %v, %v, want %v", name, limit, got, err, want[:n])
			}
		}
	}
}

func TestParseEventsRefuses(t *testing.T) {
	line := func(s string) string { return csvHeader + "\n2024,ann,1,apple,1\n" + s + "\n" }
	for text, want := range map[string]string{
		"":                            "line 1",
		"x":                           "line 1",
		"a,b,c\n":                     "line 1",
		csvHeader + "\n":              "no events",
		line("2024,ann,1,pear"):       "wrong number of fields",
		line("2024,,1,pear,1"):        "line 3: the customer",
		line("2024,ann,1,,1"):         "line 3: the SKU",
		line("2024,ann,1,p\xffr,1"):   "line 3: the SKU",
		line("2024,ann,1,p\ufffdr,1"): "line 3: the SKU",
		line("2024,ann,1,pear,many"):  "line 3: the quantity",
		line("2024,ann,1,pear,1.5"):   "line 3: the quantity",
		line("2024,ann,1,pear,9223372036854775807"):                           "line 3: the quantity",
		line("2024," + strings.Repeat("a", maxCustomerBytes+1) + ",1,pear,1"): "line 3: the customer",
		"\x1f\x8bnot gzip": "gzip",
	} {
		if _, err := parseEvents(strings.NewReader(text), 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, want an error about %q", text, err, want)
		}
	}
}

func FuzzParseEvents(f *testing.F) {
	f.Add([]byte(threeEvents))
	f.Add([]byte(csvHeader + "\n,,,,\n"))
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		events, err := parseEvents(bytes.NewReader(b), 1000)
		if err != nil {
			return
		}
		for _, e := range events {
			c, err := cart{}.plus(e.sku, e.quantity).encode()
			if err != nil {
				t.Fatal(err)
			}
			back, err := parseCart(c)
			if _, ok := back[e.sku]; err != nil || !ok || e.customer == "" {
				t.Fatalf("%v became %s, %v", e, c, err)
			}
		}
	})
}

// TestSample: the sample is what the tutorial says it is.
func TestSample(t *testing.T) {
	events, err := readEvents("sample.csv", 0)
	if err != nil {
		t.Fatal(err)
	}
	returns := 0
	for _, e := range events {
		if e.quantity < 0 {
			returns++
		}
	}
	if len(events) < 50 || returns == 0 {
		t.Errorf("%d events, %d returns", len(events), returns)
	}
}

func TestDeal(t *testing.T) {
	var events []event
	for i := range 300 {
		events = append(events, event{fmt.Sprint("customer", i/10), fmt.Sprint("sku", i), 1})
	}
	tasks := deal(events, 3, 7)
	if !reflect.DeepEqual(tasks, deal(events, 3, 7)) {
		t.Error("the same seed gave another deal")
	}
	if reflect.DeepEqual(tasks, deal(events, 3, 8)) {
		t.Error("another seed gave the same deal")
	}
	reads, writes := make([]int, 3), make([]int, 3)
	for i, task := range tasks {
		if task.event != events[i] {
			t.Fatalf("event %d was dealt as %v", i, task.event)
		}
		if i > 0 && tasks[i-1].customer == task.customer && tasks[i-1].writeVia == task.writeVia {
			t.Errorf("events %d and %d write one cart through one node", i-1, i)
		}
		reads[task.readVia]++
		writes[task.writeVia]++
	}
	for n := range 3 {
		if reads[n] < 60 || writes[n] < 60 {
			t.Errorf("reads %v and writes %v are not spread over the nodes", reads, writes)
		}
	}
	for _, task := range deal(events, 1, 7) {
		if task.readVia != 0 || task.writeVia != 0 {
			t.Fatal("there is one node only")
		}
	}
}
