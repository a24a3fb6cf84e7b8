package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

var (
	chaos      = flag.Bool("chaos", false, "do all that can go wrong as often as docs/reliability.md says (make chaos)")
	chaosState = flag.String("chaos-state", "", "the file in which TestChaos keeps what it has done, so that the next run goes on there")
	chaosRun   = flag.String("chaos-run", ".", "a pattern of the rows that TestChaos plays")
	chaosTimes = flag.Int("chaos-times", 0, "how often TestChaos plays each of them, whatever was done before; 0: what is due")
)

// soakLong is how long the soak of make chaos takes, unless -soak says something else.
const soakLong = 20 * time.Minute

// An ordeal is a row of the table: a fault, how often it is due, and how to do it. It is
// played in batches, each on a Swarm and with daemons that are fresh, and followed by one
// quiet half minute; the nth time is the same in every run.
type ordeal struct {
	name, what string
	due, batch int
	play       func(t *testing.T, from, n int) // times from, from+1, … of n
}

func ordeals() []ordeal {
	return []ordeal{
		{"kill", "kill -9 of skep before, or after, one of 12 kinds of writes", 120, 24, killBatch},
		{"api", "each of 6 API faults at 12 kinds of writes", 72, 12, callBatch},
		{"stream", "event stream cut, silent, half-open", 100, 30, streamBatch},
		{"leader", "raft leader's engine killed in the middle of changes", 10, 5, leaderBatch},
		{"partition", "2 managers against 1, with skep on either side", 10, 4, partitionBatch},
		{"lease-kill", "the acting one of 2, or 3, controllers killed", 40, 20, leaseBatch("kill")},
		{"lease-pause", "the acting one of 2, or 3, controllers paused for longer than the lease", 40, 20, leaseBatch("pause")},
		{"lease-stop", "the acting one of 2, or 3, controllers stopped", 40, 20, leaseBatch("stop")},
		{"source", "each of 6 ways for a directory to lie", 120, 30, sourceBatch},
		{"vanish", "stacks vanish, 1 to 10 of 10", 30, 10, vanishBatch},
		{"clock", "clock set an hour forth and back (66 moments, fake engine)", 5, 5, clockBatch},
		{"soak", "200 stacks, two controllers, all of this at random for " + soakLong.String(), 1, 1, soakBatch},
	}
}

// A batch are the times from, from+1, … of a row, n in all.
type batch struct{ from, n int }

// batches are what is left to do of a row of which had were done; or so many times more,
// if more is not 0.
func (o ordeal) batches(had, more int) []batch {
	due := o.due
	if more > 0 {
		due = had + more
	}
	var all []batch
	for from := had; from < due; from += o.batch {
		all = append(all, batch{from, min(o.batch, due-from)})
	}
	return all
}

