package spec

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// A hostileStack is a folder of files that means harm, and the code of the error that
// answers it.
type hostileStack struct {
	files map[string]string
	code  string
	o     Options
	// atBounds says that it is as large as a good stack may be before it is too large:
	// what reading that much takes is allocated.
	atBounds bool
}

// hostileStacks are texts that are known to hang, blow up or crash compose loaders,
// those of a single file first.
func hostileStacks() map[string]hostileStack {
	one := func(text, code string) hostileStack { return hostileStack{files: compose(text), code: code} }
	web := "services: {web: {image: 'x:1'}}\n"
	chain := func(n int, text func(i int) string) map[string]string {
		files := map[string]string{}
		for i := range n {
			files[fmt.Sprintf("f%d.yml", i)] = text(i)
		}
		return files
	}
	list := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "- f%d.yml\n", i)
		}
		return b.String()
	}
	long := strings.Repeat("x", 1<<20-100)
	return map[string]hostileStack{
		"[[[[ 1,000 deep":                     one(web+"x-a: "+nested(1000), "yaml-too-deep"),
		"[[[[ 4,000 deep":                     one(web+"x-a: "+nested(4000), "yaml-too-deep"),
		"[[[[ 9,000 deep":                     one(web+"x-a: "+nested(9000), "yaml-too-deep"),
		"[[[[ 100,000 deep":                   one(web+"x-a: "+nested(100_000), "yaml-too-deep"),
		"[[[[ that never close":               one(web+"x-a: "+strings.Repeat("[", 500_000), "yaml-too-deep"),
		"alias bomb":                          one(web+bomb(9), "yaml-too-large"),
		"alias bomb, 2,000 deep":              one(web+bomb(2000), "yaml-too-deep"),
		"alias bomb of merge keys":            one("x-a: &a {a: 1, b: 2}\nservices: {web: {image: x, labels: {<<: ["+strings.Repeat("*a,", 60_000)+"*a]}}}", "yaml-too-large"),
		"alias of a long text, often":         one("x-a: &a "+strings.Repeat("x", 500_000)+"\nservices: {web: {image: x, environment: ["+strings.Repeat("*a,", 1000)+"*a]}}", "yaml-too-large"),
		"alias of itself":                     one("services: &a {web: *a}", "yaml-endless"),
		"NUL":                                 one(web+"x-a: \"\x00\"", "not-text"),
		"not UTF-8":                           one(web+"x-a: \xff\xfe", "not-text"),
		"UTF-16":                              one("\xff\xfes\x00e\x00r\x00v\x00i\x00c\x00e\x00s\x00", "not-text"),
		"equal keys":                          one(web+web, "yaml-syntax"),
		"equal keys of two kinds":             one("services: {web: {image: x, labels: {1: a, '1': b}}}", "yaml-syntax"),
		"1 MiB and a byte":                    one(web+"x-a: "+long+strings.Repeat("x", 100), "file-too-large"),
		"lines":                               one(web+strings.Repeat("\n", 1<<20-100), "yaml-too-large"),
		"comments":                            one(web+strings.Repeat("# x\n- a # b\n", 80_000), "yaml-too-large"),
		"many values":                         one(web+"x-a: ["+strings.Repeat("a,", 190_000)+"]", "yaml-too-large"),
		"many equal keys":                     one(web+strings.Repeat("a: x\n", 150_000), "yaml-too-large"),
		"many keys in one mapping":            one("services: {web: {image: 'x:1', environment: {"+numbered(40_000, "A%d: b, ")+"}}}", "yaml-too-large"),
		"many documents":                      one(strings.Repeat("---\n", 190_000), "yaml-too-large"),
		"values in values, within the bounds": one("x-a: "+nested(99)+strings.Repeat("\nx-b", 1)+": "+strings.Repeat("["+nested(97)+",", 900)+"a"+strings.Repeat("]", 900), "yaml-too-deep"),

		"variables that multiply": {
			files: with(".env", "A=xxxxxxxxxx\n"+doubling(60), compose("services: {web: {image: 'x:1'}}")), code: "env-file",
		},
		"variables that multiply in an included .env": {
			files: with("sub/.env", "A=xxxxxxxxxx\n"+doubling(60), with("sub/part.yml", web, compose("include: [sub/part.yml]"))), code: "include",
		},
		"variables that multiply over included files": {
			files: with("compose.yaml", "include:\n"+list(60), with(".env", "BIG="+strings.Repeat("x", 100_000)+"\n", chain(60, func(i int) string {
				return fmt.Sprintf("services: {s%d: {image: 'x:1', labels: {a: '%s'}}}", i, strings.Repeat("$BIG", 10))
			}))), code: "variable",
		},
		"variables in variables, in .env": {
			files: with(".env", "A="+strings.Repeat("${A:-", 100_000)+"\n", compose(web)), code: "env-file",
		},
		"comments in .env": {
			files: with(".env", strings.Repeat("#\n", 500_000), compose("services: {web: {image: ''}}")), code: "image-missing",
		},

		"200 includes of 1 MiB":        {files: with("compose.yaml", "include:\n"+list(200), with("big", "x-a: "+long, chain(200, func(int) string { return "-> big" }))), code: "include-too-large"},
		"200 includes of one file":     {files: with("f0.yml", web, compose("include:\n"+strings.Repeat("- f0.yml\n", 200))), code: "include-too-large"},
		"50,000 includes of nothing":   one("include: ["+strings.Repeat("x,", 50_000)+"x]", "include-too-large"),
		"includes that double":         {files: with("compose.yaml", "include: [f0.yml]\n"+web, chain(60, func(i int) string { return fmt.Sprintf("include: [f%d.yml, f%d.yml]", i+1, i+1) })), code: "include-too-large"},
		"includes 200 deep":            {files: with("compose.yaml", "include: [f0.yml]\n"+web, chain(200, func(i int) string { return fmt.Sprintf("include: [f%d.yml]", i+1) })), code: "include-too-large"},
		"includes in a circle":         {files: with("compose.yaml", "include: [f0.yml]\n"+web, chain(5, func(i int) string { return fmt.Sprintf("include: [f%d.yml]", (i+1)%5) })), code: "include-cycle"},
		"a file that includes itself":  one("include: [compose.yaml]\n"+web, "include-cycle"),
		"a circle by another way":      {files: with("sub/f.yml", "include: [../sub/../compose.yaml]", compose("include: [sub/f.yml]\n"+web)), code: "include-cycle"},
		"a bomb spread over includes":  {files: with("compose.yaml", "include:\n"+list(50), chain(50, func(i int) string { return fmt.Sprintf("x-%d: [%s]", i, strings.Repeat("a,", 9000)) })), code: "yaml-too-large", atBounds: true},
		"alias bombs in includes":      {files: with("compose.yaml", "include:\n"+list(50), chain(50, func(int) string { return bomb(9) })), code: "yaml-too-large"},
		"[[[[ in an include":           {files: with("f.yml", "x-a: "+nested(9000), compose("include: [f.yml]")), code: "yaml-too-deep"},
		"[[[[ in an override":          {files: with("g.yml", "x-a: "+nested(9000), with("f.yml", web, compose("include: [{path: [f.yml, g.yml]}]"))), code: "yaml-too-deep"},
		"an include over its limit":    {files: with("f.yml", web+"x-a: "+strings.Repeat("x", 2000), compose("include: [f.yml]")), code: "file-too-large", o: Options{MaxFileSize: 1000}},
		"an extended over its limit":   {files: with("f.yml", web+"x-a: "+strings.Repeat("x", 2000), compose("services: {web: {extends: {file: f.yml, service: web}}}")), code: "file-too-large", o: Options{MaxFileSize: 1000}},
		"200 files that are extended":  {files: with("compose.yaml", "services:\n"+extending(200), with("big", web+"x-a: "+long, chain(200, func(int) string { return "-> big" }))), code: "include-too-large"},
		"extends that multiplies":      one("services:\n  base: {image: 'x:1', labels: {"+labels(1000)+"}}\n"+heirs(3000), "yaml-too-large"),
		"extends that multiplies text": one("services:\n  base: {image: 'x:1', labels: {a: "+strings.Repeat("x", 500_000)+"}}\n"+heirs(300), "yaml-too-large"),
		"extends in a long chain":      one("services:\n  s0: {image: 'x:1', labels: {"+labels(100)+"}}\n"+chained(3000), "extends"),
		"ports without end":            one("services: {web: {image: 'x:1', ports: ["+strings.Repeat("'1-65535:1-65535',", 20_000)+"]}}", "invalid-port"),
		"ports in every service":       one("services:\n"+many(3000, "{image: 'x:1', ports: ['1-9999:1-9999']}"), "invalid-port"),
		"ports in every heir":          one("services:\n  base: {image: 'x:1', ports: ['1-9999:1-9999']}\n"+heirs(3000), "invalid-port"),
		"ports in every extended file": {files: with("compose.yaml", "services:\n"+extending(90), chain(90, func(int) string {
			return "services: {web: {image: 'x:1', ports: ['1-4999:1-4999', '10001-14999/udp']}}"
		})), code: "invalid-port"},
		"env_file in every service": {files: with("e", strings.Repeat("A=1\n", 250_000), compose("services:\n"+many(100, "{image: 'x:1', env_file: e}"))), code: "env-file"},
		"a config of every size":    {files: with("c", strings.Repeat("x", 1_000_000), compose(web+"configs:\n"+many(1000, "{file: c}"))), code: "config-file"},
	}
}

