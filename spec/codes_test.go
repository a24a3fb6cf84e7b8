package spec

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The sources say which codes there are: every one that they make a finding of is
// in the table, with its severity, and the table has no other.
func TestTableHasTheCodesOfTheSources(t *testing.T) {
	t.Parallel()
	emitted := map[string]map[Severity]bool{}
	for _, dir := range []string{".", "../reconcile", "../controller", "../controller/cli"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no sources in %s: %v", dir, err)
		}
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				collectCodes(t, file, emitted)
			}
		}
	}
	if len(emitted) < 50 {
		t.Fatalf("only %d codes were found in the sources: this test no longer sees how findings are made", len(emitted))
	}
	for name, severities := range emitted {
		code, ok := CodeOf(name)
		if !ok {
			t.Errorf("the code %s is not in the table", name)
			continue
		}
		for s := range severities {
			if !slices.Contains(code.Severities, s) {
				t.Errorf("%s is made with the severity %s, and the table says %v", name, s, code.Severities)
			}
		}
	}
	for _, code := range Codes() {
		if emitted[code.Name] == nil {
			t.Errorf("no source makes a finding of %s", code.Name)
		}
	}
}

// collectCodes gathers the codes, and as far as they are written the severities, of
// a file's findings: the calls by which they are made, and their literals.
func collectCodes(t *testing.T, file string, emitted map[string]map[Severity]bool) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	put := func(code ast.Expr, severity Severity) {
		for _, name := range wordsOf(code) {
			if strings.Contains(name, " ") {
				continue // a sentence: another function of that name
			}
			if emitted[name] == nil {
				emitted[name] = map[Severity]bool{}
			}
			if severity != "" {
				emitted[name][severity] = true
			}
		}
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if i, severity, ok := codeArgument(n); ok && i < len(n.Args) {
				if severity == "" {
					severity = severityOf(n.Args[0])
				}
				put(n.Args[i], severity)
			}
		case *ast.CompositeLit:
			fields := map[string]ast.Expr{}
			for _, e := range n.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					if key, ok := kv.Key.(*ast.Ident); ok {
						fields[key.Name] = kv.Value
					}
				}
			}
			if fields["Code"] != nil && fields["Message"] != nil {
				put(fields["Code"], severityOf(fields["Severity"]))
			}
		case *ast.AssignStmt: // f.Code = "…"
			for i, left := range n.Lhs {
				if s, ok := left.(*ast.SelectorExpr); ok && s.Sel.Name == "Code" && i < len(n.Rhs) {
					put(n.Rhs[i], "")
				}
			}
		}
		return true
	})
}

// codeArgument says which argument of a call is the code of a finding that it makes.
func codeArgument(call *ast.CallExpr) (index int, severity Severity, ok bool) {
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok && (x.Name == "f" || x.Name == "inner") {
			return 0, "", false // fields.fail, whose code is x-skep
		}
		switch f.Sel.Name {
		case "fail", "requires", "noRule":
			return 0, Error, true
		case "warn":
			return 0, Warning, true
		case "info":
			return 0, Info, true
		case "add", "find":
			return 1, "", true
		case "refuse":
			return 1, Error, true
		}
	case *ast.Ident:
		switch f.Name {
		case "refuse":
			return 1, Error, true
		case "tell":
			return 0, "", true
		}
	}
	return 0, "", false
}

func severityOf(e ast.Expr) Severity {
	name := ""
	switch e := e.(type) {
	case *ast.Ident:
		name = e.Name
	case *ast.SelectorExpr:
		name = e.Sel.Name
	}
	return map[string]Severity{"Error": Error, "Warning": Warning, "Info": Info}[name]
}

// wordsOf are the values of a literal, or of a kind of file with one behind it.
func wordsOf(e ast.Expr) []string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return []string{text}
		}
	case *ast.BinaryExpr:
		var out []string
		for _, end := range wordsOf(e.Y) {
			if strings.HasPrefix(end, "-") {
				out = append(out, "config"+end, "secret"+end)
			}
		}
		return out
	}
	return nil
}

func TestCodesAreWellFormed(t *testing.T) {
	t.Parallel()
	rank := map[Severity]int{Error: 0, Warning: 1, Info: 2}
	seen := map[string]bool{}
	for _, c := range Codes() {
		if seen[c.Name] {
			t.Errorf("%s is in the table twice", c.Name)
		}
		seen[c.Name] = true
		if strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyz-") != "" || c.Meaning == "" || strings.HasSuffix(c.Meaning, ".") {
			t.Errorf("%+v is not as it should be", c)
		}
		if len(c.Severities) == 0 || !slices.IsSortedFunc(c.Severities, func(a, b Severity) int { return rank[a] - rank[b] }) {
			t.Errorf("the severities of %s are %v", c.Name, c.Severities)
		}
	}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, codeNames(func(Code) bool { return true })) {
		t.Error("the codes are not sorted")
	}
}
