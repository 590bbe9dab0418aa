package background

import (
	"fmt"
	"log/slog"
)

// Log is pebble's logger.
type Log struct {
	To *slog.Logger
	// Fatal is told of what ends the database; its answer is ignored.
	Fatal func(error) error
}

// Infof implements pebble.Logger.
func (l *Log) Infof(format string, args ...any) { l.To.Debug(fmt.Sprintf(format, args...)) }

// Errorf implements pebble.Logger.
func (l *Log) Errorf(format string, args ...any) { l.To.Error(fmt.Sprintf(format, args...)) }

// Fatalf reports the failure and never returns. Pebble goes on right after a call that returns, with a
// log or a MANIFEST that it has just found broken, and would acknowledge what is on no disk. Ending the
// process here would take the shutdown out of the owner's hands, and a panic would unwind through
// locks which pebble does not release: so this goroutine is parked, with whatever it holds, until the
// owner ends the process.
func (l *Log) Fatalf(format string, args ...any) {
	l.Fatal(fmt.Errorf("pebble: "+format, args...)) //nolint:errcheck // what operations answer from now on
	select {}
}
