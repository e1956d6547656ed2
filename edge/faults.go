package edge

import (
	"log"
	"log/slog"
	"strings"
)

// faults is where net/http tells what befell it. A handler's panic and a listener that
// fails are logged. What clients did wrong is not: strangers would fill the log, and it
// carries their address.
func faults(to *slog.Logger) *log.Logger {
	return log.New(told(func(text string) {
		for _, begin := range []string{"http: panic serving ", "http2: panic serving "} {
			if rest, ok := strings.CutPrefix(text, begin); ok {
				_, what, _ := strings.Cut(rest, ": ") // behind the client's address
				to.Error("http handler panicked", "panic", what)
			}
		}
		if strings.HasPrefix(text, "http: Accept error") {
			to.Error("http connections not accepted", "err", strings.TrimSpace(text))
		}
	}), "", 0)
}

type told func(string)

func (f told) Write(b []byte) (int, error) {
	f(string(b))
	return len(b), nil
}
