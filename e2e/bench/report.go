//go:build linux

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// The targets. All but two are ratios; memory and the time from a file to its
// update are what a person notices, whatever the machine.
const (
	passLists    = 3.0      // a pass over all: at most so many lists of all services
	passLoop     = 1.0 / 30 // and of the docker loop
	deployRaw    = 1.5      // a first deployment: at most so many raw creates
	deployLoop   = 1.0 / 3  // and of the docker loop
	changeWithin = 500 * time.Millisecond
	residentMost = 64 << 20
	idleMost     = 0.01 // of a core
	// boundedServices is up to how many services those two are bounded; beyond they
	// may grow with the number of stacks, which reportGrowth judges.
	boundedServices = 1000
	// linear leaves room for what is not the same from turn to turn.
	linear = 1.25
)

// A line is one measured thing of the table.
type line struct {
	what, figure, against, ratio, target string
	holds                                string
}

func verdict(ok bool) string {
	if ok {
		return "yes"
	}
	return "NO"
}

// atMost is a line about a ratio that has a bound.
func atMost(what string, figure time.Duration, against string, floor time.Duration, most float64) line {
	r := ratio(figure, floor)
	return line{what, round(figure), fmt.Sprintf("%s %s", against, round(floor)), times(r), "≤ " + times(most), verdict(r <= most)}
}

// lines are those of a size.
func (m *size) lines() []line {
	pass, list := median(m.pass), median(m.list)
	share := 0.0
	if m.idle > 0 {
		share = m.idleCPU.Seconds() / m.idle.Seconds()
	}
	lines := []line{
		atMost("steady pass over all", pass, "one ServiceList", list, passLists),
		atMost("", pass, "docker loop", median(m.loopPass), passLoop),
		{what: "  of it: the files", figure: round(median(m.scan)), ratio: times(ratio(median(m.scan), list))},
		{what: "  of it: listing the Swarm", figure: round(median(m.refresh)), ratio: times(ratio(median(m.refresh), list))},
		{what: "first pass of a new process", figure: round(median(m.restart)), against: "one ServiceList " + round(list), ratio: times(ratio(median(m.restart), list))},
		{what: "docker loop, unchanged", figure: round(median(m.loopPass)), against: "one ServiceList " + round(median(m.loopList)), ratio: times(ratio(median(m.loopPass), median(m.loopList)))},
		atMost("first deployment", median(m.skep), "raw creates", median(m.raw), deployRaw),
		atMost("", median(m.skep), "docker loop", median(m.loop), deployLoop),
		{"file → update, median", round(median(m.changes)), fmt.Sprintf("slowest %s of %d", round(highest(m.changes)), len(m.changes)), "", "≤ " + changeWithin.String(), verdict(median(m.changes) <= changeWithin)},
		{"resident memory, idle", bytes(m.resident), "at most ever " + bytes(m.most), "", "≤ " + bytes(residentMost), verdict(m.resident <= residentMost)},
		{"CPU, idle", fmt.Sprintf("%.2f%% of a core", 100*share), fmt.Sprintf("%s in %s", m.idleCPU, round(m.idle)), "", "≤ 1%", verdict(share <= idleMost)},
	}
	if m.services > boundedServices {
		for i := len(lines) - 2; i < len(lines); i++ {
			lines[i].target, lines[i].holds = "", ""
		}
	}
	return lines
}

// report prints a size's table.
func report(out io.Writer, m *size) {
	fmt.Fprintf(out, "\n%d stacks, %d services\n\n", m.stacks, m.services)
	table(out, m.lines())
}

func table(out io.Writer, lines []line) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tFIGURE\tAGAINST\tRATIO\tTARGET\tHOLDS")
	for _, l := range lines {
		fmt.Fprintln(w, strings.TrimRight(strings.Join([]string{l.what, l.figure, l.against, l.ratio, l.target, l.holds}, "\t"), "\t "))
	}
	_ = w.Flush() // to the terminal: there is nobody to tell
}

