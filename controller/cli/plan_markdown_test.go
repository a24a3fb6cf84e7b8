package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

var updateComments = flag.Bool("update-comments", false, "write testdata/comment anew")

// hostile is what somebody may write who wants a comment to be more than text.
var hostile = []string{
	"@everyone", "`@admin`", "</details><script>alert(1)</script>", "[x](https://evil.test)", "![x](https://evil.test/x.png)",
	"```\n/merge\n@admin", "~~~", "\n\n# heading", "<img src=x onerror=alert(1)>", "https://evil.test", "www.evil.test", "#123", "!45",
	"a``b```c````", "`", "``", " ` ", "&lt;b&gt;", "\\`", "<!-- skep plan -->", "\u202eevil", "\x1b[2J", "\xff\xfe", "   ", "| a | b |", "$`x`$", ":tada:",
}

func service(name string, order string, replicas uint64) *swarm.ServiceSpec {
	s := &swarm.ServiceSpec{Mode: swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &replicas}}, UpdateConfig: &swarm.UpdateConfig{Parallelism: 1, Order: order}}
	s.Name = name
	return s
}

// commentCases are what testdata/comment has a comment of each.
func commentCases() map[string]struct {
	p        planning
	snapshot *spec.Snapshot
	prune    bool
} {
	shop := &reconcile.Plan{
		Stack: "shop",
		Changes: []reconcile.Change{
			{Op: reconcile.OpRemove, Kind: reconcile.KindService, Name: "shop_old", Early: true},
			{Op: reconcile.OpCreate, Kind: reconcile.KindConfig, Name: "shop_proxy-0011", Key: "proxy"},
			{Op: reconcile.OpUpdate, Kind: reconcile.KindService, Name: "shop_db", Key: "db", Restarts: true, Spec: service("shop_db", "stop-first", 1), Fields: []reconcile.Field{
				{Path: "environment.PASSWORD", Old: "•••", New: "•••", Restarts: true},
			}},
			{Op: reconcile.OpUpdate, Kind: reconcile.KindService, Name: "shop_web", Key: "web", Restarts: true, Wave: 1, Spec: service("shop_web", "start-first", 3), Fields: []reconcile.Field{
				{Path: "image", Old: "web:1.0", New: "web:2.0", Restarts: true},
				{Path: "environment.NEW", New: "1", Restarts: true},
				{Path: "environment.GONE", Old: "1", Restarts: true},
			}},
			{Op: reconcile.OpReplace, Kind: reconcile.KindService, Name: "shop_job", Restarts: true, Wave: 1, Spec: &swarm.ServiceSpec{Mode: swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{}}}},
		},
		Findings: []spec.Finding{
			{Severity: spec.Warning, Code: "image-not-pinned", Service: "web", Message: "no registry answers (the tag is used as it is)"},
			{Severity: spec.Info, Code: "stop-first", File: "shop.yml", Line: 12, Service: "db", Message: "a volume that is written (old tasks stop first)"},
		},
	}
	held := &reconcile.Plan{
		Stack:    "blog",
		Held:     []reconcile.Change{{Op: reconcile.OpCreate, Kind: reconcile.KindService, Name: "blog_web", Key: "web", Spec: service("blog_web", "", 1)}},
		Findings: []spec.Finding{{Severity: spec.Error, Code: "external-missing", File: "blog/compose.yaml", Line: 3, Message: "there is no network public (create it)"}},
	}
	failed := &reconcile.Plan{Stack: "mail", Findings: []spec.Finding{{Severity: spec.Warning, Code: "release-failed", Message: "release 3 failed: web: its healthcheck failed"}}}
	same := func(names ...string) (plans []*reconcile.Plan) {
		for _, name := range names {
			plans = append(plans, &reconcile.Plan{Stack: name})
		}
		return plans
	}
	bad := &reconcile.Plan{Stack: "bad"}
	for i, s := range hostile {
		bad.Changes = append(bad.Changes, reconcile.Change{Op: reconcile.OpUpdate, Kind: reconcile.KindService, Name: s, Restarts: i < 3, Fields: []reconcile.Field{{Path: s, Old: s, New: s + s}}})
		bad.Findings = append(bad.Findings, spec.Finding{Severity: spec.Warning, File: s, Line: i, Service: s, Code: "x", Message: s})
	}
	var many []*reconcile.Plan
	for i := range 30 {
		plan := &reconcile.Plan{Stack: fmt.Sprintf("stack%02d", i)}
		for n := range 40 {
			plan.Changes = append(plan.Changes, reconcile.Change{Op: reconcile.OpCreate, Kind: reconcile.KindConfig, Name: fmt.Sprintf("%s_config%02d-%s", plan.Stack, n, strings.Repeat("0", 60))})
		}
		many = append(many, plan)
	}
	at := func(problems map[string][]spec.Finding) *spec.Snapshot {
		return &spec.Snapshot{Dir: "stacks", Revision: "1a2b3c4", Problems: problems}
	}
	type c = struct {
		p        planning
		snapshot *spec.Snapshot
		prune    bool
	}
	return map[string]c{
		"nothing":  {planning{plans: same("blog", "shop"), orphans: []string{"other"}}, at(nil), false},
		"changes":  {planning{plans: append(same("infra"), shop, failed)}, at(nil), false},
		"ref":      {planning{plans: []*reconcile.Plan{shop}}, &spec.Snapshot{Dir: "stacks at origin/main (1a2b3c4)", Revision: "1a2b3c4"}, false},
		"held":     {planning{plans: []*reconcile.Plan{held}}, at(map[string][]spec.Finding{"wiki": {{File: "wiki.yml", Line: 2, Severity: spec.Error, Code: "invalid-yaml", Message: "this is no YAML (mend it)"}}}), false},
		"removed":  {planning{plans: same("shop"), orphans: []string{"old", "older"}, blocked: &reconcile.Blockade{Names: []string{"old", "older"}, Of: 3}}, at(nil), true},
		"hostile":  {planning{plans: []*reconcile.Plan{bad}, orphans: hostile}, &spec.Snapshot{Dir: hostile[2], Revision: hostile[5], Problems: map[string][]spec.Finding{hostile[2]: bad.Findings, hostile[13]: nil}}, true},
		"too-long": {planning{plans: many}, at(nil), false},
	}
}

