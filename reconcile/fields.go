package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// How values are shown to people. A show function returns "" for a value that is
// not there.

func verbatim(s string) string        { return maskText(s) }
func showInt(n int64) string          { return orBlank(n, strconv.FormatInt(n, 10)) }
func showUint(n uint64) string        { return orBlank(n, strconv.FormatUint(n, 10)) }
func showList(l []string) string      { return maskText(strings.Join(l, ", ")) }
func showParallelism(n uint64) string { return cmp.Or(showUint(n), "0 (all at once)") }
func showRatio(r float32) string      { return strconv.FormatFloat(float64(r), 'g', -1, 32) }

// orBlank is shown, or "" for a zero value.
func orBlank[T comparable](v T, shown string) string {
	var zero T
	if v == zero {
		return ""
	}
	return shown
}

func showInit(b *bool) string {
	if b == nil {
		return ""
	}
	return strconv.FormatBool(*b)
}

// showDuration writes 90s as "1m30s" and one minute as "1m".
func showDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// showSpan is a duration for which nothing means none.
func showSpan(d time.Duration) string { return orBlank(d, showDuration(d)) }

// showCPUs writes nano CPUs as an exact decimal.
func showCPUs(nano int64) string {
	s := fmt.Sprintf("%d.%09d", nano/1e9, nano%1e9)
	return orBlank(nano, strings.TrimRight(strings.TrimRight(s, "0"), "."))
}

// showBytes writes a size with the largest unit that divides it.
func showBytes(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "G"}, {1 << 20, "M"}, {1 << 10, "K"}} {
		if n != 0 && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return orBlank(n, strconv.FormatInt(n, 10)+"B")
}

func showScale(s scale) string {
	total := strconv.FormatUint(s.total, 10)
	if s.concurrent == s.total {
		return total
	}
	return fmt.Sprintf("%s (%d at once)", total, s.concurrent)
}

// shownDigest is how many hex digits of a digest are told apart by eye.
const shownDigest = 12

// showImage is the short form of an image: as docker shows it, with a short digest.
func showImage(image string) string {
	if ref, err := reference.ParseNormalizedNamed(image); err == nil {
		image = reference.FamiliarString(ref)
	}
	name, digest, pinned := strings.Cut(image, "@sha256:")
	if !pinned || len(digest) <= shownDigest {
		return image
	}
	return name + "@" + digest[:shownDigest]
}

func showCommand(args []string) string {
	out := make([]string, len(args))
	for i, a := range args {
		name, v, set := strings.Cut(a, "=")
		switch {
		case set && argName.MatchString(name) && spec.LooksSecret(name) && !namesFile(name, v):
			a = name + "=" + masked // all of it, with spaces too
		case i == 0:
		case userFlag.MatchString(args[i-1]):
			a = login.ReplaceAllString(a, "${1}:"+masked)
		case strings.HasPrefix(args[i-1], "-") && !strings.Contains(args[i-1], "=") && spec.LooksSecret(args[i-1]) && !namesFile(args[i-1], a):
			a = masked
		}
		out[i] = quoteArg(maskText(a))
	}
	return strings.Join(out, " ")
}

var plainArg = regexp.MustCompile(`^[\w@%+=:,./•-]+$`)

func quoteArg(a string) string {
	if plainArg.MatchString(a) {
		return a
	}
	return "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
}

func showEnv(entry string) string {
	k, v, set := strings.Cut(entry, "=")
	if !set {
		return "(unset)"
	}
	return showNamed(k, v)
}

// showNamed shows a value that has a name, masked where either looks secret.
func showNamed(name, v string) string {
	switch {
	case v == "":
		return `""`
	case spec.LooksSecret(name) && !namesFile(name, v):
		return masked
	}
	return maskText(v)
}

func showUlimit(u *container.Ulimit) string {
	if u.Soft == u.Hard {
		return strconv.FormatInt(u.Soft, 10)
	}
	return fmt.Sprintf("%d:%d", u.Soft, u.Hard)
}

func showCredential(c swarm.CredentialSpec) string {
	switch {
	case c.Config != "":
		return "config " + c.Config
	case c.File != "":
		return "file " + c.File
	case c.Registry != "":
		return "registry " + c.Registry
	}
	return ""
}

func portKey(p *swarm.PortConfig) string {
	return fmt.Sprintf("%d/%s", p.TargetPort, portOf(p).Protocol)
}

