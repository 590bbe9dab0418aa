//go:build !race

package fuel_test

const slow = 3 // other tests run at the same time

const raced = false
