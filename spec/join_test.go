package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestJoin(t *testing.T) {
	stack := func(name, file string) *Stack {
		return &Stack{Name: name, Source: Source{File: file, Revision: "r"}, Findings: []Finding{{File: file, Severity: Info, Code: "x"}}}
	}
	snap := func(stacks ...*Stack) *Snapshot {
		s := &Snapshot{Dir: "/d", Complete: true, Stacks: map[string]*Stack{}, Problems: map[string][]Finding{}}
		for _, x := range stacks {
			s.Stacks[x.Name] = x
		}
		return s
	}
	with := func(s *Snapshot, name, file string) *Snapshot {
		s.Problems[name] = []Finding{{File: file, Line: 3, Severity: Error, Code: "yaml", Message: "bad"}}
		return s
	}
	missing := &Snapshot{Dir: "/m", Err: &SourceError{SourceMissing, fmt.Errorf("it does not exist: %w", fs.ErrNotExist)}}
	for _, tt := range []struct {
		what     string
		a, b     *Snapshot
		want     string   // outline
		problems []string // of shop, as they are told
		gone     string   // whether nobody is
		err      string
	}{
		{"apart", snap(stack("db", "db.yml")), snap(stack("shop", "shop.yml")), "db; shop", nil, "true", ""},
		{"one name", snap(stack("shop", "shop.yml")), snap(stack("shop", "shop/compose.yaml")), "shop: duplicate-stack@shop.yml duplicate-stack@shop/compose.yaml", []string{
			`a:shop.yml: error: duplicate-stack: a:shop.yml and b:shop/compose.yaml describe the stack "shop", in several sources, and which one counts is not known: it stays as it is (keep one, or give one of them another name:)`,
			`b:shop/compose.yaml: error: duplicate-stack: a:shop.yml and b:shop/compose.yaml describe the stack "shop", in several sources, and which one counts is not known: it stays as it is (keep one, or give one of them another name:)`,
		}, "false", ""},
		{"one name, one broken", snap(stack("shop", "shop.yml")), with(snap(), "shop", "shop.yml"), "shop: yaml@shop.yml duplicate-stack@shop.yml duplicate-stack@shop.yml", nil, "false", ""},
		{"one broken", snap(stack("db", "db.yml")), with(snap(), "shop", "shop.yml"), "db; shop: yaml@shop.yml", []string{"b:shop.yml:3: error: yaml: bad"}, "false", ""},
		{"one unreadable", snap(stack("db", "db.yml")), missing, "db", nil, "false", "source b: it does not exist: file does not exist"},
		{"both unreadable", &Snapshot{Dir: "/x"}, missing, "", nil, "false", "source a: /x could not be read completely; source b: it does not exist: file does not exist"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			s := Join(Part{"a", tt.a}, Part{"b", tt.b})
			if got := outline(s); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			var told []string
			for _, f := range s.Problems["shop"] {
				told = append(told, f.String())
			}
			if tt.problems != nil && !slices.Equal(told, tt.problems) {
				t.Errorf("got  %q\nwant %q", told, tt.problems)
			}
			if got := fmt.Sprint(s.Gone("nobody")); got != tt.gone {
				t.Errorf("gone %s, want %s", got, tt.gone)
			}
			if got := fmt.Sprint(s.Err); tt.err != "" && got != tt.err || (tt.err == "") != (s.Err == nil) || s.Complete != (s.Err == nil) {
				t.Errorf("complete %t, error %s, want %q", s.Complete, got, tt.err)
			}
		})
	}
	s := Join(Part{"a", snap(stack("db", "db.yml"))}, Part{"b", missing})
	if SourceReason(s.Err) != SourceMissing || !errors.Is(s.Err, fs.ErrNotExist) {
		t.Errorf("reason %s of %v", SourceReason(s.Err), s.Err)
	}
	if db := s.Stacks["db"]; db.Source.Name != "a" || db.Source.File != "db.yml" || db.Findings[0].String() != "a:db.yml: info: x: " {
		t.Errorf("db: %+v", db)
	}
	if s := Join(); s.Complete || s.Gone("nobody") || s.Err == nil {
		t.Error("without a source all is gone")
	}
}