func showPort(p *swarm.PortConfig) string {
	s := portKey(p)
	if p.PublishedPort != 0 {
		s = fmt.Sprintf("%d:%s", p.PublishedPort, s)
	}
	if portOf(p).PublishMode == swarm.PortConfigPublishModeHost {
		s += " on each host"
	}
	if p.Name != "" {
		s += " named " + p.Name
	}
	return s
}

func showMount(m *mount.Mount) string {
	words := []string{string(m.Type)}
	if m.Source != "" {
		words = append(words, m.Source)
	}
	var more []string
	tell := func(when bool, what string) {
		if when {
			more = append(more, what)
		}
	}
	tell(m.ReadOnly, "read-only")
	if m.BindOptions != nil {
		b := bindOf(m)
		tell(b.Propagation != mount.PropagationRPrivate, string(b.Propagation))
		tell(b.NonRecursive, "not recursive")
	}
	if o := m.VolumeOptions; o != nil {
		tell(o.NoCopy, "nocopy")
		tell(o.Subpath != "", "subpath "+o.Subpath)
		if o.DriverConfig != nil {
			tell(o.DriverConfig.Name != "", "driver "+o.DriverConfig.Name)
			more = append(more, showPairs(o.DriverConfig.Options)...)
		}
		more = append(more, showPairs(withoutNamespace(o.Labels))...)
	}
	if o := m.TmpfsOptions; o != nil {
		tell(o.SizeBytes != 0, showBytes(o.SizeBytes))
		tell(o.Mode != 0, fmt.Sprintf("mode %#o", o.Mode))
		tell(len(o.Options) > 0, showTmpfsOptions(o.Options))
	}
	return withDetails(strings.Join(words, " "), more)
}

func showTmpfsOptions(options [][]string) string {
	var out []string
	for _, o := range options {
		out = append(out, strings.Join(o, "="))
	}
	return strings.Join(out, ", ")
}

// withoutNamespace leaves out the label that every volume of a stack has.
func withoutNamespace(labels map[string]string) map[string]string {
	labels = maps.Clone(labels)
	delete(labels, spec.LabelNamespace)
	return labels
}

func withDetails(s string, details []string) string {
	if len(details) == 0 {
		return s
	}
	return s + " (" + strings.Join(details, ", ") + ")"
}

func showPairs(m map[string]string) []string {
	var out []string
	for _, k := range sortedKeys(m) {
		out = append(out, k+"="+showNamed(k, m[k]))
	}
	return out
}

func showConfig(name string, r *swarm.ConfigReference) string {
	if r.File == nil {
		return name + " (for the runtime)"
	}
	return withDetails(name, fileDetails(r.File.UID, r.File.GID, uint32(r.File.Mode)))
}

func showSecret(name string, r *swarm.SecretReference) string {
	if r.File == nil {
		return name
	}
	return withDetails(name, fileDetails(r.File.UID, r.File.GID, uint32(r.File.Mode)))
}

func fileDetails(uid, gid string, mode uint32) []string {
	var out []string
	if cmp.Or(uid, "0") != "0" || cmp.Or(gid, "0") != "0" {
		out = append(out, "owner "+cmp.Or(uid, "0")+":"+cmp.Or(gid, "0"))
	}
	if mode != 0o444 {
		out = append(out, fmt.Sprintf("mode %#o", mode))
	}
	return out
}

func showAttachment(n *swarm.NetworkAttachmentConfig) string {
	s := "attached"
	if len(n.Aliases) > 0 {
		s = "as " + strings.Join(sortedCopy(n.Aliases), ", ")
	}
	return withDetails(s, showPairs(n.DriverOpts))
}

func genericResource(r *swarm.GenericResource) (kind, amount string) {
	switch {
	case r.DiscreteResourceSpec != nil:
		return r.DiscreteResourceSpec.Kind, strconv.FormatInt(r.DiscreteResourceSpec.Value, 10)
	case r.NamedResourceSpec != nil:
		return r.NamedResourceSpec.Kind, r.NamedResourceSpec.Value
	}
	return "", ""
}

func showPreferences(s *swarm.ServiceSpec) string {
	var out []string
	for _, p := range placementOf(s).Preferences {
		if p.Spread != nil {
			out = append(out, "spread "+p.Spread.SpreadDescriptor)
		}
	}
	return strings.Join(out, ", ")
}

// What looks secret.

const masked = "•••"

// namesFile says that a value is where a secret lies, not the secret.
func namesFile(name, v string) bool {
	return strings.HasSuffix(strings.ToUpper(name), "FILE") && strings.HasPrefix(v, "/")
}

