package gitsync

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// Signers are those who may sign commits.
type signers interface {
	// verify is nil when one of them signed payload. at is when the commit says that it
	// was made.
	verify(payload []byte, signature string, at time.Time) error
}

// maxSigners is how much of a file with signers is read.
const maxSigners = 16 << 20

const pgpArmor = "-----BEGIN PGP "

// readSigners reads a file of ssh's allowed signers, or an armored OpenPGP keyring.
func readSigners(file string) (signers, error) {
	text, err := readUpTo(file, maxSigners)
	if err != nil {
		return nil, fmt.Errorf("read who may sign: %w", err)
	}
	if bytes.Contains(text, []byte(pgpArmor)) {
		return readKeyring(file, text)
	}
	return parseAllowedSigners(file, string(text))
}

// verifyCommit sees whether a commit is signed by one of s.
func verifyCommit(st *filesystem.Storage, hash plumbing.Hash, s signers) error {
	raw, err := readMeta(st, plumbing.CommitObject, hash)
	if err != nil {
		return fmt.Errorf("read commit %s: %w", hash, err)
	}
	payload, signature, err := splitSignature(raw)
	if err == nil && signature == "" {
		err = errors.New("it is not signed")
	}
	if err == nil {
		err = s.verify(payload, signature, committedAt(payload))
	}
	if err != nil {
		return refused(GitUnverified, "commit %.7s is not to be trusted: %w", hash, err)
	}
	return nil
}

// splitSignature takes a commit apart: what was signed, which is all but the signature's
// own header, and the signature, "" for none.
func splitSignature(raw []byte) (payload []byte, signature string, err error) {
	var sig strings.Builder
	inside, seen := false, false
	for rest := raw; len(rest) > 0; {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		if len(line) == 0 { // the message begins
			return append(payload, rest...), sig.String(), nil
		}
		whole := rest[:len(rest)-len(after)]
		rest = after
		if line[0] == ' ' && inside {
			sig.Write(line[1:])
			sig.WriteByte('\n')
			continue
		}
		inside = false
		first, isSignature := bytes.CutPrefix(line, []byte("gpgsig "))
		switch {
		case !isSignature && bytes.HasPrefix(line, []byte("gpgsig")):
			return nil, "", errors.New("it has a signature of a kind that skep does not know")
		case !isSignature:
			payload = append(payload, whole...)
			continue
		case seen:
			return nil, "", errors.New("it has several signatures")
		}
		inside, seen = true, true
		sig.Write(first)
		sig.WriteByte('\n')
	}
	return payload, sig.String(), nil
}

// committedAt is the time of a commit's committer, who signs; zero where it has none.
func committedAt(payload []byte) time.Time {
	for line := range strings.Lines(string(payload)) {
		words := strings.Fields(line)
		if len(words) == 0 {
			break
		}
		if words[0] == "committer" && len(words) > 2 {
			var seconds int64
			if _, err := fmt.Sscan(words[len(words)-2], &seconds); err == nil {
				return time.Unix(seconds, 0)
			}
		}
	}
	return time.Time{}
}

// A keyring is of OpenPGP.
type keyring struct{ keys openpgp.EntityList }

func readKeyring(file string, text []byte) (signers, error) {
	var all openpgp.EntityList
	for rest := text; ; {
		at := bytes.Index(rest, []byte(pgpArmor))
		if at < 0 {
			break
		}
		if bytes.HasPrefix(rest[at:], []byte(pgpArmor+"PRIVATE")) {
			return nil, fmt.Errorf("%s has a private key in it: only public ones belong there (gpg --armor --export)", file)
		}
		end := bytes.Index(rest[at:], []byte("-----END PGP "))
		if end < 0 {
			return nil, fmt.Errorf("%s is cut off", file)
		}
		_, after, _ := bytes.Cut(rest[at+end:], []byte("\n"))
		block := rest[at : len(rest)-len(after)]
		keys, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(block))
		if err != nil {
			return nil, fmt.Errorf("%s is no armored OpenPGP keyring (gpg --armor --export): %w", file, err)
		}
		all, rest = append(all, keys...), after
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no key", file)
	}
	return keyring{all}, nil
}

// verify sees whether one of the keys signed, and may still sign now.
func (k keyring) verify(payload []byte, signature string, _ time.Time) error {
	if !strings.HasPrefix(signature, pgpArmor+"SIGNATURE") {
		return errors.New("it is signed, but not by OpenPGP")
	}
	_, err := openpgp.CheckArmoredDetachedSignature(k.keys, bytes.NewReader(payload), strings.NewReader(signature), nil)
	if err != nil {
		return fmt.Errorf("its OpenPGP signature is of nobody who may sign: %w", spoken(err))
	}
	return nil
}

// readUpTo reads a file that is not larger than a limit.
func readUpTo(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s is larger than %s", file, size(limit))
	}
	return text, nil
}
