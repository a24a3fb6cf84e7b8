package cli

import (
	"bytes"
	"testing"
)

// Words of a container do not reach the terminal as anything else than words.
func TestTablesStayInTheirCells(t *testing.T) {
	var b bytes.Buffer
	if err := printTable(&b, []string{"NAME", "REASON"}, [][]string{{"web", "exit\t1:\x1b[31m no\nway\u009b1m"}}); err != nil {
		t.Fatal(err)
	}
	if want := "NAME      REASON\nweb       exit 1: [31m no way 1m\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
