package gitsync

import (
	"strings"
)

// badName says what is wrong with a name in a tree, "" for a good one. Names that are
// git's own directory to some file system are refused everywhere: the cache may lie on
// one that does not tell letters' cases apart.
func badName(name string) string {
	switch {
	case name == "":
		return "has no name"
	case name == "." || name == "..":
		return "leads out of its folder"
	case strings.ContainsAny(name, "/\\\x00"):
		return "has a name with a separator in it"
	case isDotGit(name):
		return "is git's own directory to some file systems"
	case len(name) > 255:
		return "has a name that is longer than file systems allow"
	}
	return ""
}

// isDotGit says that a file system may take name for .git: one that ignores case (most
// of macOS and Windows), characters that are not seen (HFS+), or what is behind a name
// (dots, blanks, streams and short names of NTFS).
func isDotGit(name string) bool {
	name = strings.Map(func(r rune) rune {
		if ignoredByHFS(r) {
			return -1
		}
		return r
	}, name)
	name, _, _ = strings.Cut(strings.ToLower(name), ":")
	name = strings.TrimRight(name, ". ")
	if name == ".git" {
		return true
	}
	short, ok := strings.CutPrefix(name, "git~")
	return ok && short != "" && strings.Trim(short, "0123456789") == ""
}

// ignoredByHFS says that HFS+ leaves a character out when it compares names.
func ignoredByHFS(r rune) bool {
	return r >= 0x200c && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x206a && r <= 0x206f || r == 0xfeff
}
