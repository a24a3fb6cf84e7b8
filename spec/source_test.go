package spec

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// A specsDir is a specs directory in a test.
type specsDir struct {
	*testing.T
	dir string
}

func newSpecs(t *testing.T, files map[string]string) specsDir {
	t.Helper()
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d := specsDir{t, filepath.Join(base, "specs")}
	d.check(os.Mkdir(d.dir, 0o755))
	for name, text := range files {
		d.write(name, text)
	}
	return d
}

func (d specsDir) check(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

func (d specsDir) path(name string) string { return filepath.Join(d.dir, name) }

func (d specsDir) write(name, text string) {
	d.Helper()
	d.check(os.MkdirAll(filepath.Dir(d.path(name)), 0o755))
	d.check(os.WriteFile(d.path(name), []byte(text), 0o644))
}

func (d specsDir) link(target, name string) {
	d.Helper()
	d.check(os.MkdirAll(filepath.Dir(d.path(name)), 0o755))
	d.check(os.Symlink(target, d.path(name)))
}

// age makes everything in the directory look as if it had been there for long.
func (d specsDir) age() {
	d.Helper()
	old := time.Now().Add(-time.Hour)
	d.check(filepath.WalkDir(d.dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeSymlink != 0 {
			return err
		}
		return os.Chtimes(p, old, old)
	}))
}

// A fakeLoader loads files of the form {name, files, secret}, without any rule of
// compose, and counts what it loads.
type fakeLoader struct {
	mu    sync.Mutex
	loads map[string]int
	// during runs in the middle of a load.
	during func(stackFile)
}

func (l *fakeLoader) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.loads {
		n += k
	}
	clear(l.loads)
	return n
}

func (l *fakeLoader) load(_ context.Context, f stackFile, _ Options) (*Stack, []Finding) {
	l.mu.Lock()
	l.loads[f.file]++
	l.mu.Unlock()
	fail := func(err error) (*Stack, []Finding) {
		return nil, []Finding{{File: f.file, Severity: Error, Code: "fake", Message: err.Error()}}
	}
	text, err := f.root.ReadFile(f.file)
	if err != nil {
		return fail(err)
	}
	var in struct {
		Name, Secret string
		Files        []string
		Fail         bool
	}
	if err := yaml.Unmarshal(text, &in); err != nil {
		return fail(err)
	}
	if in.Fail || len(text) == 0 {
		return fail(errors.New("as the file says"))
	}
	s := &Stack{Name: f.name, Source: Source{File: f.file, Files: []string{f.file}, Fingerprint: string(text)}}
	if in.Name != "" {
		s.Name = in.Name
	}
	if in.Secret != "" {
		s.Secrets = []Secret{{Key: "s", Value: NewSensitive([]byte(in.Secret))}}
	}
	if l.during != nil {
		l.during(f)
	}
	for _, file := range append(in.Files, f.dotenv) {
		file = path.Clean(strings.Replace(file, "./", f.dir+"/", 1))
		text, err := f.root.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) && file == f.dotenv {
			continue
		}
		if err != nil {
			return fail(err)
		}
		s.Source.Files = append(s.Source.Files, file)
		s.Source.Fingerprint += string(text)
	}
	return s, nil
}

// scanner makes a Scanner of the directory with a fakeLoader.
func (d specsDir) scanner() (*Scanner, *fakeLoader) {
	l := &fakeLoader{loads: map[string]int{}}
	s := NewScanner(d.dir, Options{})
	s.load = l.load
	s.pause = time.Millisecond
	return s, l
}

// scan scans once with a fakeLoader.
func (d specsDir) scan() *Snapshot {
	s, _ := d.scanner()
	return s.Scan(context.Background())
}

