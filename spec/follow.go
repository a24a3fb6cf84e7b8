package spec

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/distribution/reference"
)

// Bounds of x-skep.follow.
const (
	defaultFollowEvery = 5 * time.Minute
	minFollowEvery     = time.Minute
	maxConstraint      = 256 // characters
)

// Follow says which of its image's tags a service follows: what the registry has under
// one tag, or its newest version that fits a constraint. The zero value follows none.
type Follow struct {
	Tag    string        // the tag whose digest is followed; empty where Semver is not
	Semver string        // the constraint that versions have to fit
	Every  time.Duration // how often the registry is asked, at least
}

// On says whether anything is followed.
func (f Follow) On() bool { return f.Tag != "" || f.Semver != "" }

// String is what is followed, as the file has it: "tag 1.27", "semver ~1.27".
func (f Follow) String() string {
	switch {
	case f.Semver != "":
		return "semver " + f.Semver
	case f.Tag != "":
		return "tag " + f.Tag
	}
	return ""
}

// Takes says whether a tag is one that may be followed to.
func (f Follow) Takes(tag string) bool {
	if f.Semver == "" {
		return tag == f.Tag
	}
	c, err := semver.NewConstraint(f.Semver)
	v := versionOf(tag)
	return err == nil && v != nil && c.Check(v)
}

// Newest is the tag among some that is the newest version which the constraint takes, or
// the tag that is followed, where it is among them; "" for none. It is the same in
// whatever order they come.
func (f Follow) Newest(tags []string) string {
	newest := ""
	takes := f.taker()
	for _, tag := range tags {
		if takes(tag) && (newest == "" || Newer(tag, newest) || !Newer(newest, tag) && clearer(tag, newest)) {
			newest = tag
		}
	}
	return newest
}

// taker is Takes for many tags.
func (f Follow) taker() func(tag string) bool {
	if f.Semver == "" {
		return f.Takes
	}
	c, err := semver.NewConstraint(f.Semver)
	return func(tag string) bool {
		v := versionOf(tag)
		return err == nil && v != nil && c.Check(v)
	}
}

// Newer says that a tag is of a newer version than another. Of tags that are no versions
// neither is newer.
func Newer(tag, than string) bool {
	a, b := versionOf(tag), versionOf(than)
	return a != nil && b != nil && a.GreaterThan(b)
}

// clearer breaks the tie between two tags of one version: 1.27.0 before 1.27, which
// moves on; without a v before with it; then the first by the alphabet.
func clearer(a, b string) bool {
	if x, y := strings.Count(a, "."), strings.Count(b, "."); x != y {
		return x > y
	}
	if x, y := strings.HasPrefix(a, "v"), strings.HasPrefix(b, "v"); x != y {
		return y
	}
	return a < b
}

// version is a tag that is a version: two or three numbers, with a v or without, and what
// is a pre-release to semver (1.27.3-alpine too). One number alone is none: a date or the
// number of a build would be newer than all versions.
var version = regexp.MustCompile(`^v?(0|[1-9][0-9]{0,9})(\.(0|[1-9][0-9]{0,9})){1,2}(-[0-9A-Za-z.-]+)?$`)

// versionOf reads a tag as a version; nil where it is none.
func versionOf(tag string) *semver.Version {
	if !version.MatchString(tag) {
		return nil
	}
	v, err := semver.NewVersion(tag)
	if err != nil {
		return nil
	}
	return v
}

// readFollow reads what a service follows.
func readFollow(r *report, value any, at []string, service map[string]any, stack Policy) (to Follow) {
	block, ok := policyBlock(r, value, at)
	if !ok {
		return Follow{}
	}
	f := fields{report: r, block: block, at: at}
	f.known("tag", "semver", "every")
	to.Every = defaultFollowEvery
	f.words("tag", &to.Tag)
	f.words("semver", &to.Semver)
	f.duration("every", &to.Every)
	if to.Every < minFollowEvery {
		f.fail("every", "is %s, and registries are not asked so often (write 1m or more)", to.Every)
	}
	if to.Tag != "" && !wholeTag.MatchString(to.Tag) {
		f.fail("tag", "is %q, which is no tag (write the part of an image's name behind the colon, such as 1.27)", to.Tag)
	}
	if err := checkConstraint(to.Semver); err != nil {
		f.fail("semver", "is %q, which is no constraint: %v (write one such as ~1.27, which is 1.27.0 or newer and older than 1.28, or >=1.2 <3)", to.Semver, err)
	}
	switch {
	case to.Tag != "" && to.Semver != "":
		r.fail("x-skep", at, "%s has both tag and semver (keep one: tag follows the digest of one tag, semver the newest version)", strings.Join(at, "."))
	case block["tag"] == nil && block["semver"] == nil:
		r.fail("x-skep", at, "%s says neither tag nor semver (write tag: \"1.27\" for the digest of that tag, or semver: ~1.27 for the newest version)", strings.Join(at, "."))
	}
	to.fits(r, at, service, stack)
	return to
}

// fits tells what else in the file makes no sense with following.
func (to Follow) fits(r *report, at []string, service map[string]any, stack Policy) {
	place := strings.Join(at, ".")
	if stack.Images == ImagesAsWritten {
		r.fail("x-skep", at, "%s asks the registry for digests, and x-skep.images is as-written, which asks none (take out one of the two)", place)
	}
	for _, path := range stack.Ignore {
		if path.Service == at[1] && path.Path == "image" {
			r.fail("x-skep", at, "%s sets the image, and x-skep.ignore has services.%s.image, which leaves it to somebody else (take out one of the two)", place, at[1])
		}
	}
	image, _ := service["image"].(string)
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return // told as what it is
	}
	if _, ok := ref.(reference.Digested); ok {
		r.fail("x-skep", at, "%s follows a tag, and the image %s is named by its digest, which never changes (take out the digest, or follow)", place, image)
	}
}

var wholeTag = regexp.MustCompile(`^[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}$`)

func checkConstraint(text string) error {
	if len(text) > maxConstraint {
		return fmt.Errorf("it is longer than %d characters", maxConstraint)
	}
	if text == "" {
		return nil
	}
	_, err := semver.NewConstraint(text)
	return err
}

// words reads text that must not be empty. A number is none: 1.10 is 1.1 to YAML.
func (f *fields) words(key string, to *string) {
	switch v := f.block[key].(type) {
	case nil:
	case string:
		if *to = v; strings.TrimSpace(v) == "" {
			f.fail(key, "is empty (write what is meant, or take it out)")
		}
	default:
		f.fail(key, "is %s without quotes, which is no text to YAML (write it in quotes: 1.10 would be 1.1)", text(v))
	}
}