// growth judges how a figure grew from one size to another: no more than the number
// of stacks, or than what the engine itself takes for it.
func growth(what string, small, large time.Duration, by, floor float64) line {
	r, most := ratio(large, small), linear*max(by, floor)
	return line{what, round(large), "before " + round(small), times(r), "≤ " + times(most), verdict(r <= most)}
}

// reportGrowth says what got worse than the number of stacks.
func reportGrowth(out io.Writer, small, large *size) {
	by := float64(large.stacks) / float64(small.stacks)
	lists := ratio(median(large.list), median(small.list))
	creates := ratio(median(large.raw), median(small.raw))
	memory := growth("", time.Duration(small.resident), time.Duration(large.resident), by, 0)
	memory.what, memory.figure, memory.against = "resident memory, idle", bytes(large.resident), "before "+bytes(small.resident)
	fmt.Fprintf(out, "\nfrom %d to %d stacks: %s as many\n\n", small.stacks, large.stacks, times(by))
	table(out, []line{
		{what: "the engine's ServiceList", figure: round(median(large.list)), against: "before " + round(median(small.list)), ratio: times(lists)},
		{what: "the engine's raw creates", figure: round(median(large.raw)), against: "before " + round(median(small.raw)), ratio: times(creates)},
		growth("steady pass over all", median(small.pass), median(large.pass), by, lists),
		growth("first pass of a new process", median(small.restart), median(large.restart), by, lists),
		growth("first deployment", median(small.skep), median(large.skep), by, creates),
		growth("file → update, median", median(small.changes), median(large.changes), by, 0),
		growth("CPU, idle, a minute", small.idlePerMinute(), large.idlePerMinute(), by, lists),
		memory,
	})
}

// idlePerMinute is the CPU time of an idle minute.
func (m *size) idlePerMinute() time.Duration {
	if m.idle <= 0 {
		return 0
	}
	return time.Duration(float64(m.idleCPU) * float64(time.Minute) / float64(m.idle))
}

// report prints what was asked of the engine while nothing changed.
func (q *quiet) report(out io.Writer) {
	fmt.Fprintf(out, "\n%d stacks, %d services, nothing changes for %s\n\n", q.stacks, q.services, q.lasted.Round(time.Second))
	minutes := q.lasted.Minutes()
	var ops []string
	for _, op := range slices.Sorted(maps.Keys(q.byOperation)) {
		ops = append(ops, fmt.Sprintf("%s %.0f", op, q.byOperation[op]))
	}
	share := q.cpu.Seconds() / q.lasted.Seconds()
	table(out, []line{
		{what: "requests", figure: fmt.Sprintf("%.0f", q.requests), against: fmt.Sprintf("%.1f a minute", q.requests/minutes)},
		{"writes", fmt.Sprintf("%.0f", q.writes), "", "", "0", verdict(q.writes == 0)},
		{"objects whose version moved", fmt.Sprint(q.moved), "", "", "0", verdict(q.moved == 0)},
		{"resident memory", bytes(q.resident), "at most ever " + bytes(q.most), "", "≤ " + bytes(residentMost), verdict(q.resident <= residentMost)},
		{"CPU", fmt.Sprintf("%.2f%% of a core", 100*share), "", "", "≤ 1%", verdict(share <= idleMost)},
	})
	fmt.Fprintf(out, "\nrequests by operation: %s\n", strings.Join(ops, ", "))
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

func highest(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	return slices.Max(d)
}

func ratio(a, b time.Duration) float64 {
	if b <= 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// times writes a ratio as people read it: 2.5×, or 1/40 where it is a small part.
func times(r float64) string {
	switch {
	case r <= 0:
		return "–"
	case r < 0.5:
		return fmt.Sprintf("1/%.3g", 1/r)
	}
	return fmt.Sprintf("%.3g×", r)
}

// round leaves three digits or so.
func round(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}

func bytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }

// label is a label's value in a series of a metric, as /metrics writes it.
func label(series, metric, name string) (string, bool) {
	rest, ok := strings.CutPrefix(series, metric+"{")
	if !ok {
		return "", false
	}
	_, rest, ok = strings.Cut(rest, name+`="`)
	if !ok {
		return "", false
	}
	value, _, ok := strings.Cut(rest, `"`)
	return value, ok
}