// outline is a Snapshot in a few words, sorted: "shop" for a stack,
// "shop: code code" for a problem, "?file" for a nameless one.
func outline(s *Snapshot) string {
	var out []string
	for name := range s.Stacks {
		out = append(out, name)
	}
	for name, findings := range s.Problems {
		var codes []string
		for _, f := range findings {
			codes = append(codes, f.Code+"@"+f.File)
		}
		out = append(out, name+": "+strings.Join(codes, " "))
	}
	for _, file := range s.Nameless {
		out = append(out, "?"+file)
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func TestScanFindsStacks(t *testing.T) {
	const stack = "services: {}\n"
	cases := map[string]struct {
		files map[string]string
		make  func(specsDir)
		want  string
	}{
		"files":            {files: map[string]string{"shop.yml": stack, "blog.yaml": stack}, want: "blog; shop"},
		"every name":       {files: foldersOf(stack), want: "s0; s1; s2; s3; s4; s5; s6; s7"},
		"a name within":    {files: map[string]string{"shop.yml": "name: store\n", "blog/compose.yaml": "name: log\n"}, want: "log; store"},
		"names exchanged":  {files: map[string]string{"a.yml": "name: b\n", "b.yml": "name: a\n"}, want: "a; b"},
		"dots in names":    {files: map[string]string{"shop.v1.yml": stack, "blog.d/compose.yml": stack}, want: "blog.d; shop.v1"},
		"passed over":      {files: map[string]string{"a.yml": stack, ".b.yml": stack, "_c.yml": stack, ".d/compose.yml": stack, "_e/compose.yml": stack}, want: "a"},
		"other files":      {files: map[string]string{"a.yml": stack, "README.md": "", "b.json": "{}", "c.YML": stack, "yml": "", ".env": "A=1"}, want: "a"},
		"other folders":    {files: map[string]string{"a.yml": stack, "conf/nginx.conf": "", "docs/shop.yml": stack, "deep/er/compose.yml": stack}, want: "a"},
		"an override":      {files: map[string]string{"a/compose.yml": stack, "a/compose.override.yml": stack}, want: "a"},
		"two in a folder":  {files: map[string]string{"a/compose.yml": stack, "a/stack.yml": "name: b\n", "c.yml": stack}, want: "a: two-compose-files@a/compose.yml; b: two-compose-files@a/compose.yml; c"},
		"file and folder":  {files: map[string]string{"a.yml": stack, "a/compose.yml": stack, "c.yml": stack}, want: "a: duplicate-stack@a/compose.yml duplicate-stack@a.yml; c"},
		"two extensions":   {files: map[string]string{"a.yml": stack, "a.yaml": stack}, want: "a: duplicate-stack@a.yaml duplicate-stack@a.yml"},
		"one name":         {files: map[string]string{"a.yml": "name: x\n", "b.yml": "name: x\n", "c.yml": "name: x\n"}, want: "x: duplicate-stack@a.yml duplicate-stack@b.yml duplicate-stack@c.yml"},
		"name of a file":   {files: map[string]string{"a.yml": "name: b\n", "b.yml": stack}, want: "b: duplicate-stack@a.yml duplicate-stack@b.yml"},
		"broken":           {files: map[string]string{"a.yml": "fail: true\n", "b.yml": stack}, want: "a: fake@a.yml; b"},
		"broken, named":    {files: map[string]string{"a.yml": "name: x\nfail: true\n", "b.yml": stack}, want: "b; x: fake@a.yml"},
		"broken, a clash":  {files: map[string]string{"a.yml": "name: b\nfail: true\n", "b.yml": stack}, want: "b: fake@a.yml duplicate-stack@a.yml duplicate-stack@b.yml"},
		"broken YAML":      {files: map[string]string{"a.yml": "x: [\n", "b.yml": stack}, want: "?a.yml; a: fake@a.yml; b"},
		"broken, guessed":  {files: map[string]string{"a.yml": "name: 'x' # y\nx: [\n", "b.yml": stack}, want: "?a.yml; b; x: fake@a.yml"},
		"broken, variable": {files: map[string]string{"a.yml": "name: ${X}\nfail: true\n", "b.yml": stack}, want: "?a.yml; a: fake@a.yml; b"},
		"broken, $ within": {files: map[string]string{"a.yml": "name: a${X}\nx: [\n"}, want: "?a.yml; a: fake@a.yml"},
		"broken, merged":   {files: map[string]string{"a.yml": "<<: {name: x}\nfail: true\n"}, want: "?a.yml; a: fake@a.yml"},
		"broken, a list":   {files: map[string]string{"a.yml": "- a\n"}, want: "?a.yml; a: fake@a.yml"},
		"file missing":     {files: map[string]string{"a/compose.yml": "files: [./x]\n", "b.yml": stack}, want: "a: fake@a/compose.yml; b"},
		"link":             {files: map[string]string{"_a/x.yml": stack}, make: func(d specsDir) { d.link("_a/x.yml", "a.yml") }, want: "a"},
		"linked folder":    {files: map[string]string{"_a/compose.yml": stack}, make: func(d specsDir) { d.link("_a", "a") }, want: "a"},
		"mounted config": {files: map[string]string{"..1/a.yml": stack}, make: func(d specsDir) {
			d.link("..1", "..data")
			d.link("..data/a.yml", "a.yml")
		}, want: "a"},
		"dangling link":  {files: map[string]string{"b.yml": stack}, make: func(d specsDir) { d.link("nowhere", "a.yml") }, want: "?a.yml; a: unreadable@a.yml; b"},
		"link outside":   {files: map[string]string{"b.yml": stack}, make: func(d specsDir) { d.link("/etc/hostname", "a.yml") }, want: "?a.yml; a: outside@a.yml; b"},
		"folder outside": {files: map[string]string{"b.yml": stack}, make: func(d specsDir) { d.link("/etc", "a") }, want: "?a; a: outside@a; b"},
		"link to itself": {files: map[string]string{"b.yml": stack}, make: func(d specsDir) { d.link("a.yml", "a.yml") }, want: "?a.yml; a: unreadable@a.yml; b"},
		"link outside in a folder": {files: map[string]string{"b.yml": stack}, make: func(d specsDir) { d.link("../../x", "a/compose.yml") },
			want: "?a/compose.yml; a: outside@a/compose.yml; b"},
		"other dangling link": {files: map[string]string{"b.yml": stack}, make: func(d specsDir) { d.link("nowhere", "a.conf") }, want: "b"},
		"pipe":                {files: map[string]string{"b.yml": stack}, make: func(d specsDir) { d.check(syscall.Mkfifo(d.path("a.yml"), 0o644)) }, want: "?a.yml; a: not-a-file@a.yml; b"},
		"folder as a file":    {files: map[string]string{"b.yml": stack}, make: func(d specsDir) { d.check(os.MkdirAll(d.path("a/compose.yml"), 0o755)) }, want: "?a/compose.yml; a: not-a-file@a/compose.yml; b"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d := newSpecs(t, c.files)
			if c.make != nil {
				c.make(d)
			}
			snap := d.scan()
			if !snap.Complete || snap.Err != nil {
				t.Errorf("not complete: %v", snap.Err)
			}
			if got := outline(snap); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
			for _, stack := range snap.Stacks {
				if stack.Source.Revision != snap.Revision {
					t.Errorf("%s is of revision %q, the snapshot of %q", stack.Name, stack.Source.Revision, snap.Revision)
				}
			}
			if snap.Gone("nobody") != (len(snap.Nameless) == 0 && len(snap.Problems) == 0) {
				t.Error("a stack without a file is gone exactly when no file is broken")
			}
		})
	}
}

// foldersOf has a folder for each name that a folder's compose file may have.
func foldersOf(text string) map[string]string {
	files := map[string]string{}
	for i, name := range composeNames {
		files[fmt.Sprintf("s%d/%s", i, name)] = text
	}
	return files
}

func TestScanOfBrokenSources(t *testing.T) {
	cases := map[string]struct {
		make func(specsDir) // with an empty directory at d.dir
		want string         // in the error
		is   error
		why  string
	}{
		"empty":            {func(specsDir) {}, "no stack file in", nil, SourceEmpty},
		"nothing of ours":  {func(d specsDir) { d.write("README.md", ""); d.write(".x.yml", ""); d.write("a/b", "") }, "no stack file in", nil, SourceEmpty},
		"missing":          {func(d specsDir) { d.check(os.Remove(d.dir)) }, "does not exist", fs.ErrNotExist, SourceMissing},
		"a file":           {func(d specsDir) { d.check(os.Remove(d.dir)); d.check(os.WriteFile(d.dir, nil, 0o644)) }, "is not a directory", nil, SourceNoDirectory},
		"dangling symlink": {func(d specsDir) { d.check(os.Remove(d.dir)); d.check(os.Symlink("nowhere", d.dir)) }, "symlink to nothing", fs.ErrNotExist, SourceDangling},
		"circular symlink": {func(d specsDir) { d.check(os.Remove(d.dir)); d.check(os.Symlink("specs", d.dir)) }, "specs", nil, SourceUnreadable},
		"symlink to a file": {func(d specsDir) {
			d.check(os.Remove(d.dir))
			d.check(os.WriteFile(d.dir+"x", nil, 0o644))
			d.check(os.Symlink("specsx", d.dir))
		}, "is not a directory", nil, SourceNoDirectory},
		"git at work": {func(d specsDir) { d.write("a.yml", "a: 1"); d.write(".git/index.lock", "") }, "git is at work", nil, SourceMoving},
		"git at work on a linked work tree": {func(d specsDir) {
			d.write("a.yml", "a: 1")
			d.write(".git", "gitdir: .repo/worktrees/x\n")
			d.write(".repo/worktrees/x/index.lock", "")
		}, "git is at work", nil, SourceMoving},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d := newSpecs(t, nil)
			c.make(d)
			snap := d.scan()
			if snap.Complete || snap.Err == nil || !strings.Contains(snap.Err.Error(), c.want) || c.is != nil && !errors.Is(snap.Err, c.is) {
				t.Errorf("complete %v: %v, want an error with %q", snap.Complete, snap.Err, c.want)
			}
			if got := SourceReason(snap.Err); got != c.why {
				t.Errorf("the reason is %s, want %s", got, c.why)
			}
			if snap.Gone("shop") {
				t.Error("a stack is gone by an incomplete snapshot")
			}
			if snap.Stacks == nil || snap.Problems == nil {
				t.Error("a map is nil")
			}
		})
	}
}