// The comments are as those in testdata/comment; -update-comments writes these anew.
func TestComments(t *testing.T) {
	for name, tt := range commentCases() {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := tt.p.printComment(&b, commentOn(tt.snapshot, nil), tt.prune); err != nil {
				t.Fatal(err)
			}
			checkComment(t, b.String())
			file := filepath.Join("testdata/comment", name+".md")
			if *updateComments {
				if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", b.String(), want)
			}
		})
	}
}

// What is named alone is told of.
func TestCommentOnSomeStacks(t *testing.T) {
	snapshot := &spec.Snapshot{Dir: "stacks", Revision: "x", Problems: map[string][]spec.Finding{"a": nil, "b": nil}}
	for _, names := range [][]string{nil, {"a"}, {"c"}} {
		var b bytes.Buffer
		if err := (&planning{}).printComment(&b, commentOn(snapshot, names), false); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a", "b"} {
			if strings.Contains(b.String(), "### `"+name+"`: invalid") != (names == nil || slices.Contains(names, name)) {
				t.Errorf("with %v:\n%s", names, b.String())
			}
		}
	}
	if len(snapshot.Problems) != 2 {
		t.Error("the snapshot was changed")
	}
}

// A comment's own lines, where ` stands for a code span. Nothing in it links, mentions,
// or is HTML, but for the three lines that are written out.
var commentLines = regexp.MustCompile("^(?:" + strings.Join([]string{
	"",
	"<!-- skep plan -->",
	"<details><summary>[0-9]+ lines</summary>",
	"</details>",
	"## skep plan: [a-z0-9 ,;()]+",
	"Of `(?:, revision `)?\\.",
	"### `: [a-z0-9 ,]+",
	"### Stacks to remove",
	"Their files are gone; volumes stay\\.",
	"This waits for a person: `",
	"Nothing of it is written (?:or removed )?until this is mended:",
	"Restarts in this order: `(?:, `)*(?: and [0-9]+ more)?\\.",
	"No changes: `(?:, `)*(?: and [0-9]+ more)?\\.",
	"No file here, and not removed: `(?:, `)*(?: and [0-9]+ more)?\\.",
	"\\*\\*Cut:\\*\\* a comment has no room for [0-9]+ sections?: `(?:, `)*(?: and [0-9]+ more)?\\.",
	"- \\*\\*(?:error|warning|info|finding)\\*\\* (?:` )*\\(`\\)",
}, "|") + ")$")

