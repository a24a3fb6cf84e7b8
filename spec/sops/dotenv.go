package sops

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"
)

var errNotDotenv = errors.New("is not a list of KEY=VALUE, as sops writes it")

// readDotenv reads lines of KEY=VALUE, in which \n stands for a new line.
func readDotenv(data []byte) ([]branch, error) {
	if tooManyMarks(data) {
		return nil, errTooMuch
	}
	b := branch{}
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		switch key, value, ok := strings.Cut(string(line), "="); {
		case len(line) == 0:
		case line[0] == '#':
			b = append(b, item{key: comment{text: string(line[1:])}})
		case !ok:
			return nil, errNotDotenv
		default:
			b = append(b, item{key, strings.ReplaceAll(value, `\n`, "\n")})
		}
	}
	if len(b) > maxNodes {
		return nil, errTooMuch
	}
	return []branch{b}, nil
}

// writeDotenv writes such lines.
func writeDotenv(b branch) ([]byte, error) {
	var out bytes.Buffer
	for _, i := range b {
		switch key := i.key.(type) {
		case comment:
			out.WriteString("#" + key.text + "\n")
		case string:
			out.WriteString(key + "=" + dotenvText(i.value) + "\n")
		}
	}
	return out.Bytes(), nil
}

// dotenvText is a value as a line has it. Values that are no text come from a file that
// was made of another format.
func dotenvText(v any) string {
	switch v := v.(type) {
	case string:
		return strings.ReplaceAll(v, "\n", `\n`)
	case int:
		return strconv.Itoa(v)
	case bool:
		return strconv.FormatBool(v)
	case time.Time:
		return v.Format(time.RFC3339)
	case float64:
		text := strconv.FormatFloat(v, 'G', -1, 64)
		if !strings.ContainsAny(text, ".E") { // which would read as an integer
			text = strconv.FormatFloat(v, 'f', 1, 64)
		}
		return text
	}
	return ""
}
