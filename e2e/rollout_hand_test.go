package e2e

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

func webFile(image string) string {
	return stackFile(quick, app{image: image, replicas: 2}.yaml("web"))
}

// Somebody asks for the release before, and it stays until resume.
func pins(s *scene) {
	s.deploys(1, webFile("app:1.0"))
	s.deploys(2, webFile("app:2.0"))
	s.probe("web")
	began := time.Now()
	s.skepSays("rollback", s.stack)
	v := s.running(time.Minute, map[string]string{"web": "app:1.0"}, 2)
	s.told.note = fmt.Sprintf("back by hand after %s", v.at.Sub(began).Round(100*time.Millisecond))
	s.await(time.Minute, "what was asked for is a healthy release", func(v *view) error {
		if m := v.newest(s.stack); m.number != 3 || m.phase != "Healthy" {
			return fmt.Errorf("release %d is %s", m.number, m.phase)
		}
		return nil
	})
	s.settles()
	if text := s.skepSays("history", s.stack); !strings.Contains(text, "hand") {
		s.fail("history does not tell of the hand:\n%s", text)
	}
}

func unpins(s *scene) {
	if v, _ := s.now(); v.runs(s.stack+"_web", "app:1.0", 2) != nil {
		s.fail("the pin did not hold")
	}
	s.skepSays("resume", s.stack)
	s.running(2*time.Minute, map[string]string{"web": "app:2.0"}, 2)
	s.answers(true)
}

// A suspended stack is left as it is, whatever its file says, and whatever is done to it.
func suspends(s *scene) {
	s.deploys(1, webFile("app:1.0"))
	s.skepSays("suspend", s.stack)
	s.held(30*time.Second, "Suspended")
	s.say(webFile("app:2.0"))
	s.docker("service", "update", "--detach", "--quiet", "--label-add", "hand=1", s.stack+"_web")
	s.await(10*time.Second, "the hand's label is there", func(v *view) error {
		if v.services[s.stack+"_web"].Spec.Labels["hand"] == "" {
			return errors.New("it is not")
		}
		return nil
	})
}

func resumes(s *scene) {
	if v, _ := s.now(); v.services[s.stack+"_web"].Spec.Labels["hand"] == "" || v.newest(s.stack).number != 1 {
		s.fail("it was written while it was suspended")
	}
	s.skepSays("resume", s.stack)
	s.phase(2*time.Minute, 2, "Healthy")
	s.running(time.Minute, map[string]string{"web": "app:2.0"}, 2)
}

// What failed is tried again when somebody says so, and then it is good: the world was
// to blame.
func pardonFails(s *scene) {
	s.deploys(1, webFile("app:1.0"))
	s.say(stackFile(quick, app{image: "app:2.0", replicas: 2}.with("placement: {constraints: [node.labels.pardon == yes]}").yaml("web")))
	s.bad(2*time.Minute, 2, map[string]string{"web": "app:1.0"}, 2)
	s.docker("node", "update", "--label-add", "pardon=yes", s.lab.Nodes[0].Name)
}

func pardonMends(s *scene) {
	s.skepSays("resume", s.stack)
	s.phase(2*time.Minute, 3, "Healthy")
	s.running(time.Minute, map[string]string{"web": "app:2.0"}, 2)
}
