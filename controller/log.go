package controller

import (
	"fmt"
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"
)

// NewLogger makes a logger that writes to w. Level is debug, info, warn or error.
// Format is console, json, or auto: console where w is a terminal, else json.
// Messages are constants; what differs is in the fields stack, service, revision,
// release, action, reason, notifier, duration, error and detail (a sentence for people).
func NewLogger(w io.Writer, level, format string) (*zap.Logger, error) {
	at, err := zapcore.ParseLevel(level)
	if err != nil || at > zapcore.ErrorLevel {
		return nil, fmt.Errorf("log level %q is none of debug, info, warn, error", level)
	}
	encoder, err := newEncoder(w, format)
	if err != nil {
		return nil, err
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), at)), nil
}

func newEncoder(w io.Writer, format string) (zapcore.Encoder, error) {
	if format == "auto" || format == "" {
		format = "json"
		if isTerminal(w) {
			format = "console"
		}
	}
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	switch format {
	case "json":
		return zapcore.NewJSONEncoder(config), nil
	case "console":
		config.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		config.EncodeLevel = zapcore.CapitalLevelEncoder
		if isTerminal(w) && os.Getenv("NO_COLOR") == "" {
			config.EncodeLevel = zapcore.CapitalColorLevelEncoder
		}
		return zapcore.NewConsoleEncoder(config), nil
	}
	return nil, fmt.Errorf("log format %q is none of auto, console, json", format)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
