package history

import (
	"strconv"
	"strings"
	"time"
)

// Missed returns what was acknowledged before a time, if a read that began then shows neither that nor anything that its
// writer wrote later, and "" otherwise. The key has one writer, which numbers its values: name-1, name-2.
func Missed(all []Operation, began time.Duration, values []string) string {
	last, value := -1, ""
	for _, o := range all {
		if n := number(o.Values); o.Kind == Put && o.Outcome == Acked && o.At+o.Took < began && n > last {
			last, value = n, o.Values[0]
		}
	}
	if number(values) >= last {
		return ""
	}
	return value
}

// number is the greatest number that a writer gave to one of these values, -1 for none.
func number(values []string) int {
	most := -1
	for _, v := range values {
		_, digits, _ := strings.Cut(v, "-")
		if n, err := strconv.Atoi(digits); err == nil {
			most = max(most, n)
		}
	}
	return most
}