func TestScanStopsWithItsContext(t *testing.T) {
	d := newSpecs(t, map[string]string{"a.yml": "a: 1"})
	s, _ := d.scanner()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if snap := s.Scan(ctx); snap.Complete || !errors.Is(snap.Err, context.Canceled) {
		t.Errorf("complete %v: %v", snap.Complete, snap.Err)
	}
}

// A lock that git left behind when it was killed does not stop skep for good.
func TestScanPassesAStaleLock(t *testing.T) {
	d := newSpecs(t, map[string]string{"a.yml": "a: 1", ".git/index.lock": ""})
	d.age()
	if snap := d.scan(); !snap.Complete {
		t.Errorf("not complete: %v", snap.Err)
	}
}

// A file that breaks keeps the names that its stack may be running under, and none
// of them is gone.
func TestScanKeepsTheNameOfABrokenFile(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"not YAML":      {"x: [", "?a.yml; a: fake@a.yml; b; shop: fake@a.yml"},
		"cut short":     {"", "?a.yml; a: fake@a.yml; b; shop: fake@a.yml"},
		"does not load": {"name: shop\nfail: true", "b; shop: fake@a.yml"},
		"renamed":       {"name: store\nfail: true", "b; shop: fake@a.yml; store: fake@a.yml"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newSpecs(t, map[string]string{"a.yml": "name: shop", "b.yml": "x: 1"})
			s, _ := d.scanner()
			if got := outline(s.Scan(context.Background())); got != "b; shop" {
				t.Fatal(got)
			}
			for range 3 { // the memory does not fade
				d.write("a.yml", c.text)
				snap := s.Scan(context.Background())
				if got := outline(snap); got != c.want {
					t.Fatalf("\n got %s\nwant %s", got, c.want)
				}
				if snap.Gone("shop") {
					t.Fatal("the stack of a broken file is gone")
				}
			}
			d.write("a.yml", "name: shop")
			if got := outline(s.Scan(context.Background())); got != "b; shop" {
				t.Fatal(got)
			}
			d.check(os.Remove(d.path("a.yml")))
			if snap := s.Scan(context.Background()); !snap.Gone("shop") {
				t.Fatal("a stack whose file is gone is not")
			}
		})
	}
}

