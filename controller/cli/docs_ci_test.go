package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// planJobs are the scripts of docs/ci.md that plan and comment, by forge.
func planJobs(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/ci.md")
	if err != nil {
		t.Fatal(err)
	}
	jobs := map[string]string{}
	for _, block := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		var file struct {
			Name string
			On   map[string]any
			Jobs map[string]struct {
				If    string
				Steps []struct {
					Name, Run string
				}
			}
			Plan struct {
				Script []string
				Rules  []struct{ If string }
			}
		}
		if yaml.Unmarshal([]byte(block[1]), &file) != nil {
			continue // a list
		}
		if job, ok := file.Jobs["plan"]; ok {
			if _, ok := file.On["pull_request"]; !ok || len(file.On) != 1 || !strings.Contains(job.If, "head.repo.full_name == github.repository") {
				t.Errorf("on %v, if %q: a fork may get at secrets", file.On, job.If)
			}
			for _, step := range job.Steps {
				if step.Name == "Plan" || step.Name == "Comment" {
					jobs["github"] += step.Run
				}
			}
		}
		if len(file.Plan.Script) > 0 {
			if len(file.Plan.Rules) != 1 || !strings.Contains(file.Plan.Rules[0].If, "$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_PROJECT_ID") {
				t.Errorf("rules %v: a fork may get at secrets", file.Plan.Rules)
			}
			jobs["gitlab"] = strings.Join(file.Plan.Script, "\n")
		}
	}
	if len(jobs) != 2 {
		t.Fatalf("found the jobs %v, want two", jobs)
	}
	return jobs
}

// programs stand in for those that the jobs call: skep prints a plan and ends as it is
// told, gh and curl write down what they are asked and answer with the comments there are.
var programs = map[string]string{
	"skep": `echo '<!-- skep plan -->'; exit $CODE`,
	"gh": `echo "gh $@" >> "$CALLS"
while [ $# -gt 0 ]; do
  if [ "$1" = --jq ]; then jq -r "$2" "$COMMENTS"; fi
  shift
done`,
	"curl": `echo "curl $@" >> "$CALLS"
case "$*" in
*/user) echo '{"id": 7}' ;;
*sort=asc*) cat "$COMMENTS" ;;
esac`,
}

// The jobs of docs/ci.md write one comment, and the same one again; they take
// differences for good, and say nothing where nobody can tell.
func TestPlanJobsOfDocs(t *testing.T) {
	if _, err := exec.LookPath("jq"); err != nil {
		t.Log("there is no jq here, which these jobs ask: only their form is checked")
		planJobs(t)
		return
	}
	mine := `{"id": 42, "body": "<!-- skep plan -->\nold", "user": {"login": "github-actions[bot]"}, "author": {"id": 7}}`
	others := `{"id": 41, "body": "<!-- skep plan -->\nmine!", "user": {"login": "mallory"}, "author": {"id": 8}}, {"id": 40, "body": "see <!-- skep plan -->", "user": {"login": "github-actions[bot]"}, "author": {"id": 7}}`
	wants := map[string]map[string]string{
		"github": {"new": "gh api --silent repos/o/r/issues/5/comments -F body=@", "again": "gh api --silent -X PATCH repos/o/r/issues/comments/42 -F body=@"},
		"gitlab": {"new": "--data-urlencode body@plan.md https://gitlab.test/api/v4/projects/3/merge_requests/5/notes\n", "again": "-X PUT --data-urlencode body@plan.md https://gitlab.test/api/v4/projects/3/merge_requests/5/notes/42\n"},
	}
	for forge, script := range planJobs(t) {
		for name, tt := range map[string]struct {
			code     int
			comments string
			want     string
		}{
			"new":           {0, "[" + others + "]", "new"},
			"differences":   {1, "[]", "new"},
			"again":         {1, "[" + others + "," + mine + "]", "again"},
			"twice":         {1, "[" + mine + "," + strings.Replace(mine, "42", "43", 1) + "]", "again"},
			"cannot tell":   {2, "[" + mine + "]", ""},
			"another error": {127, "[" + mine + "]", ""},
		} {
			t.Run(forge+"/"+name, func(t *testing.T) {
				calls, err := runJob(t, script, tt.code, tt.comments)
				if (err != nil) != (tt.want == "") {
					t.Errorf("%v", err)
				}
				if tt.want == "" && calls != "" {
					t.Errorf("asked the forge, without a plan:\n%s", calls)
				}
				last := calls[strings.LastIndex(strings.TrimSuffix(calls, "\n"), "\n")+1:]
				if !strings.Contains(last, wants[forge][tt.want]) {
					t.Errorf("wrote with %q, want %q", last, wants[forge][tt.want])
				}
				if strings.Contains(calls, "t0ken") {
					t.Errorf("the token is in a command line:\n%s", calls)
				}
			})
		}
	}
}

// runJob runs a script as the forges do, and gives what was asked of them.
func runJob(t *testing.T, script string, code int, comments string) (calls string, err error) {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range programs {
		write(filepath.Join(bin, name), "#!/bin/sh\n"+text+"\n")
	}
	write(filepath.Join(dir, "comments"), comments)
	write(filepath.Join(dir, "calls"), "")
	cmd := exec.CommandContext(t.Context(), "bash", "-eo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "CODE=" + fmt.Sprint(code), "CALLS=" + filepath.Join(dir, "calls"), "COMMENTS=" + filepath.Join(dir, "comments"),
		"RUNNER_TEMP=" + dir, "GITHUB_STEP_SUMMARY=" + filepath.Join(dir, "summary"), "GITHUB_REPOSITORY=o/r", "PR=5",
		"CI_API_V4_URL=https://gitlab.test/api/v4", "CI_PROJECT_ID=3", "CI_MERGE_REQUEST_IID=5", "PLAN_TOKEN=t0ken",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	text, readErr := os.ReadFile(filepath.Join(dir, "calls"))
	if readErr != nil {
		t.Fatal(readErr)
	}
	return string(text), err
}
