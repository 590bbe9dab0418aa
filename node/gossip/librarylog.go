package gossip

import (
	"context"
	"log"
	"log/slog"
	"net"
	"strings"
	"time"

	"dynamo/node/cluster"
)

// repeatEvery is the pause after which a complaint of the library that differs in numbers only is worth a line again.
const repeatEvery = 30 * time.Second

// libraryLog turns the library's lines ("[WARN] memberlist: text from=address") into log records. What the library calls
// an error is mostly a peer that went away, so errors become warnings; and the refusal of strangers, of which it says
// something with every packet, becomes one clear line a minute for each host.
type libraryLog struct {
	log    *slog.Logger
	rare   *cluster.Limiter // strangers
	repeat *cluster.Limiter
}

func newLibraryLog(l *slog.Logger, rare *cluster.Limiter, now func() time.Time) *log.Logger {
	return log.New(&libraryLog{log: l, rare: rare, repeat: cluster.NewLimiter(now, repeatEvery)}, "", 0)
}

// Write implements io.Writer; p is one line.
func (l *libraryLog) Write(p []byte) (int, error) {
	level, text := splitLevel(strings.TrimSpace(string(p)))
	remote := remoteOf(text)
	switch {
	case remote == "": // about what this node sent itself
	case strings.Contains(text, "unacceptable label"):
		level = slog.LevelDebug
		l.stranger("cluster", remote, "gossip of another cluster is refused", "cluster", foreignCluster(text))
	case secretMismatch(text):
		level = slog.LevelDebug
		l.stranger("secret", remote, "gossip packet that this cluster's secret cannot open is refused: the sender has another secret or none", "err", text)
	}
	if strings.Contains(text, "ignoring alive message") || strings.Contains(text, "Conflicting address") {
		level = slog.LevelDebug // the delegates have said it better
	}
	if level > slog.LevelDebug && !l.repeat.Allow(withoutDigits(text)) {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, "memberlist: "+text)
	return len(p), nil
}

// stranger reports a refusal, at most once a minute for each kind and host.
func (l *libraryLog) stranger(kind, remote, message, key, value string) {
	if l.rare.Allow(kind + " " + hostOf(remote)) {
		l.log.Error(message, "remote", remote, key, value)
	}
}

// secretMismatch recognises what the library says when one side has another secret than the other, or none.
func secretMismatch(text string) bool {
	for _, part := range []string{
		"no installed keys could decrypt", "Decrypt packet failed", "encryption is configured but remote state is not encrypted",
		"remote state is encrypted and encryption is not configured",
	} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// splitLevel takes the level and the library's name off a line.
func splitLevel(line string) (slog.Level, string) {
	level := slog.LevelInfo
	if strings.HasPrefix(line, "[") {
		if name, rest, ok := strings.Cut(line[1:], "]"); ok {
			switch name {
			case "DEBUG":
				level = slog.LevelDebug
			case "WARN", "ERR", "ERROR":
				level = slog.LevelWarn
			}
			line = rest
		}
	}
	return level, strings.TrimPrefix(strings.TrimSpace(line), "memberlist: ")
}

// remoteOf finds the address at the end of a line; "" if there is none.
func remoteOf(text string) string {
	_, from, _ := strings.Cut(text, "from=")
	from, _, _ = strings.Cut(from, " ")
	return from
}

// foreignCluster finds the cluster's name in the label that the library quotes.
func foreignCluster(text string) string {
	_, label, _ := strings.Cut(text, "unacceptable label \"")
	label, _, _ = strings.Cut(label, "\"")
	name, ok := strings.CutPrefix(label, labelPrefix)
	if !ok {
		return "unknown"
	}
	return name
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

func withoutDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, s)
}