// A text may be long, and its author hostile: what finds a name or the head of a URL does
// not look at what stands behind, so that no part is looked at again for each of them.
var (
	nameBefore = regexp.MustCompile(`([A-Za-z][\w.-]*)["']?\s*[=:]\s*`)
	flagBefore = regexp.MustCompile(`-([A-Za-z][\w-]*)\s+`)
	// shellWord is a word of a command line, or a text of JSON.
	shellWord  = regexp.MustCompile(`^(?:'[^']*'|"(?:[^"\\]|\\.)*"|[^\s'"]+)(?:['"]\w\S*)?`)
	userBefore = regexp.MustCompile(`\b[A-Za-z][A-Za-z0-9+.-]*://[^\s:/@'"]*:`)
	userToken  = regexp.MustCompile(`(\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s:/@'"]{16,}@`)
	portAfter  = regexp.MustCompile(`^\d+/`)
	hashedWord = regexp.MustCompile(`\$(apr1|2[abxy]|1|5|6|argon2(id|i|d)|scrypt|pbkdf2)\$\S+`)
	// tokenWord are tokens that are known by how they begin: of forges, chats and clouds,
	// JSON web tokens, and the paths of web hooks.
	tokenWord = regexp.MustCompile(`\b(gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|AKIA|eyJ[\w-]{8,}\.eyJ|hooks\.slack\.com/services/)[\w./+=-]{6,}`)
	bearer    = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[^\s'"]+`)
	argName   = regexp.MustCompile(`^-*[A-Za-z][\w.-]*$`)
	userFlag  = regexp.MustCompile(`^(-u|--user|-U|--proxy-user)$`)
	userArg   = regexp.MustCompile(`(^|\s)(-u|--user|-U|--proxy-user)([\s=]+['"]?[^\s:'"]*[^\s:'"\d][^\s:'"]*):[^\s'"]+`)
	login     = regexp.MustCompile(`^([^:]*[^:\d][^:]*):(.+)$`) // not UID:GID
)

// maskText hides what looks secret wherever it stands: passwords in URLs and of users,
// password hashes, private keys, and values with a name before them that looks
// secret (password=…, --token …, "apiKey": …).
func maskText(s string) string {
	if strings.Contains(s, "-----BEGIN") {
		return masked
	}
	s = userToken.ReplaceAllString(maskURLs(s), "${1}"+masked+"@")
	s = hashedWord.ReplaceAllString(s, masked)
	s = tokenWord.ReplaceAllString(s, "${1}"+masked)
	s = bearer.ReplaceAllString(s, "${1} "+masked)
	s = userArg.ReplaceAllString(s, "${1}${2}${3}:"+masked)
	return maskNamed(flagBefore, maskNamed(nameBefore, s))
}

// maskURLs hides the passwords in URLs, up to the last @ of a word: one may have an @ of
// its own. Behind a port it goes on, since there may be another URL.
func maskURLs(s string) string {
	var b strings.Builder
	for {
		at := userBefore.FindStringIndex(s)
		if at == nil {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:at[1]])
		s = s[at[1]:]
		end := len(portAfter.FindString(s))
		if end == 0 {
			if end = strings.IndexAny(s, "\t\n\f\r '\""); end < 0 {
				end = len(s)
			}
			if last := strings.LastIndexByte(s[:end], '@'); last > 0 {
				b.WriteString(masked)
				s, end = s[last:], 1
			}
		}
		b.WriteString(s[:end])
		s = s[end:]
	}
}

// maskNamed hides the values behind names, which before finds, that look secret.
// It goes on behind a name that does not, since its value may hold another pair.
func maskNamed(before *regexp.Regexp, s string) string {
	var b strings.Builder
	for {
		at := before.FindStringSubmatchIndex(s)
		if at == nil {
			b.WriteString(s)
			return b.String()
		}
		name := s[at[2]:at[3]]
		b.WriteString(s[:at[1]])
		s = s[at[1]:]
		if spec.LooksSecret(name) && !namesFile(name, s) {
			if word := shellWord.FindString(s); word != "" {
				b.WriteString(masked)
				s = s[len(word):]
			}
		}
	}
}

// tellApart makes a change visible that masking or shortening made look like none.
func tellApart(f Field) Field {
	if f.Old == f.New && f.Old != "" {
		f.New += " (changed)"
	}
	return f
}

func sortedCopy(l []string) []string { return slices.Sorted(slices.Values(l)) }