func doubling(n int) string {
	var b strings.Builder
	for range n {
		b.WriteString("A=$A$A\n")
	}
	return b.String()
}

func labels(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "l%d: v, ", i)
	}
	return b.String()
}

func many(n int, what string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  s%d: %s\n", i, what)
	}
	return b.String()
}

func heirs(n int) string { return many(n, "{extends: base}") }

func chained(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  s%d: {extends: s%d}\n", i+1, i)
	}
	return b.String()
}

func extending(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  s%d: {extends: {file: f%d.yml, service: web}}\n", i, i)
	}
	return b.String()
}

// Every hostile stack is answered with an error that says what is wrong, in about the
// time of a harmless one that is as large as may be, and within 100 MB.
func TestLoadHostile(t *testing.T) {
	plain := harmlessLoad(t)
	for name, hostile := range hostileStacks() {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.Mkdir(filepath.Join(root, "shop"), 0o755); err != nil {
				t.Fatal(err)
			}
			for file, text := range hostile.files {
				if to, isLink := strings.CutPrefix(text, "-> "); isLink {
					link(t, to, filepath.Join(root, "shop", file))
				} else {
					writeFile(t, filepath.Join(root, "shop", file), text)
				}
			}
			at := shop(t, root)
			stack, findings, took, bytes := loadMeasured(t, at, hostile.o)
			t.Logf("%v (a harmless one %v), %d MB", took, plain, bytes/1e6)
			if stack != nil || !slices.Contains(codes(findings, Error), hostile.code) {
				t.Errorf("not refused as %s: %.2000s", hostile.code, findingsText(findings))
			}
			if took > 10*plain {
				t.Errorf("took %v, a harmless one %v", took, plain)
			}
			most := uint64(100e6)
			if hostile.atBounds {
				most = 200e6
			}
			if bytes > most {
				t.Errorf("%d MB were allocated", bytes/1e6)
			}
			if len(findingsText(findings)) > 4<<20 {
				t.Errorf("%d findings of %d bytes", len(findings), len(findingsText(findings)))
			}
		})
	}
}

