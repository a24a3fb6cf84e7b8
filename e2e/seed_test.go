package e2e

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/e2e/lab/swarmlab"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// The compose files are the seed document's, to the letter.
//
//go:embed testdata/seed
var seedFiles embed.FS

func seed(t *testing.T, step int) string {
	t.Helper()
	text, err := seedFiles.ReadFile(fmt.Sprintf("testdata/seed/step%d.yml", step))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const nginxConf = `server {
    listen 80;
    location / {
        proxy_pass http://web:8000;
    }
}
`

// TestSeedJourney walks the author's way: two steps that fail as they failed for
// him, with skep's status saying in a sentence what he had to find by hand, and
// then deployment, rolling update, scaling and the unhealthy version.
func TestSeedJourney(t *testing.T) {
	t.Parallel()
	const stack = "myappstack"
	t.Cleanup(func() { _, _ = lab.Docker(context.Background(), 0, "config", "rm", "nginx_config") }) // when the stack is gone
	cleanUp(t, stack)
	if err := lab.RemoveImage(t.Context(), "my-fastapi-app:1.0"); err != nil { // of an earlier run
		t.Fatal(err)
	}
	seedImage(t, []int{0}, "my-fastapi-app:1.0", "v1.0") // on the first manager alone, as the author's was
	d := start(t, &daemon{})

	t.Log("step 1: an image, and a bind mount, that exist on one node")
	d.write(stack+"/nginx/nginx.conf", nginxConf)
	for i := range lab.Nodes { // hosts of the lab share this machine's files
		if err := lab.Hide(t.Context(), i, d.specs); err != nil {
			t.Fatal(err)
		}
	}
	d.write(stack+"/docker-compose.yml", seed(t, 1))
	warns(t, d, "bind-relative")
	awaitReason(t, d, stack, "rejected on", "No such image: my-fastapi-app:1.0", "registry")
	seedImage(t, []int{0, 1, 2}, "my-fastapi-app:1.0", "v1.0")
	awaitReason(t, d, stack, "rejected on", "bind source path does not exist", "use a config")

	t.Log("step 2: the config is external and not there yet")
	d.write(stack+"/docker-compose.yml", seed(t, 2))
	await(t, 30*time.Second, "the missing config is named", func() error {
		_, text := d.get("/metrics")
		if !strings.Contains(text, `skep_stack_condition{condition="Stalled",stack="myappstack"} 1`) || !strings.Contains(d.log.String(), "nginx_config") {
			return errors.New("not told")
		}
		return nil
	})

	t.Log("step 3: everything is where it belongs")
	seedImage(t, []int{0, 1, 2}, "masungil/my-fastapi-app:1.0", "v1.0")
	seedImage(t, []int{0, 1, 2}, "masungil/my-fastapi-app:2.0", "v2.0")
	if _, err := lab.Client(0).ConfigCreate(t.Context(), swarm.ConfigSpec{Annotations: swarm.Annotations{Name: "nginx_config"}, Data: []byte(nginxConf)}); err != nil {
		t.Fatal(err)
	}
	d.write(stack+"/docker-compose.yml", seed(t, 3))
	awaitRunning(t, 2*time.Minute, stack+"_web", "masungil/my-fastapi-app:1.0", 3)
	awaitRunning(t, time.Minute, stack+"_nginx", "nginx:latest", 1)
	awaitReady(t, d, stack, 1)

	t.Log("step 4: the rolling update, start-first, without a failed request")
	p := probe(t, stack+"_nginx", "http://127.0.0.1/")
	d.write(stack+"/docker-compose.yml", seed(t, 4))
	awaitRunning(t, 4*time.Minute, stack+"_web", "masungil/my-fastapi-app:2.0", 3)
	awaitReady(t, d, stack, 1)
	settle := time.NewTimer(10 * time.Second)
	<-settle.C
	res := p.stop()
	if res.Failed > 0 || res.Requests < 500 || res.Versions["v1.0"] == 0 || res.Versions["v2.0"] == 0 {
		t.Errorf("rolling update: %d of %d requests failed, versions %v, errors %v", res.Failed, res.Requests, res.Versions, res.Errors)
	}
	t.Logf("rolling update: %d requests, %d failed, versions %v, longest gap %s", res.Requests, res.Failed, res.Versions, res.LongestGap)

	t.Log("step 6 of the guide: scaling by hand goes back, scaling by the file stays")
	docker(t, "service", "scale", "--detach", stack+"_web=5")
	await(t, 30*time.Second, "3 replicas again", func() error {
		if n := *service(t, stack+"_web").Spec.Mode.Replicated.Replicas; n != 3 {
			return fmt.Errorf("%d replicas", n)
		}
		return nil
	})
	d.write(stack+"/docker-compose.yml", strings.Replace(seed(t, 4), "replicas: 3", "replicas: 5", 1))
	awaitRunning(t, 2*time.Minute, stack+"_web", "masungil/my-fastapi-app:2.0", 5)
	d.write(stack+"/docker-compose.yml", seed(t, 3))
	awaitRunning(t, 4*time.Minute, stack+"_web", "masungil/my-fastapi-app:1.0", 3)
	awaitReady(t, d, stack, 1)

	t.Log("step 5: 2.0 is unhealthy, Swarm goes back to 1.0, and skep does not try again")
	seedImage(t, []int{0, 1, 2}, "masungil/my-fastapi-app:2.0", "v2.0", "APP_SICK=1")
	p = probe(t, stack+"_nginx", "http://127.0.0.1/")
	d.write(stack+"/docker-compose.yml", seed(t, 5))
	await(t, 4*time.Minute, "the release has failed and is back", func() error {
		res := status(t, d.owner, stack)
		if res.Release.Phase != reconcile.PhaseFailed || len(running(t, stack+"_web", "masungil/my-fastapi-app:1.0")) != 3 || len(running(t, stack+"_web", "")) != 3 {
			return fmt.Errorf("release %d is %s: %s", res.Release.Number, res.Release.Phase, res.Message)
		}
		return nil
	})
	failed := service(t, stack+"_web").Version.Index
	always(t, 30*time.Second, "the failed release is not tried again", func() error {
		if s := service(t, stack+"_web"); s.Version.Index != failed && s.UpdateStatus != nil && s.UpdateStatus.State == swarm.UpdateStateUpdating {
			return fmt.Errorf("it is being updated again")
		}
		return nil
	})
	d.stop()
	d = start(t, &daemon{owner: d.owner, specs: d.specs, log: d.log})
	always(t, 10*time.Second, "nor after a restart", func() error {
		if n := len(running(t, stack+"_web", "masungil/my-fastapi-app:1.0")); n != 3 {
			return fmt.Errorf("%d of 3 run 1.0", n)
		}
		return nil
	})
	res = p.stop()
	if res.Failed > 0 {
		t.Errorf("rollback: %d of %d requests failed: %v", res.Failed, res.Requests, res.Errors)
	}
	t.Logf("rollback: %d requests, %d failed, versions %v", res.Requests, res.Failed, res.Versions)
}

// warns says that the files have a finding, as skep validate tells it.
func warns(t *testing.T, d *daemon, code string) {
	t.Helper()
	snap := spec.NewScanner(d.specs, spec.Options{}).Scan(t.Context())
	for _, s := range snap.Stacks {
		for _, f := range s.Findings {
			if f.Code == code {
				return
			}
		}
	}
	t.Errorf("validate does not tell %s: %v", code, snap.Problems)
}

// awaitReason waits until status tells, of some service, a reason with all words.
func awaitReason(t *testing.T, d *daemon, stack string, words ...string) {
	t.Helper()
	await(t, time.Minute, "status tells the reason", func() error {
		var told []string
	services:
		for _, s := range status(t, d.owner, stack).Services {
			told = append(told, s.Reason)
			for _, w := range words {
				if !strings.Contains(s.Reason, w) {
					continue services
				}
			}
			t.Logf("status says: %s", s.Reason)
			return nil
		}
		return fmt.Errorf("it says %q", told)
	})
}

func seedImage(t *testing.T, nodes []int, ref, version string, env ...string) {
	t.Helper()
	img, err := lab.Web(t.Context(), ref, append([]string{"APP_VERSION=" + version}, env...)...)
	if err == nil {
		err = lab.LoadImageOn(t.Context(), nodes, img)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A prober asks from inside a service's container.
type prober struct {
	t *testing.T
	p *swarmlab.Probe
}

func probe(t *testing.T, service, url string) *prober {
	t.Helper()
	task := running(t, service, "")[0]
	nodes, err := lab.Client(0).NodeList(t.Context(), swarm.NodeListOptions{Filters: filters.NewArgs(filters.Arg("id", task.NodeID))})
	if err != nil || len(nodes) != 1 {
		t.Fatalf("node of %s: %v", service, err)
	}
	for i, n := range lab.Nodes {
		if n.Name == nodes[0].Description.Hostname {
			p, err := lab.Probe(t.Context(), i, task.Status.ContainerStatus.ContainerID, url)
			if err != nil {
				t.Fatal(err)
			}
			return &prober{t, p}
		}
	}
	t.Fatalf("%s runs on %s, which is no node of the lab", service, nodes[0].Description.Hostname)
	return nil
}

func (p *prober) stop() swarmlab.ProbeResult {
	p.t.Helper()
	res, err := p.p.Stop()
	if err != nil {
		p.t.Fatal(err)
	}
	return res
}