// A missing directory makes nothing forgotten.
func TestScanRemembersOverAnOutage(t *testing.T) {
	d := newSpecs(t, map[string]string{"a.yml": "name: shop"})
	s, _ := d.scanner()
	s.Scan(context.Background())
	d.check(os.Rename(d.dir, d.dir+".away"))
	if snap := s.Scan(context.Background()); snap.Complete {
		t.Fatal("complete")
	}
	d.check(os.Rename(d.dir+".away", d.dir))
	d.write("a.yml", "x: [")
	if got := outline(s.Scan(context.Background())); got != "?a.yml; a: fake@a.yml; shop: fake@a.yml" {
		t.Fatal(got)
	}
}

// What has not changed is not loaded again; what has, is, and nothing else.
func TestScanLoadsWhatChanged(t *testing.T) {
	d := newSpecs(t, map[string]string{
		"a.yml": "x: 1", "b.yml": "files: [conf]", "conf": "1", "fail.yml": "fail: true",
		"blog/compose.yaml": "files: [./nginx.conf]", "blog/nginx.conf": "1", "blog/.env": "A=1",
	})
	d.age()
	s, l := d.scanner()
	scan := func() *Snapshot { d.Helper(); return s.Scan(context.Background()) }
	first := scan()
	l.total()
	scan() // proves what the first could not
	l.total()
	for _, c := range []struct {
		name   string
		change func()
		loads  int // beside fail.yml, which is tried each time
	}{
		{"nothing", func() {}, 0},
		{"touched", func() { now := time.Now(); d.check(os.Chtimes(d.path("a.yml"), now, now)) }, 0},
		{"same content", func() { d.write("a.yml", "x: 1") }, 0},
		{"a compose file", func() { d.write("a.yml", "x: 2") }, 1},
		{"a config's file", func() { d.write("blog/nginx.conf", "2") }, 1},
		{"variables", func() { d.write("blog/.env", "A=2") }, 1},
		{"variables gone", func() { d.check(os.Remove(d.path("blog/.env"))) }, 1},
		{"variables of all files", func() { d.write(".env", "A=2") }, 2},
		{"a new stack", func() { d.write("new.yml", "x: 1") }, 1},
		{"a stack gone", func() { d.check(os.Remove(d.path("new.yml"))) }, 0},
		{"a file renamed", func() { d.check(os.Rename(d.path("blog/compose.yaml"), d.path("blog/stack.yml"))) }, 1},
		{"directory replaced", func() {
			d.check(os.CopyFS(d.dir+".new", os.DirFS(d.dir)))
			d.check(os.Rename(d.dir, d.dir+".old"))
			d.check(os.Rename(d.dir+".new", d.dir))
		}, 0},
	} {
		c.change()
		scan()
		// fail.yml is loaded at every scan.
		if got := l.total() - 1; got != c.loads {
			t.Errorf("%s: %d loaded, want %d", c.name, got, c.loads)
		}
	}
	last := scan()
	if first.Revision == last.Revision {
		t.Error("other content has the same revision")
	}
	if got := string(last.Stacks["blog"].Source.Fingerprint); got != "files: [./nginx.conf]2" {
		t.Errorf("blog was made of %q", got)
	}
}