// Files of which there is as much to say as may be: it takes no more time than others.
func TestLoadOfManyFindings(t *testing.T) {
	plain := harmlessLoad(t)
	web := "services: {web: {image: 'x:1'}}\n"
	for name, text := range map[string]string{
		"ignored codes that are none":    web + "# skep:ignore " + strings.Repeat("no-healthchecky,", 60_000) + "x\n",
		"ignored codes, again and again": "# skep:ignore " + strings.Repeat("image-untagged,", 40_000) + "unused\nservices: {" + numbered(2000, "s%d: {image: x}, ") + "}\n",
		"x-skep.ignore":                  "services: {" + numbered(4000, "web%d: {image: 'x:1'}, ") + "}\nx-skep: {ignore: [" + numbered(10_000, "services.wob%d.image, ") + "]}\n",
		"x-skep.findings":                web + "x-skep: {findings: {" + numbered(14_000, "no-healthcheck%d: off, ") + "}}\n",
		"x-skep.depends_on":              web + "x-skep: {depends_on: [" + numbered(40_000, "a%d, ") + "]}\n",
		"variables that are secrets":     "services: {web: {image: 'x:1', environment: [" + numbered(40_000, "A_TOKEN%d=b, ") + "]}}\n",
		"keys that nobody knows":         web + numbered(14_000, "services%d: 1\n"),
		"values that are none":           "services: {web: {image: 'x:1', ulimits: {" + numbered(14_000, "a%d: x, ") + "}}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			writeFile(t, filepath.Join(root, "shop", "compose.yaml"), text)
			_, findings, took, _ := loadMeasured(t, shop(t, root), Options{})
			if took > 5*plain {
				t.Errorf("%d findings took %v, a harmless stack %v", len(findings), took, plain)
			}
		})
	}
}

// numbered repeats a text with a number in it.
func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// harmlessLoad is how long it takes, here and now, to load a stack that is as large
// as may be.
func harmlessLoad(t *testing.T) time.Duration {
	t.Helper()
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "shop", "compose.yaml"), "services:\n"+many(2000, "{image: 'x:1', labels: {a: b}, environment: {C: d}, command: run it}"))
	stack, findings, took, _ := loadMeasured(t, shop(t, root), Options{})
	if stack == nil {
		t.Fatalf("the harmless stack: %.2000s", findingsText(findings))
	}
	return took
}

func loadMeasured(t *testing.T, at stackFile, o Options) (*Stack, []Finding, time.Duration, uint64) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := cpuTime(t)
	stack, findings := load(t.Context(), at, o)
	took := cpuTime(t) - start
	runtime.ReadMemStats(&after)
	return stack, findings, took, after.TotalAlloc - before.TotalAlloc
}
