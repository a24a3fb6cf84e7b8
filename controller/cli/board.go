package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/skep-io/skep/reconcile"
)

// A board shows how stacks are coming along while a verb waits for them. On a terminal
// it is a few lines that are drawn again in place, with what goes by above them; else
// it is a line for each thing that became different, without times, which would make
// every line a new one.
type board struct {
	out   io.Writer
	quiet bool
	// size is the terminal's, in characters; nil where out is none, or wants no ANSI
	// sequences.
	size func() (width, height int)

	drawn  int               // lines that stand on the terminal
	stacks []stackStatus     // as shown last
	said   map[string]string // by stack and service: what was said of it last
}

// board makes one on standard error.
func (a *app) board(quiet bool) *board {
	b := &board{out: a.err, quiet: quiet, said: map[string]string{}}
	if f, ok := a.err.(*os.File); ok && a.colour(a.err) {
		b.size = func() (int, int) {
			width, height, err := term.GetSize(int(f.Fd()))
			if err != nil || width <= 0 || height <= 0 {
				return 80, 24
			}
			return width, height
		}
	}
	return b
}

// show tells how stacks are.
func (b *board) show(stacks []stackStatus, now time.Time) {
	if b.quiet {
		return
	}
	if b.size == nil {
		for i := range stacks {
			b.sayStack(&stacks[i])
		}
		return
	}
	b.stacks = stacks
	b.draw(now)
}

// tell prints a line that stays, above the board.
func (b *board) tell(line string) {
	if b.quiet {
		return
	}
	b.wipe()
	fmt.Fprintln(b.out, line)
}

// draw puts the board where it stood.
func (b *board) draw(now time.Time) {
	var lines []string
	for i := range b.stacks {
		lines = append(lines, boardLines(&b.stacks[i], now)...)
	}
	width, height := b.size()
	if most := max(height-2, 1); len(lines) > most {
		lines = append(lines[:most-1], fmt.Sprintf("… and %d lines more", len(lines)-most+1))
	}
	b.wipe()
	for _, line := range lines {
		fmt.Fprintln(b.out, cut(line, width-1))
	}
	b.drawn = len(lines)
}

// wipe takes the board off the terminal: up to its first line, and all below it away.
func (b *board) wipe() {
	if b.drawn > 0 {
		fmt.Fprintf(b.out, "\x1b[%dA\r\x1b[J", b.drawn)
		b.drawn = 0
	}
}

// end takes the board away for what is printed next.
func (b *board) end() { b.wipe() }

// cut shortens a line to what fits, so that the terminal does not break it in two.
func cut(line string, width int) string {
	if width < 1 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width-1]) + "…"
}

// boardLines are a stack's lines: what is under way in it, and a line for each service
// that is not as it should be, or all of them where nothing is the matter.
func boardLines(s *stackStatus, now time.Time) []string {
	lines := []string{stackLine(s, now)}
	busy := slices.DeleteFunc(slices.Clone(s.Services), func(v reconcile.ServiceStatus) bool { return v.Health == reconcile.Healthy })
	if len(busy) == 0 {
		return lines
	}
	width := 0
	for _, v := range busy {
		width = max(width, utf8.RuneCountInString(serviceName(v)))
	}
	for _, v := range busy {
		name := serviceName(v)
		line := fmt.Sprintf("  %s%s  %s  %s", name, strings.Repeat(" ", width-utf8.RuneCountInString(name)), doneOf(v), waitsFor(v))
		lines = append(lines, line+times(now, v.Since, v.Until))
	}
	return lines
}

// stackLine is "shop: release 7 is converging (2 of 3 services) [1m2s, at most 8m58s more]".
func stackLine(s *stackStatus, now time.Time) string {
	done := 0
	for _, v := range s.Services {
		if v.Health == reconcile.Healthy {
			done++
		}
	}
	count := fmt.Sprintf(" (%d of %d services)", done, len(s.Services))
	if len(s.Services) == 0 {
		count = ""
	}
	if s.Progress == nil {
		return s.Name + ": " + stackWord(s) + count
	}
	return s.Name + ": " + stackWord(s) + count + times(now, s.Progress.Since, s.Progress.Until)
}

func stackWord(s *stackStatus) string {
	switch {
	case s.State != nil && s.State.IsSuspended():
		return "suspended"
	case s.Progress != nil && s.Phase != "":
		return fmt.Sprintf("release %d is %s", s.Release, s.Progress.Step)
	case s.Progress != nil:
		return s.Progress.Step
	}
	return strings.ToLower(s.Status)
}

func serviceName(v reconcile.ServiceStatus) string {
	if v.Key != "" {
		return reconcile.Printable(v.Key)
	}
	return reconcile.Printable(v.Name)
}

// doneOf is how many tasks of the newest version run, of those that shall, and how many
// older ones still do: "0/2 new, 2 old".
func doneOf(v reconcile.ServiceStatus) string {
	done := fmt.Sprintf("%d/%d", v.Updated, v.Desired)
	if v.Running > v.Updated && v.Health != reconcile.Healthy {
		done += fmt.Sprintf(" new, %d old", v.Running-v.Updated)
	}
	return done
}

// waitsFor is what a service waits for, in words, or in one.
func waitsFor(v reconcile.ServiceStatus) string {
	switch {
	case v.Health == reconcile.Healthy:
		return ""
	case v.Reason != "":
		return strings.TrimPrefix(reconcile.Printable(v.Reason), serviceName(v)+": ")
	case v.Code != "":
		return v.Code
	}
	return strings.ToLower(string(v.Health))
}

// times is " [12s, at most 48s more]", of what is known of it.
func times(now, since, until time.Time) string {
	var words []string
	if d := now.Sub(since); !since.IsZero() && d >= 0 {
		words = append(words, span(d))
	}
	if left := until.Sub(now); !until.IsZero() && left > 0 {
		words = append(words, "at most "+span(left)+" more")
	}
	if len(words) == 0 {
		return ""
	}
	return " [" + strings.Join(words, ", ") + "]"
}

func span(d time.Duration) string { return d.Round(time.Second).String() }

// sayStack prints what became different of a stack.
func (b *board) sayStack(s *stackStatus) {
	b.say(s.Name, s.Name+": "+stackWord(s))
	for _, v := range s.Services {
		word := v.Code
		if word == "" || v.Health == reconcile.Healthy {
			word = strings.ToLower(string(v.Health))
		}
		b.say(s.Name+"\x00"+v.Name, fmt.Sprintf("%s: %s %s %s", s.Name, serviceName(v), doneOf(v), word), waitsFor(v))
	}
}

// say prints a line, with what explains it, unless the same was said.
func (b *board) say(key, line string, more ...string) {
	if b.said[key] == line {
		return
	}
	b.said[key] = line
	if text := strings.Join(more, ""); text != "" && !strings.HasSuffix(strings.ToLower(line), " "+strings.ToLower(text)) {
		line += ": " + text
	}
	fmt.Fprintln(b.out, line)
}