// A file that changes in the middle of a load is loaded again, and what comes out
// is one state of the files.
func TestScanRereadsWhatMoves(t *testing.T) {
	d := newSpecs(t, map[string]string{"blog/compose.yaml": "files: [./conf]", "blog/conf": "1"})
	s, l := d.scanner()
	moves := 0
	l.during = func(f stackFile) {
		if moves++; moves <= 2 {
			d.write("blog/compose.yaml", fmt.Sprintf("files: [./conf]\n#%d", moves))
			d.write("blog/conf", fmt.Sprint(moves+1))
		}
	}
	snap := s.Scan(context.Background())
	if got := snap.Stacks["blog"]; got == nil || got.Source.Fingerprint != "files: [./conf]\n#23" {
		t.Fatalf("%s: %+v", outline(snap), got)
	}

	l.during = func(stackFile) { moves++; d.write("blog/conf", fmt.Sprint(moves)) }
	d.write("blog/compose.yaml", "files: [./conf]\n#never still")
	snap = s.Scan(context.Background())
	if got := outline(snap); got != "blog: unstable@blog/compose.yaml" || !snap.Complete {
		t.Fatalf("complete %v: %s", snap.Complete, got)
	}
	if l.total() > 2*maxRereads {
		t.Error("read again without end")
	}
}

// A load that read the old content of a file which then changed is not taken for
// the new one's later on.
func TestScanDoesNotBelieveAnUnprovenLoad(t *testing.T) {
	d := newSpecs(t, map[string]string{"blog/compose.yaml": "files: [./conf]", "blog/conf": "1"})
	d.age()
	s, l := d.scanner()
	load, done := s.load, false
	s.load = func(ctx context.Context, f stackFile, o Options) (*Stack, []Finding) {
		stack, findings := load(ctx, f, o)
		if !done { // a file that was not known before, changed with an old time stamp
			done = true
			d.write("blog/conf", "2")
			d.age()
		}
		return stack, findings
	}
	s.Scan(context.Background())
	if got := s.Scan(context.Background()).Stacks["blog"].Source.Fingerprint; got != "files: [./conf]2" {
		t.Errorf("made of %q", got)
	}
	l.total()
	s.Scan(context.Background())
	if l.total() != 0 {
		t.Error("a proven load is not believed")
	}
}

