package spec

import (
	"maps"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"pgregory.net/rapid"
)

// A file of variables is read as compose's own library reads it.
func TestDotenvAsLibrary(t *testing.T) {
	outer := map[string]string{"OUT": "outer", "A": "outer-a"}
	lookup := func(name string) (string, bool) { value, ok := outer[name]; return value, ok }
	compare := func(t interface{ Fatalf(string, ...any) }, text string) {
		want, wantErr := dotenv.UnmarshalBytesWithLookup([]byte(text), lookup)
		got, err := parseDotenv(text, lookup, nil)
		if (err != nil) != (wantErr != nil) || err == nil && !maps.Equal(got, want) {
			t.Fatalf("%q\ngot  %q, %v\nwant %q, %v", text, got, err, want, wantErr)
		}
	}
	for _, text := range []string{
		"", "\n\n# only\n#comments", "A=1\nB=2\n", "A=1\r\nB=2\r\n", "export A=1\nexport   B = 2\n", "A: yaml\n",
		"A=x # comment\nB=x#no comment\n", "A='$OUT'\nB=\"$OUT\"\nC=$OUT\nD=${OUT}${B}\n", "A=\"x\ny\"\nB='x\ny'\n",
		`A="a\nb\tc\"d\\e\$OUT\0101"`, `A='it\'s'`, "OUT\nNONE\n", "A=1\nA=2\nB=$A\n", "B=1\nB=2\nC=$B$B\n", "A=\nB=''\nC=\"\"\n",
		"A=\"x\" # c\nB=2\n", "A=\"x\"B=2\n", "A.b-c[0]=1\n", "A B=1\n", "A=\"open\n", "A=${OUT:-x}${NO:-y}${NO-}${OUT:+z}\n",
		"A=${NO:?needed}\n", "A=$\n", "A=$1\n", "A=a$ b\n", "A=${}\n", "A=a$%b$\n", "A=${\n", "A=a$$b\n", "é=1\n", "9=1\n", "A=   spaced out   \n", "A==b\n", "  A=1\n\tB=2\n",
	} {
		compare(t, text)
	}
	rapid.Check(t, func(t *rapid.T) {
		// Unset variables have defaults: the library would tell of others on stderr.
		lines := rapid.SliceOfN(rapid.StringMatching(`(export )?[A-C](=| = |: )("([a-c {}\\'#]|\$OUT |\$\{A\})*"|'[a-c$ "]*'|[a-c' #]*\$(A|OUT)( [a-c]*)?|x?\$\{(A|OUT|NO-[a-c]*|NO:-x)\}[a-c$]?|[a-c0-9 #]*)`), 1, 6).Draw(t, "lines")
		text := strings.Join(lines, "\n") + "\n"
		compare(t, text)
	})
}

// A default in it is literal, as in a compose file: a password's hash stays whole.
func TestDotenvDefaultIsLiteral(t *testing.T) {
	got, err := parseDotenv("A=${NO:-$2y$05$x}\n", func(string) (string, bool) { return "", false }, nil)
	if err != nil || got["A"] != "$2y$05$x" {
		t.Errorf("%q, %v", got, err)
	}
}
