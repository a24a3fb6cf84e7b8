package sops

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// metadata is what sops keeps of a file beside its values.
type metadata struct {
	mac      string // encrypted
	modified string // what the mac is bound to
	macOnly  bool   // the mac is over encrypted values alone
	rule     rule
	age      []ageKey
	others   []string // the kinds of keys that are none of age's
	shamir   bool     // several groups of keys have a part of the key each
}

// An ageKey is the file's key, encrypted for one recipient.
type ageKey struct{ recipient, enc string }

// A rule says which values are encrypted.
type rule struct {
	kind    ruleKind
	suffix  string
	pattern *regexp.Regexp // instead of a suffix
}

type ruleKind int

const (
	allBut         ruleKind = iota // those below a key that the rule fits are not
	only                           // those below such a key alone are
	allButComments                 // those below a comment that the rule fits are not
	onlyComments                   // those below such a comment alone are
)

// fits says whether a key or a comment is one that the rule is about.
func (r *rule) fits(text string) bool {
	if r.pattern != nil {
		return r.pattern.MatchString(text)
	}
	return strings.HasSuffix(text, r.suffix)
}

// defaultSuffix marks keys whose values are not encrypted, where a file has no rule.
const defaultSuffix = "_unencrypted"

// rules are the keys of metadata that say which values are encrypted.
var rules = []struct {
	key     string
	kind    ruleKind
	pattern bool
}{
	{"unencrypted_suffix", allBut, false},
	{"encrypted_suffix", only, false},
	{"unencrypted_regex", allBut, true},
	{"encrypted_regex", only, true},
	{"unencrypted_comment_regex", allButComments, true},
	{"encrypted_comment_regex", onlyComments, true},
}

// otherKeys are the kinds of keys that the program sops knows besides.
var otherKeys = map[string]string{
	"kms": "AWS KMS", "gcp_kms": "GCP KMS", "hckms": "Huawei Cloud KMS", "azure_kv": "Azure Key Vault", "hc_vault": "HashiCorp Vault", "pgp": "PGP",
}

// readMetadata reads it.
func readMetadata(m map[string]any) (metadata, error) {
	out := metadata{macOnly: isTrue(m["mac_only_encrypted"])}
	out.mac, _ = m["mac"].(string)
	modified, err := lastModified(m["lastmodified"])
	if err != nil {
		return out, damaged("its metadata has no lastmodified that is a time")
	}
	out.modified = modified
	if out.rule, err = readRule(m); err != nil {
		return out, err
	}
	_, keys := entries(m, "age")
	for _, e := range keys {
		if len(out.age) == maxRecipients {
			return out, damaged("its metadata has more than %d recipients", maxRecipients)
		}
		out.age = append(out.age, ageKey{recipient: textOf(e["recipient"]), enc: textOf(e["enc"])})
	}
	for _, kind := range slices.Sorted(maps.Keys(otherKeys)) {
		if n, _ := entries(m, kind); n > 0 {
			out.others = append(out.others, otherKeys[kind])
		}
	}
	if n, _ := entries(m, "key_groups"); n > 0 && len(out.age)+len(out.others) == 0 {
		out.shamir = true
	} else if len(out.age)+len(out.others) == 0 {
		return out, damaged("its metadata names no key that it is encrypted for")
	}
	return out, nil
}

// readRule reads the one rule of a file.
func readRule(m map[string]any) (rule, error) {
	found := rule{kind: allBut, suffix: defaultSuffix}
	n := 0
	for _, known := range rules {
		text := textOf(m[known.key])
		if text == "" {
			continue
		}
		if n++; n > 1 {
			return found, damaged("its metadata has more than one rule of what is encrypted")
		}
		found = rule{kind: known.kind, suffix: text}
		if known.pattern {
			pattern, err := regexp.Compile(text)
			if err != nil || len(text) > maxPattern {
				return found, damaged("the %s of its metadata is no regular expression, or one too long", known.key)
			}
			found.pattern = pattern
		}
	}
	return found, nil
}

// lastModified is the time as the MAC is bound to it.
func lastModified(v any) (string, error) {
	if at, ok := v.(time.Time); ok {
		return at.Format(time.RFC3339), nil
	}
	at, err := time.Parse(time.RFC3339, textOf(v))
	return at.Format(time.RFC3339), err
}

// entries are the elements of a list in metadata, and how many there are. In dotenv,
// metadata is flat: age__list_0__map_enc.
func entries(m map[string]any, key string) (int, []map[string]any) {
	if l, ok := m[key].([]any); ok {
		var out []map[string]any
		for _, e := range l {
			if entry, ok := e.(map[string]any); ok {
				out = append(out, entry)
			}
		}
		return len(l), out
	}
	byIndex := map[int]map[string]any{}
	for name, v := range m {
		rest, ok := strings.CutPrefix(name, key+"__list_")
		digits, field, ok2 := strings.Cut(rest, "__map_")
		index, err := strconv.Atoi(digits)
		if !ok || !ok2 || err != nil || index < 0 {
			continue
		}
		if byIndex[index] == nil {
			byIndex[index] = map[string]any{}
		}
		byIndex[index][field] = v
	}
	var out []map[string]any
	for _, index := range slices.Sorted(maps.Keys(byIndex)) {
		out = append(out, byIndex[index])
	}
	return len(out), out
}

// isTrue reads a bool, which in dotenv is text.
func isTrue(v any) bool {
	if text, ok := v.(string); ok {
		b, _ := strconv.ParseBool(text)
		return b
	}
	b, _ := v.(bool)
	return b
}

func textOf(v any) string {
	text, _ := v.(string)
	return text
}

// clean is a recipient as a sentence can have it.
func clean(s string) string {
	const most = 100 // an age key has 62; a post-quantum one 1959, of which the beginning does
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if len(s) > most {
		return fmt.Sprintf("%.40s…", s)
	}
	return s
}
