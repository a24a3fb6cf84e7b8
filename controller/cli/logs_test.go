package cli

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

func frame(stream byte, text string) string {
	head := []byte{stream, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	return string(head) + text
}

func TestEachFrame(t *testing.T) {
	for _, tt := range []struct {
		in, want, err string
	}{
		{in: "", want: ""},
		{in: frame(1, "a\n") + frame(2, "b\r\n") + frame(1, ""), want: "stdout a,stderr b,stdout "},
		{in: frame(1, "a\n") + frame(3, "Error grabbing logs: node n2 is not available\n"), want: "stdout a", err: "node n2 is not available"},
		{in: frame(1, "whole\n") + frame(1, "cut short\n")[:12], want: "stdout whole", err: "unexpected EOF"},
		{in: "HTTP/1.1 200 OK\r\n", err: "no stream of logs"},
		{in: frame(9, "x"), err: "no stream of logs"},
	} {
		var got []string
		err := eachFrame(strings.NewReader(tt.in), func(stream, text string) error {
			got = append(got, stream+" "+text)
			return nil
		})
		if strings.Join(got, ",") != tt.want {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: error %v, want %q", tt.in, err, tt.err)
		}
	}
	full := errors.New("disk full")
	if err := eachFrame(strings.NewReader(frame(1, "a")), func(string, string) error { return full }); !errors.Is(err, full) {
		t.Errorf("error %v, want the printer's", err)
	}
}

func TestLine(t *testing.T) {
	s := &loggedService{stack: "shop", key: "web", nodes: map[string]string{"n1": "host1"}, tasks: map[string]swarm.Task{"t2": {Slot: 2}, "g1": {}}}
	const details = "com.docker.swarm.node.id=%N,com.docker.swarm.service.id=s,com.docker.swarm.task.id=%T "
	of := func(node, task string) string { return strings.NewReplacer("%N", node, "%T", task).Replace(details) }
	for text, want := range map[string]logLine{
		"2026-01-02T12:00:00.5Z " + of("n1", "t2") + "GET /": {Time: noon.Add(time.Second / 2), Task: "web.2", TaskID: "t2", Node: "host1", Line: "GET /"},
		"2026-01-02T12:00:00Z " + of("n9", "t9") + " in ":    {Time: noon, Task: "web", TaskID: "t9", Node: "n9", Line: " in "},
		"2026-01-02T12:00:00Z " + of("n1", "g1"):             {Time: noon, Task: "web", TaskID: "g1", Node: "host1"},
		"no time, no details":                                {Task: "web", Line: "no time, no details"},
	} {
		want.Stack, want.Service, want.Stream = "shop", "web", "stdout"
		if got := s.line("stdout", text); got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

// Colours stay; what moves the cursor, names windows or rings does not.
func TestHarmless(t *testing.T) {
	for text, want := range map[string]string{
		"plain\tümlaut ✓":                   "plain\tümlaut ✓",
		"\x1b[31mred\x1b[0m":                "\x1b[31mred\x1b[0m\x1b[0m",
		"\x1b[2J\x1b[Hgone":                 "gone",
		"\x1b]0;title\x07text":              "text",
		"\x1b]8;;http://x\x1b\\link":        "link",
		"a\rb\x00c\x07d\u0085e":             "abcde",
		"\x1b":                              "",
		"\x1b[?1049h\x1b[1;31mx":            "\x1b[1;31mx\x1b[0m",
		"\x1b[38:2::1:2:3mcolour by colons": "colour by colons",
	} {
		if got := harmless(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestWhoPrinted(t *testing.T) {
	line := logLine{Task: "web.2", TaskID: "abc", Node: "host\x1b1", Line: "x", Stream: "stderr"}
	var b bytes.Buffer
	l := logging{app: &app{out: &b}, text: true}
	if err := l.print(line); err != nil || b.String() != "web.2@host 1 | x\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
	l.whole = true
	if got := l.who(line); got != "web.2.abc@host 1" {
		t.Errorf("%q", got)
	}
}