func TestJoinTellsWhereEachIs(t *testing.T) {
	commit := &Commit{Hash: strings.Repeat("a", 40), Short: "aaaaaaa", Time: time.Unix(1, 0)}
	s := Join(
		Part{"infra", &Snapshot{Dir: "/i", Revision: "aaaaaaa", Commit: commit, Complete: true, Nameless: []string{"x.yml"}, Findings: []Finding{{File: ".", Code: "f"}}}},
		Part{"shops", &Snapshot{Dir: "/s", Revision: "sha256:0123", Complete: true}},
		Part{"new", &Snapshot{Dir: "/n"}},
	)
	if s.Revision != "infra=aaaaaaa shops=sha256:0123" || s.Commit != nil || s.Dir != "/i, /s and /n" {
		t.Errorf("revision %q, commit %v, dir %q", s.Revision, s.Commit, s.Dir)
	}
	want := []Directory{{"infra", "/i", "aaaaaaa", commit}, {"shops", "/s", "sha256:0123", nil}, {"new", "/n", "", nil}}
	if got := s.Directories(); !reflect.DeepEqual(got, want) {
		t.Errorf("directories %v", got)
	}
	if len(s.Nameless) != 1 || s.Nameless[0] != "infra:x.yml" || s.Findings[0].Source != "infra" {
		t.Errorf("nameless %q, findings %v", s.Nameless, s.Findings)
	}
	one := &Snapshot{Dir: "/i", Revision: "aaaaaaa", Commit: commit}
	if Join(Part{"", one}) != one || !reflect.DeepEqual(one.Directories(), []Directory{{Dir: "/i", Revision: "aaaaaaa", Commit: commit}}) {
		t.Error("one alone is not as it is")
	}
	if s := Join(Part{"infra", one}); !reflect.DeepEqual(s.Directories(), []Directory{{"infra", "/i", "aaaaaaa", commit}}) {
		t.Errorf("one with a name: %v", s.Directories())
	}
}

// What stacks of several directories do to each other is told as of one, and once.
func TestJoinHoldsStacksAgainstEachOther(t *testing.T) {
	const web = "services: {web: {image: 'a:1'%s}}\n"
	a := newSpecs(t, map[string]string{
		"a.yml":  fmt.Sprintf(web, ", ports: ['80:80']") + "x-skep: {depends_on: [b]}\n",
		"on.yml": fmt.Sprintf(web, "") + "x-skep: {depends_on: [nostack]}\n",
	})
	b := newSpecs(t, map[string]string{"b.yml": fmt.Sprintf(web, ", ports: ['80:80']"), "bare/x.yml": "a: 1"})
	scan := func(d specsDir) *Snapshot { return Scan(t.Context(), d.dir, Options{Part: true}) }
	part := scan(a)
	if severityIn(part.found("a"), "depends-on-unknown") != "" || severityIn(part.found("on"), "depends-on-unknown") != "" {
		t.Error("a part alone says that there is no such stack")
	}
	s := Join(Part{"infra", part}, Part{"shops", scan(b)})
	for stack, codes := range map[string]map[string]Severity{
		"a":  {"port-conflict": Warning, "depends-on-unknown": ""},
		"b":  {"port-conflict": Warning},
		"on": {"depends-on-unknown": Warning},
	} {
		for code, want := range codes {
			if got := severityIn(s.found(stack), code); got != want {
				t.Errorf("%s: %s %q, want %q", stack, code, got, want)
			}
		}
	}
	for _, f := range s.found("b") {
		if f.Code == "port-conflict" && (f.Source != "shops" || !strings.Contains(f.Message, "infra:a.yml")) {
			t.Errorf("%s", f)
		}
	}
	if s.Gone("bare") || !s.Gone("nobody") {
		t.Errorf("gone: bare %t, nobody %t", s.Gone("bare"), s.Gone("nobody"))
	}
	if len(part.Stacks["a"].Findings) > 0 && part.Stacks["a"].Findings[0].Source != "" {
		t.Error("the part was changed")
	}
	// What one that could not be read has is not known.
	s = Join(Part{"infra", part}, Part{"shops", &Snapshot{Err: errors.New("away")}})
	if severityIn(s.found("a"), "depends-on-unknown") != "" {
		t.Error("b is unknown, and shops may have it")
	}
}