// git-sync swaps a symlink to a work tree. A scan sees one or the other in full.
func TestScanOverASwappedSymlink(t *testing.T) {
	d := newSpecs(t, map[string]string{
		".wt/0/a.yml": "x: 0", ".wt/0/b/compose.yml": "x: 0",
		".wt/1/a.yml": "x: 1", ".wt/1/b/compose.yml": "x: 1",
	})
	d.link(".wt/0", "current")
	swap := func(to int) {
		d.link(fmt.Sprintf(".wt/%d", to), "tmp")
		d.check(os.Rename(d.path("tmp"), d.path("current")))
	}
	inner := specsDir{t, d.path("current")}
	s, l := inner.scanner()
	s.pause = 0

	swapped := sync.Once{}
	l.during = func(stackFile) { swapped.Do(func() { swap(1) }) }
	snap := s.Scan(context.Background())
	for _, name := range []string{"a", "b"} {
		if got := snap.Stacks[name].Source.Fingerprint; got != "x: 1" {
			t.Errorf("%s is of %q after the swap", name, got)
		}
	}

	l.during = nil
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				swap(i % 2)
			}
		}
	}()
	complete := 0
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); {
		snap := s.Scan(context.Background())
		if !snap.Complete {
			if !errors.Is(snap.Err, errMoved) {
				t.Fatal(snap.Err)
			}
			continue
		}
		complete++
		if a, b := snap.Stacks["a"], snap.Stacks["b"]; a == nil || b == nil || a.Source.Fingerprint != b.Source.Fingerprint {
			t.Fatalf("a mixture: %s", outline(snap))
		}
	}
	close(stop)
	<-done
	t.Logf("%d complete scans", complete)
	if snap := s.Scan(context.Background()); !snap.Complete {
		t.Fatal(snap.Err)
	}
}

// A stack that comes or goes while the others are read is noticed.
func TestScanRereadsAChangedListing(t *testing.T) {
	d := newSpecs(t, map[string]string{"a.yml": "x: 0", "b.yml": "x: 0"})
	s, l := d.scanner()
	var once sync.Once
	l.during = func(f stackFile) {
		once.Do(func() {
			d.check(os.Remove(d.path("b.yml")))
			d.write("c/compose.yml", "x: 0")
		})
	}
	if snap := s.Scan(context.Background()); !snap.Complete || outline(snap) != "a; c" {
		t.Fatalf("complete %v: %s", snap.Complete, outline(snap))
	}
}

func TestRevision(t *testing.T) {
	files := map[string]string{"a.yml": "files: [conf]", "conf": "1", "b/compose.yml": "x: 1"}
	base := newSpecs(t, files).scan().Revision
	if !strings.HasPrefix(base, "sha256:") || len(base) != len("sha256:")+12 {
		t.Fatalf("revision %q", base)
	}
	if again := newSpecs(t, files).scan().Revision; again != base {
		t.Errorf("the same files are %s and %s", base, again)
	}
	change := func(name, text string) string {
		d := newSpecs(t, files)
		d.write(name, text)
		return d.scan().Revision
	}
	for _, name := range []string{"a.yml", "conf", "b/compose.yml", "b/.env", "c.yml"} {
		if change(name, "fail: true") == base {
			t.Errorf("the revision does not tell of %s", name)
		}
	}
	if change("unread", "x") != base {
		t.Error("the revision is over a file that was not read")
	}
}

// A revision is public: a secret's value cannot be guessed by it.
func TestRevisionHoldsNoSecret(t *testing.T) {
	revision := func(token, variables string) string {
		return newSpecs(t, map[string]string{
			"a.yml":         "files: [token]\nsecret: one",
			"token":         token,
			"b/compose.yml": "secret: from-outside",
			"b/.env":        variables,
		}).scan().Revision
	}
	if revision("one", "A=1") == revision("two", "A=1") {
		t.Error("a file that is no secret is left out")
	}
	if revision("one", "A=1") != revision("one", "A=2") {
		t.Error("the revision is over the variables of a stack whose secrets come from there")
	}
	sum := func(text string) imprint { return imprint{sum: sha256.Sum256([]byte(text))} }
	of := func(value string) string {
		files := map[string]imprint{"token": sum(value), "a.yml": sum("x")}
		stack := &Stack{Secrets: []Secret{{Value: NewSensitive([]byte(value))}}}
		return revisionOf(nil, files, []reading{{stack: stack, memo: memo{files: files}}})
	}
	if of("one") != of("two") {
		t.Error("the revision is over a secret's file")
	}
	included := func(value string) string {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "shop/compose.yaml"), "include: [sub/part.yml]\nservices: {web: {image: 'x:1', secrets: [s]}}")
		writeFile(t, filepath.Join(dir, "shop/sub/part.yml"), "secrets: {s: {environment: S}}")
		writeFile(t, filepath.Join(dir, "shop/sub/.env"), "S="+value+"\n")
		snap := Scan(t.Context(), dir, Options{})
		if snap.Stacks["shop"] == nil {
			t.Fatal(snap.Problems)
		}
		return snap.Revision
	}
	if included("one") != included("two") {
		t.Error("the revision is over the variables of an included file that a secret came from")
	}
}

