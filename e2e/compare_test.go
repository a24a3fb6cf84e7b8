package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

var compare = flag.Bool("compare", false, "play the bad versions without skep as well, and tell what becomes of them (make compare)")

// without is how long Swarm is left alone with a bad version.
const without = 90 * time.Second

// TestCompare deploys the bad versions of TestRollouts by `docker stack deploy`, and
// tells where that leaves them. It judges nothing: it is the other half of a table.
func TestCompare(t *testing.T) {
	if !*compare {
		t.Skip("make compare runs it")
	}
	th := open(t)
	var scenes []*scene
	left := map[string]*remains{}
	by := map[string]kind{}
	for _, k := range append(kinds(), withActions()...) {
		s := &scene{theatre: th, stack: "bad-" + k.name}
		scenes, by[s.stack], left[s.stack] = append(scenes, s), k, &remains{}
	}
	play(scenes, func(s *scene) { *left[s.stack] = by[s.stack].alone(s) })
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "scenario\tSwarm says\told tasks\tbad tasks running\tothers\trequests\tfailed")
	for _, s := range scenes {
		r := left[s.stack]
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%d\t%d\n", s.stack, r.says, r.old, r.bad, r.others, r.asked, r.failed)
	}
	_ = w.Flush()
	t.Logf("without skep, %s after the bad version:\n%s", without, &out)
}

// remains is what a bad version leaves.
type remains struct {
	says          string
	old, bad      int
	others        string
	asked, failed int
}

// alone deploys a good version and then the bad one, by Docker's own hand.
func (k kind) alone(s *scene) remains {
	service := s.stack + "_web"
	deploy := func(file string) {
		s.say(file)
		s.docker("stack", "deploy", "--detach", "--resolve-image", "never", "-c", filepath.Join(s.specs, s.stack+".yml"), s.stack)
	}
	deploy(k.file("app:1.0"))
	s.running(2*time.Minute, map[string]string{"web": "app:1.0"}, k.good.replicas)
	s.probe("web")
	if *traces != "" {
		defer record(s.t, s.lab.Client(0), service, traceFile(s.stack))()
	}
	deploy(k.badFile())
	end := time.Now().Add(without)
	v := s.await(2*without, "the time is over", func(v *view) error {
		if v.at.Before(end) {
			return fmt.Errorf("until %s", end)
		}
		return nil
	})
	s.answers(false)
	r := remains{says: "nothing", asked: s.told.probe.Requests, failed: s.told.probe.Failed}
	if u := v.services[service].UpdateStatus; u != nil {
		r.says = string(u.State)
	}
	others := map[string]int{}
	for _, t := range v.tasks[service] {
		// What is bad by its environment or placement alone is called app:bad, too.
		switch runs, old := t.Status.State == swarm.TaskStateRunning, t.Spec.ContainerSpec.Image == "app:1.0"; {
		case runs && old:
			r.old++
		case runs:
			r.bad++
		default:
			others[string(t.Status.State)]++
		}
	}
	r.others = strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(others), "map["), "]")
	if r.others == "" {
		r.others = "-"
	}
	return r
}