// Whatever parts say: each stack comes of the one source that has it or is a problem that
// names all that do, nothing is lost, nothing is gone that any part may have, the order of
// parts is of no account, and no part is changed.
func TestJoinLosesNothing(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	rapid.Check(t, func(t *rapid.T) {
		var parts []Part
		for i := range rapid.IntRange(2, 4).Draw(t, "parts") {
			parts = append(parts, drawPart(t, fmt.Sprint("s", i), names))
		}
		before := outlines(parts)
		all := Join(parts...)
		if again := outlines(parts); !slices.Equal(before, again) {
			t.Fatalf("the parts were %q, and are %q", before, again)
		}
		turned := slices.Clone(parts)
		slices.Reverse(turned)
		if other := Join(turned...); !maps.EqualFunc(all.Stacks, other.Stacks, func(a, b *Stack) bool { return reflect.DeepEqual(a, b) }) ||
			!slices.Equal(sortedKeys(all.Problems), sortedKeys(other.Problems)) || all.Complete != other.Complete {
			t.Fatalf("in another order: %s, and %s", outline(all), outline(other))
		}
		twice := slices.ContainsFunc(names, func(name string) bool { return len(claimed(parts)[name]) > 1 })
		for _, name := range names {
			var has []Part
			gone := !twice // as among files of one directory, a name that two have keeps all
			for _, p := range parts {
				if p.Stacks[name] != nil || p.Problems[name] != nil {
					has = append(has, p)
				}
				gone = gone && p.Gone(name)
			}
			stack, problems := all.Stacks[name], all.Problems[name]
			switch {
			case stack != nil && problems != nil:
				t.Fatalf("%s is both", name)
			case len(has) == 0 && (stack != nil || problems != nil):
				t.Fatalf("%s comes of nowhere", name)
			case len(has) == 1 && (stack == nil) != (has[0].Stacks[name] == nil):
				t.Fatalf("%s is not as its source has it", name)
			case len(has) == 1 && stack != nil && (stack.Source.Name != has[0].Name || stack.Source.File != has[0].Stacks[name].Source.File):
				t.Fatalf("%s is of %s", name, stack.Source.at())
			case len(has) > 1 && (stack != nil || len(problems) == 0):
				t.Fatalf("%s is in %d sources, and no problem", name, len(has))
			}
			for _, p := range has {
				if problems != nil && !slices.ContainsFunc(problems, func(f Finding) bool { return f.Source == p.Name }) {
					t.Fatalf("the problem of %s does not name %s: %v", name, p.Name, problems)
				}
			}
			if all.Gone(name) != gone {
				t.Fatalf("%s is gone: %t, of all parts %t", name, all.Gone(name), gone)
			}
		}
		if (all.Err == nil) != all.Complete {
			t.Fatalf("complete %t: %v", all.Complete, all.Err)
		}
		for _, p := range parts {
			if !p.Complete && !strings.Contains(all.Err.Error(), "source "+p.Name+": ") {
				t.Fatalf("%v does not name %s", all.Err, p.Name)
			}
		}
	})
}

func drawPart(t *rapid.T, source string, names []string) Part {
	s := &Snapshot{Dir: "/" + source, Complete: rapid.IntRange(0, 3).Draw(t, "complete") > 0, Stacks: map[string]*Stack{}, Problems: map[string][]Finding{}, kept: map[string]bool{}}
	for _, name := range names {
		switch rapid.SampledFrom([]string{"", "", "", "stack", "problem", "kept"}).Draw(t, name) {
		case "stack":
			s.Stacks[name] = &Stack{Name: name, Source: Source{File: name + ".yml"}}
		case "problem":
			s.Problems[name] = []Finding{{File: name + ".yml", Severity: Error, Code: "yaml"}}
		case "kept":
			s.kept[name] = true
		}
	}
	if rapid.IntRange(0, 5).Draw(t, "nameless") == 0 {
		s.Nameless = []string{"x.yml"}
	}
	return Part{source, s}
}

func outlines(parts []Part) (all []string) {
	for _, p := range parts {
		all = append(all, fmt.Sprint(outline(p.Snapshot), p.Complete, len(p.Stacks), len(p.Problems)))
	}
	return all
}