// Scans may be asked for from several goroutines.
func TestScanConcurrently(t *testing.T) {
	d := newSpecs(t, map[string]string{"a.yml": "x: 0", "b/compose.yml": "x: 0"})
	s, _ := d.scanner()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if snap := s.Scan(context.Background()); outline(snap) != "a; b" {
				t.Error(outline(snap))
			}
		})
	}
	wg.Wait()
}

// Scan with the real loader.
func TestScan(t *testing.T) {
	d := newSpecs(t, map[string]string{
		"shop.yml":        "services:\n  web:\n    image: nginx:1\n",
		"blog/stack.yaml": "name: journal\nservices:\n  web:\n    image: nginx:${TAG}\n    configs: [c]\nconfigs:\n  c:\n    file: ./c.conf\n",
		"blog/.env":       "TAG=2\n",
		"blog/c.conf":     "x",
		"bad.yml":         "services: 7\n",
		"hostile.yml":     "name: worse\nx-a: " + strings.Repeat("[", 9000),
	})
	start := time.Now()
	snap := Scan(context.Background(), d.dir, Options{})
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if !snap.Complete || len(snap.Stacks) != 2 || len(snap.Problems) != 2 {
		t.Fatalf("complete %v (%v): %s", snap.Complete, snap.Err, outline(snap))
	}
	if got := snap.Stacks["journal"].Source.Files; !slices.Equal(got, []string{"blog/.env", "blog/c.conf", "blog/stack.yaml"}) {
		t.Errorf("journal was made of %v", got)
	}
	if len(snap.Problems["bad"]) == 0 || len(snap.Problems["worse"]) == 0 {
		t.Errorf("problems: %v", snap.Problems)
	}
}

// Scan over 100 stacks: the first time, and when nothing or one file changed.
func BenchmarkScan(b *testing.B) {
	dir := b.TempDir()
	for i := range 100 {
		var text bytes.Buffer
		text.WriteString("services:\n")
		for k := range 10 {
			fmt.Fprintf(&text, "  s%d:\n    image: nginx:1.%d\n    environment: {A: b, C: d}\n    configs: [c]\n    deploy: {replicas: 2}\n", k, i)
		}
		text.WriteString("configs:\n  c:\n    file: ./c.conf\n")
		folder := filepath.Join(dir, fmt.Sprintf("s%d", i))
		if err := errors.Join(os.Mkdir(folder, 0o755),
			os.WriteFile(filepath.Join(folder, "compose.yml"), text.Bytes(), 0o644),
			os.WriteFile(filepath.Join(folder, "c.conf"), []byte("x"), 0o644)); err != nil {
			b.Fatal(err)
		}
	}
	scan := func(b *testing.B, s *Scanner) {
		if snap := s.Scan(context.Background()); !snap.Complete || len(snap.Stacks) != 100 {
			b.Fatalf("%v: %d stacks, problems %v", snap.Err, len(snap.Stacks), snap.Problems)
		}
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			scan(b, NewScanner(dir, Options{}))
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		s := NewScanner(dir, Options{})
		scan(b, s)
		scan(b, s)
		for b.Loop() {
			scan(b, s)
		}
	})
	b.Run("one changed", func(b *testing.B) {
		s, i := NewScanner(dir, Options{}), 0
		scan(b, s)
		scan(b, s)
		for b.Loop() {
			i++
			if err := os.WriteFile(filepath.Join(dir, "s7/c.conf"), fmt.Append(nil, i), 0o644); err != nil {
				b.Fatal(err)
			}
			scan(b, s)
		}
	})
}
