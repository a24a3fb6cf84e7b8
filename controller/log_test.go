package controller

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestLoggerFormats(t *testing.T) {
	var b bytes.Buffer
	log, err := NewLogger(&b, "info", "auto")
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("unseen")
	log.Info("seen", zap.String("stack", "shop"), zap.Duration("duration", 1500*time.Millisecond))
	var entry map[string]any
	if err := json.Unmarshal(b.Bytes(), &entry); err != nil {
		t.Fatalf("what is no terminal gets %q: %v", b.String(), err)
	}
	if entry["msg"] != "seen" || entry["stack"] != "shop" || entry["duration"] != "1.5s" || entry["level"] != "info" {
		t.Errorf("entry %v", entry)
	}

	b.Reset()
	if log, err = NewLogger(&b, "debug", "console"); err != nil {
		t.Fatal(err)
	}
	log.Debug("seen", zap.String("stack", "shop"))
	if !strings.Contains(b.String(), "DEBUG\tseen\t{\"stack\": \"shop\"}") {
		t.Errorf("console: %q", b.String())
	}
}

func TestLoggerRefuses(t *testing.T) {
	for _, c := range [][2]string{{"loud", "json"}, {"fatal", "json"}, {"info", "xml"}} {
		if _, err := NewLogger(&bytes.Buffer{}, c[0], c[1]); err == nil {
			t.Errorf("level %s, format %s: no error", c[0], c[1])
		}
	}
}