// checkComment reads a comment by CommonMark's rules of fences (4.5) and code spans
// (6.1), and sees that what is not in one of these is skep's own.
func checkComment(t interface{ Errorf(string, ...any) }, text string) (code []string) {
	if len(text) > 65_536 || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
		t.Errorf("%d bytes, or not text", len(text))
	}
	fence, folds := "", 0
	for _, line := range strings.Split(text, "\n") {
		if fence != "" {
			// One closes a fence that has as many backticks, up to three spaces before it.
			if bare := strings.TrimRight(strings.TrimLeft(line, " "), " \t"); len(bare) >= len(fence) && strings.Trim(bare, "`") == "" && len(line)-len(strings.TrimLeft(line, " ")) < 4 {
				if line != fence {
					t.Errorf("%q closes the fence %q", line, fence)
				}
				fence = ""
				continue
			}
			if line == "" || !strings.Contains("+-!", line[:1]) {
				t.Errorf("%q is no line of a diff", line)
			}
			code = append(code, line)
			continue
		}
		if rest := strings.TrimLeft(line, "`"); len(line)-len(rest) >= 3 && !strings.Contains(rest, "`") {
			if fence = line[:len(line)-len(rest)]; rest != "diff" {
				t.Errorf("a fence of %q", rest)
			}
			continue
		}
		own, spans := withoutCode(line)
		code = append(code, spans...)
		if !commentLines.MatchString(own) {
			t.Errorf("%q is nothing that skep writes, of %q", own, line)
		}
		folds += strings.Count(own, "<details>") - strings.Count(own, "</details>")
		if folds < 0 || folds > 1 {
			t.Errorf("folds do not match at %q", line)
		}
	}
	if fence != "" || folds != 0 {
		t.Errorf("a fence %q or a fold is open at the end", fence)
	}
	return code
}

// withoutCode puts one ` for each code span of a line, and gives these.
func withoutCode(line string) (own string, spans []string) {
	var b strings.Builder
	for line != "" {
		if line[0] != '`' {
			b.WriteByte(line[0])
			line = line[1:]
			continue
		}
		n := len(line) - len(strings.TrimLeft(line, "`"))
		end := closing(line[n:], n)
		if end < 0 {
			b.WriteString(strings.Repeat("<unclosed>", n))
			line = line[n:]
			continue
		}
		b.WriteByte('`')
		spans = append(spans, line[n:n+end])
		line = line[n+end+n:]
	}
	return b.String(), spans
}

// closing is where just so many backticks stand in a row.
func closing(s string, ticks int) int {
	for i := 0; i < len(s); {
		n := len(s[i:]) - len(strings.TrimLeft(s[i:], "`"))
		if n == ticks {
			return i
		}
		i += max(n, 1)
	}
	return -1
}

// The check itself sees what it is for.
func TestCheckComment(t *testing.T) {
	for _, bad := range []string{
		"@admin", "Of `a` @admin.", "Of ``a`.", "### [x](y): no changes", "```diff\n+ x", "```diff\n```\n+ x\n```", "```diff\n@x\n```", "<details><summary>1 lines</summary>",
		"</details>", "<b>", "```js\n```", "- **warning** `a` x (`b`)", "~~~\n+ x\n~~~", "\x1b", strings.Repeat("\n", 65_537), "    code", "\xff",
	} {
		var seen complaints
		checkComment(&seen, bad)
		if seen == 0 {
			t.Errorf("nothing is said of %.40q", bad)
		}
	}
}

type complaints int

func (c *complaints) Errorf(string, ...any) { *c++ }

