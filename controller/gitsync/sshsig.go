package gitsync

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// What ssh signs with a key for a purpose: OpenSSH's PROTOCOL.sshsig.
const (
	sshsigArmor   = "SSH SIGNATURE"
	sshsigMagic   = "SSHSIG"
	sshsigVersion = 1
	// gitNamespace is the purpose that git signs for.
	gitNamespace = "git"
)

// A sshsig is a signature, taken apart.
type sshsig struct {
	key       ssh.PublicKey
	namespace string
	reserved  string
	hash      string
	signature ssh.Signature
}

// parseSSHSig reads an armored signature.
func parseSSHSig(text string) (*sshsig, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != sshsigArmor || len(block.Headers) > 0 {
		return nil, errors.New("it is signed, but not by ssh")
	}
	blob, ok := bytes.CutPrefix(block.Bytes, []byte(sshsigMagic))
	var wire struct {
		Version   uint32
		Key       string
		Namespace string
		Reserved  string
		Hash      string
		Signature []byte
	}
	if !ok || ssh.Unmarshal(blob, &wire) != nil || wire.Version != sshsigVersion {
		return nil, errors.New("its ssh signature is damaged, or of another version")
	}
	s := &sshsig{namespace: wire.Namespace, reserved: wire.Reserved, hash: wire.Hash}
	var err error
	if s.key, err = ssh.ParsePublicKey([]byte(wire.Key)); err != nil {
		return nil, errors.New("its ssh signature is by a key of a kind that skep does not know")
	}
	if err := ssh.Unmarshal(wire.Signature, &s.signature); err != nil {
		return nil, errors.New("its ssh signature is damaged")
	}
	return s, nil
}

// check sees whether the key that is in the signature signed payload.
func (s *sshsig) check(payload []byte) error {
	var sum []byte
	switch s.hash {
	case "sha256":
		h := sha256.Sum256(payload)
		sum = h[:]
	case "sha512":
		h := sha512.Sum512(payload)
		sum = h[:]
	default:
		return errors.New("its ssh signature uses an unknown hash")
	}
	if s.signature.Format == ssh.KeyAlgoRSA { // with SHA-1, which the protocol forbids
		return errors.New("its ssh signature uses SHA-1")
	}
	signed := append([]byte(sshsigMagic), ssh.Marshal(struct{ Namespace, Reserved, Hash, Sum string }{
		s.namespace, s.reserved, s.hash, string(sum),
	})...)
	if err := s.key.Verify(signed, &s.signature); err != nil {
		return errors.New("its ssh signature does not belong to it")
	}
	return nil
}

// An allowedSigner is a line of a file of allowed signers, as ssh-keygen(1) has it.
type allowedSigner struct {
	line       int
	key        []byte
	namespaces []string // patterns; none: any
	after      time.Time
	before     time.Time
}

type allowedSigners struct {
	file  string
	lines []allowedSigner
}

// parseAllowedSigners reads a file of allowed signers. What it cannot keep to it refuses.
func parseAllowedSigners(file, text string) (signers, error) {
	out := allowedSigners{file: file}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s, err := parseAllowedSigner(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, number, err)
		}
		s.line = number
		out.lines = append(out.lines, s)
	}
	if len(out.lines) == 0 {
		return nil, fmt.Errorf("%s names nobody (a line is: PRINCIPAL ssh-ed25519 AAAA…)", file)
	}
	return out, nil
}

func parseAllowedSigner(line string) (s allowedSigner, err error) {
	words, err := splitQuoted(line, ' ')
	if err != nil {
		return s, err
	}
	words = words[1:] // whoever they are: it is the key that counts, as for git
	key := keyAt(words)
	if key == nil && len(words) > 0 {
		if err := s.options(words[0]); err != nil {
			return s, err
		}
		key = keyAt(words[1:])
	}
	if key == nil {
		return s, errors.New("this has no ssh key (a line is: PRINCIPAL [OPTIONS] ssh-ed25519 AAAA…)")
	}
	s.key = key
	return s, nil
}

// keyAt is the public key that words begin with; nil for none.
func keyAt(words []string) []byte {
	if len(words) < 2 {
		return nil
	}
	blob, err := base64.StdEncoding.DecodeString(words[1])
	if err != nil {
		return nil
	}
	k, err := ssh.ParsePublicKey(blob)
	if err != nil || k.Type() != words[0] {
		return nil
	}
	return blob
}

func (s *allowedSigner) options(text string) error {
	list, err := splitQuoted(text, ',')
	if err != nil {
		return err
	}
	for _, option := range list {
		name, value, _ := strings.Cut(option, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "namespaces":
			s.namespaces = strings.Split(value, ",")
		case "valid-after":
			s.after, err = sshTime(value)
		case "valid-before":
			s.before, err = sshTime(value)
		case "cert-authority":
			err = errors.New("skep does not follow certificates (name the signers' keys instead of cert-authority)")
		default:
			err = fmt.Errorf("%q is neither an option that skep knows nor an ssh key", clean(name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// splitQuoted takes a line apart where sep is, but for what is in quotes, which stay. Of
// blanks several are one.
func splitQuoted(line string, sep rune) ([]string, error) {
	quoted := false
	words := strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == sep || sep == ' ' && r == '\t')
	})
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	return words, nil
}

// sshTime reads a time as ssh-keygen(1) writes it; without Z it is local.
func sshTime(text string) (time.Time, error) {
	zone := time.Local
	digits, utc := strings.CutSuffix(text, "Z")
	if utc {
		zone = time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(layout) != len(digits) {
			continue
		}
		if t, err := time.ParseInLocation(layout, digits, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time (write it as YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with Z for UTC)", clean(text))
}

func (a allowedSigners) verify(payload []byte, signature string, at time.Time) error {
	s, err := parseSSHSig(signature)
	if err != nil {
		return err
	}
	if s.namespace != gitNamespace {
		return fmt.Errorf("its ssh signature is for %q, not for git", clean(s.namespace))
	}
	if err := s.check(payload); err != nil {
		return err
	}
	who := fmt.Errorf("it is signed with the ssh key %s, which %s does not have", ssh.FingerprintSHA256(s.key), a.file)
	for _, line := range a.lines {
		if !bytes.Equal(line.key, s.key.Marshal()) {
			continue
		}
		err := line.allows(at)
		if err == nil {
			return nil
		}
		who = fmt.Errorf("it is signed with the ssh key %s, and %s:%d %w", ssh.FingerprintSHA256(s.key), a.file, line.line, err)
	}
	return who
}

// allows says whether a line is for git, and for a commit of that time.
func (s allowedSigner) allows(at time.Time) error {
	if len(s.namespaces) > 0 && !matchesAny(s.namespaces, gitNamespace) {
		return errors.New("does not let it sign for git")
	}
	if !s.after.IsZero() && at.Before(s.after) || !s.before.IsZero() && !at.Before(s.before) {
		return fmt.Errorf("did not let it sign at %s", at.UTC().Format(time.RFC3339))
	}
	return nil
}

// matchesAny matches as ssh does: * and ?, and a pattern that begins with ! excludes.
func matchesAny(patterns []string, name string) bool {
	matched := false
	for _, p := range patterns {
		p, not := strings.CutPrefix(p, "!")
		ok, err := path.Match(strings.NewReplacer(`\`, `\\`, `[`, `\[`).Replace(p), name)
		if err != nil || !ok {
			continue
		}
		if not {
			return false
		}
		matched = true
	}
	return matched
}