// TestChaosGoesOn sees that what was done is not done again, and that what is asked for
// once more is.
func TestChaosGoesOn(t *testing.T) {
	o := ordeal{due: 10, batch: 4}
	for _, c := range []struct {
		had, more int
		want      string
	}{
		{0, 0, "[{0 4} {4 4} {8 2}]"}, {4, 0, "[{4 4} {8 2}]"}, {9, 0, "[{9 1}]"}, {10, 0, "[]"}, {12, 0, "[]"},
		{0, 3, "[{0 3}]"}, {10, 5, "[{10 4} {14 1}]"},
	} {
		if got := fmt.Sprint(o.batches(c.had, c.more)); got != c.want {
			t.Errorf("%d done, %d more: %s, want %s", c.had, c.more, got, c.want)
		}
	}
	file := filepath.Join(t.TempDir(), "state")
	want := map[string]done{"kill": {Times: 24, Failed: 1, Took: time.Minute, Last: time.Unix(1e9, 0).UTC()}}
	if had, err := readDone(file); err != nil || len(had) != 0 {
		t.Errorf("at first: %v, %v", had, err)
	}
	if err := writeDone(file, want); err != nil {
		t.Error(err)
	}
	if had, err := readDone(file); err != nil || fmt.Sprint(had) != fmt.Sprint(want) {
		t.Errorf("read %v, %v; want %v", had, err, want)
	}
	if err := os.WriteFile(file, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readDone(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("damaged: %v", err)
	}
}

// done is what is kept of a row.
type done struct {
	Times  int           `json:"times"`
	Failed int           `json:"failed"` // batches
	Took   time.Duration `json:"took"`
	Last   time.Time     `json:"last"`
}

// TestChaos plays the rows that have not been played as often as is due, notes each batch
// when it is over, and ends with a table.
func TestChaos(t *testing.T) {
	if !*chaos {
		t.Skip("make chaos runs it")
	}
	rows, err := regexp.Compile("^(" + *chaosRun + ")$")
	if err != nil {
		t.Fatalf("-chaos-run: %v", err)
	}
	if *chaosRun == "." {
		rows = regexp.MustCompile("")
	}
	had, err := readDone(*chaosState)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { t.Logf("so far:\n%s", table(had)) }()
	for _, o := range ordeals() {
		if !rows.MatchString(o.name) {
			continue
		}
		for _, b := range o.batches(had[o.name].Times, *chaosTimes) {
			began := time.Now()
			good := t.Run(fmt.Sprintf("%s from %d", o.name, b.from), func(t *testing.T) { o.play(t, b.from, b.n) })
			d := had[o.name]
			d.Times, d.Took, d.Last = b.from+b.n, d.Took+time.Since(began), time.Now().UTC().Truncate(time.Second)
			if !good {
				d.Failed++
			}
			had[o.name] = d
			if err := writeDone(*chaosState, had); err != nil {
				t.Error(err)
			}
		}
	}
}

func readDone(file string) (map[string]done, error) {
	had := map[string]done{}
	text, err := os.ReadFile(file)
	if file == "" || errors.Is(err, fs.ErrNotExist) {
		return had, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &had)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was done (remove %s to begin anew): %w", file, err)
	}
	return had, nil
}

func writeDone(file string, had map[string]done) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(had, "", "  ")
	if err == nil {
		err = replaceFile(file, string(text)+"\n")
	}
	if err != nil {
		return fmt.Errorf("note what was done: %w", err)
	}
	return nil
}

func table(had map[string]done) string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "fault\ttimes\tof\tbatches failed\ttook\tonce more")
	for _, o := range ordeals() {
		d := had[o.name]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\tmake chaos RUN=%s TIMES=%d\n", o.what, d.Times, o.due, d.Failed, d.Took.Round(time.Second), o.name, min(o.batch, o.due))
	}
	_ = w.Flush()
	return out.String()
}

// share deals times from, from+1, … out to so many players.
func share(from, n, players int) [][]int {
	hands := make([][]int, min(n, players))
	for i := range n {
		hands[i%len(hands)] = append(hands[i%len(hands)], from+i)
	}
	return hands
}

// killBatch takes a new stack to each point; the Swarm is shared by six daemons, each of
// which dies on its own.
func killBatch(t *testing.T, from, n int) {
	l := breakable(t)
	var rigs []*rig
	hands := share(from, n, 6)
	for i := range hands {
		rigs = append(rigs, newRig(t, l, fmt.Sprintf("killed%d", i), i%len(l.Nodes), ""))
	}
	all := make([][]*victim, len(rigs))
	each(indices(rigs), func(i int) {
		first := rigs[i].victims("first" + strconv.Itoa(i))
		together(first, 2*time.Minute, (*victim).change)
		rigs[i].measure()
		all[i] = first
		for _, nth := range hands[i] {
			p, after := points[nth%len(points)], (nth+nth/len(points))%2 == 1
			v := rigs[i].victims(fmt.Sprintf("kill%d", nth))
			v[0].meets(p)
			strikes(v, []strike{{p, rigs[i].kill(after)}})
			all[i] = append(all[i], v...)
		}
	})
	rest(t, rigs...)
	for _, vs := range all {
		wellStill(vs...)
	}
}