// Whatever stands in files, a comment is text of this form, has room in a forge, and
// names what it shows or that it was cut.
func TestAnyComment(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.OneOf(rapid.SampledFrom(hostile), rapid.String(), rapid.StringMatching("[`~ \n@<>/\\\\*_-]{0,12}"), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		field := rapid.Custom(func(t *rapid.T) reconcile.Field {
			return reconcile.Field{Path: word.Draw(t, "path"), Old: word.Draw(t, "old"), New: strings.Repeat(word.Draw(t, "new"), rapid.IntRange(0, 200).Draw(t, "times"))}
		})
		change := rapid.Custom(func(t *rapid.T) reconcile.Change {
			c := reconcile.Change{Op: rapid.SampledFrom([]reconcile.Op{"create", "update", "remove", "replace"}).Draw(t, "op"), Kind: reconcile.KindService, Name: word.Draw(t, "name"),
				Restarts: rapid.Bool().Draw(t, "restarts"), Early: rapid.Bool().Draw(t, "early"), Fields: rapid.SliceOfN(field, 0, 3).Draw(t, "fields")}
			if rapid.Bool().Draw(t, "with spec") {
				c.Spec = service(c.Name, word.Draw(t, "order"), 3)
			}
			return c
		})
		finding := rapid.Custom(func(t *rapid.T) spec.Finding {
			return spec.Finding{File: word.Draw(t, "file"), Line: rapid.IntRange(0, 9).Draw(t, "line"), Severity: spec.Severity(rapid.SampledFrom([]string{"error", "warning", "info", "@x"}).Draw(t, "severity")),
				Code: word.Draw(t, "code"), Message: word.Draw(t, "message"), Service: word.Draw(t, "service")}
		})
		plan := rapid.Custom(func(t *rapid.T) *reconcile.Plan {
			p := &reconcile.Plan{Stack: word.Draw(t, "stack"), Findings: rapid.SliceOfN(finding, 0, 3).Draw(t, "findings")}
			changes := rapid.SliceOfN(change, 0, 20).Draw(t, "changes")
			if p.Changes = changes; rapid.Bool().Draw(t, "held") {
				p.Changes, p.Held = nil, changes
			}
			return p
		})
		p := planning{plans: rapid.SliceOfN(plan, 0, 5).Draw(t, "plans"), orphans: rapid.SliceOfN(word, 0, 30).Draw(t, "orphans"), whole: rapid.Bool().Draw(t, "whole")}
		problems := rapid.MapOfN(word, rapid.SliceOfN(finding, 0, 3), 0, 3).Draw(t, "problems")
		snapshot := &spec.Snapshot{Dir: word.Draw(t, "dir"), Revision: word.Draw(t, "revision"), Problems: problems}
		var b strings.Builder
		c := commentOn(snapshot, nil)
		if err := p.printComment(&b, c, rapid.Bool().Draw(t, "prune")); err != nil {
			t.Fatal(err)
		}
		checkComment(t, b.String())
		shown := strings.Count(b.String(), "\n### ")
		if m := regexp.MustCompile(`no room for ([0-9]+) section`).FindStringSubmatch(b.String()); m != nil {
			var n int
			_, _ = fmt.Sscan(m[1], &n)
			shown += n
		}
		if shown != len(c.sections) {
			t.Errorf("%d sections are shown or told to be cut, of %d", shown, len(c.sections))
		}
	})
}

// A code span shows the text that was put into it.
func TestAsCode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching("[ab` ]{0,9}")).Draw(t, "text")
		own, spans := withoutCode("x " + asCode(s) + " y")
		if own != "x ` y" || len(spans) != 1 {
			t.Fatalf("%q is %q: %q", s, asCode(s), own)
		}
		got := spans[0]
		if strings.HasPrefix(got, " ") && strings.HasSuffix(got, " ") && strings.TrimSpace(got) != "" {
			got = got[1 : len(got)-1]
		}
		if want := reconcile.Printable(s); got != want && strings.TrimSpace(want) != "" {
			t.Errorf("%q is shown as %q", s, got)
		}
	})
}

// Of sections that do not fit the last ones go, and those that would fit nowhere.
func TestCommentIsCut(t *testing.T) {
	c := &comment{head: []string{"head"}, tail: []string{"tail"}}
	for i, n := range []int{100, 5000, 100, 100} {
		c.sections = append(c.sections, section{fmt.Sprint("s", i), "### " + strings.Repeat("x", n)})
	}
	for most, want := range map[int]string{
		10000: "",
		500:   "no room for 1 section: `s1`.",
		300:   "no room for 2 sections: `s1`, `s3`.",
		200:   "no room for 3 sections: `s1`, `s2`, `s3`.",
		100:   "no room for 4 sections: `s0`, `s1`, `s2`, `s3`.",
	} {
		got := c.fit(most)
		if !strings.Contains(got, want) || strings.Contains(got, "Cut") != (want != "") || most > 100 && len(got) > most || !strings.HasSuffix(got, "tail\n") {
			t.Errorf("in %d: %d bytes, want %q, got %.200q", most, len(got), want, got)
		}
	}
}