// callBatch takes new stacks to their points side by side, three daemons a share each.
func callBatch(t *testing.T, from, n int) {
	l := breakable(t)
	var rigs []*rig
	hands := share(from, n, 3)
	for i := range hands {
		rigs = append(rigs, newRig(t, l, fmt.Sprintf("called%d", i), i%len(l.Nodes), ""))
	}
	all := make([][]*victim, len(rigs))
	each(indices(rigs), func(i int) {
		first := rigs[i].victims("first" + strconv.Itoa(i))
		together(first, 2*time.Minute, (*victim).change)
		rigs[i].measure()
		var vs []*victim
		var at []strike
		kinds := apiFaults()
		for _, nth := range hands[i] {
			vs = append(vs, rigs[i].victims(fmt.Sprintf("api%d", nth))...)
			at = append(at, strike{points[nth%len(points)], kinds[(nth+nth/len(points))%len(kinds)]})
		}
		each(indices(vs), func(j int) { vs[j].meets(at[j].point) })
		strikes(vs, at)
		all[i] = append(first, vs...)
	})
	rest(t, rigs...)
	for _, vs := range all {
		wellStill(vs...)
	}
}

func streamBatch(t *testing.T, from, n int) {
	l := breakable(t)
	var rigs []*rig
	hands := share(from, n, 3)
	for i := range hands {
		rigs = append(rigs, newRig(t, l, fmt.Sprintf("streams%d", i), i%len(l.Nodes), ""))
	}
	all := make([]*victim, len(rigs))
	each(indices(rigs), func(i int) {
		v := rigs[i].victims(fmt.Sprintf("stream%d", i))[0]
		all[i] = v
		v.change()
		v.survives(2 * time.Minute)
		rigs[i].measure()
		for _, nth := range hands[i] {
			v.streamFails(nth)
		}
	})
	rest(t, rigs...)
	wellStill(all...)
}

func leaderBatch(t *testing.T, _, n int) {
	q := newQuorum(t)
	for range n {
		q.leaderDies()
	}
	rest(t, q.rigs()...)
	wellStill(q.victims()...)
}

func partitionBatch(t *testing.T, from, n int) {
	q := newQuorum(t)
	for nth := from; nth < from+n; nth++ {
		q.splits(nth%2 == 0, nth/2%2 == 0)
	}
	rest(t, q.rigs()...)
	wellStill(q.victims()...)
}

// leaseBatch plays half of its rounds with two controllers and half with three.
func leaseBatch(how string) func(t *testing.T, from, n int) {
	return func(t *testing.T, from, n int) {
		each(share(from, n, 2), func(hand []int) {
			controllers := 2 + (hand[0]-from)%2
			t.Run(fmt.Sprintf("of %d", controllers), func(t *testing.T) { compete(t, how, controllers, len(hand)) })
		})
	}
}

func sourceBatch(t *testing.T, from, n int) {
	each(share(from, n, 3), func(hand []int) {
		t.Run(fmt.Sprintf("from %d", hand[0]), func(t *testing.T) {
			r := newSourceRig(t, fmt.Sprintf("source%d", hand[0]), 6)
			for _, nth := range hand {
				r.lies(sourceFaults[nth%len(sourceFaults)])
			}
		})
	})
}

func vanishBatch(t *testing.T, from, n int) {
	r := newSourceRig(t, fmt.Sprintf("vanish%d", from), 10)
	for nth := from; nth < from+n; nth++ {
		r.vanish(1 + nth%r.size)
	}
}

// clockBatch asks package reconcile: the clock of this machine is not the tests' to set.
func clockBatch(t *testing.T, _, n int) {
	cmd := exec.CommandContext(t.Context(), "go", "test", "-run", "^TestClock", "-count", strconv.Itoa(n), "./reconcile")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", cmd.Args, err, out)
	}
}

func soakBatch(t *testing.T, _, n int) {
	d := soakLong
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "soak" {
			d = *soakFor
		}
	})
	for range n {
		soaks(t, d, *seedOf)
	}
}
