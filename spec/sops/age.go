package sops

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// ageMagic begins a file of age; one that is armored begins as armor.Header does.
const ageMagic = "age-encryption.org/v1\n"

// isAge tells a file of age by how it begins.
func isAge(data []byte) bool {
	return bytes.HasPrefix(data, []byte(ageMagic)) || isArmored(data)
}

func isArmored(data []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(data[:min(len(data), 1024)], " \t\r\n"), []byte(armor.Header))
}

// An ageHeader is what is known of a file of age without a key.
type ageHeader struct {
	binary     []byte // the file, without armor
	stanzas    int    // how many recipients it has
	passphrase bool   // or one of these instead
}

// readAgeHeader takes off the armor and counts recipients.
func readAgeHeader(data []byte) (ageHeader, error) {
	if len(data) > maxSize {
		return ageHeader{}, damaged("it is encrypted by age, and has more than the %d MiB that are read of such a file", maxSize>>20)
	}
	h := ageHeader{binary: data}
	if isArmored(data) {
		var err error
		if h.binary, err = io.ReadAll(armor.NewReader(bytes.NewReader(data))); err != nil || !bytes.HasPrefix(h.binary, []byte(ageMagic)) {
			return ageHeader{}, damaged("it begins as an armored file of age, and is none to its end")
		}
	}
	for line := range bytes.SplitSeq(h.binary[len(ageMagic):], []byte("\n")) {
		if kind, ok := bytes.CutPrefix(line, []byte("-> ")); ok {
			h.stanzas++
			h.passphrase = h.passphrase || bytes.HasPrefix(kind, []byte("scrypt "))
		}
		if bytes.HasPrefix(line, []byte("---")) {
			break
		}
	}
	if h.stanzas == 0 || h.stanzas > maxRecipients {
		return ageHeader{}, damaged("it is encrypted by age for no recipient, or for more than %d", maxRecipients)
	}
	return h, nil
}

// openAge opens a file of age.
func (k *Keys) openAge(f *File, b *Budget) ([]byte, error) {
	if f.header.passphrase {
		return nil, noKey("it is encrypted by age with a passphrase, and nobody is there to type it (encrypt it for a key: age -r age1…)")
	}
	identities, err := k.identities()
	if err != nil {
		return nil, err
	}
	plain, err := openFor(f.header, identities, b)
	if errors.Is(err, errNotFor) {
		return nil, noKey("%s among those that it is encrypted for (encrypt it for %s)", none(identities), publicKeys(identities))
	}
	return plain, err
}

// errNotFor is of a file of age that is for none of some identities.
var errNotFor = errors.New("it is for other keys")

// openFor opens a file of age by any of some identities.
func openFor(h ageHeader, identities []identity, b *Budget) ([]byte, error) {
	if err := b.take(h.stanzas * len(identities)); err != nil {
		return nil, err
	}
	all := make([]age.Identity, len(identities))
	for i, id := range identities {
		all[i] = id
	}
	r, err := age.Decrypt(bytes.NewReader(h.binary), all...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, errNotFor
	}
	if err != nil {
		return nil, damaged("its header, by which age finds the key, is not what age wrote")
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, damaged("it is not what age encrypted: cut off, or changed")
	}
	return plain, nil
}

// dataKey finds the key of a file of sops, which is kept encrypted for each recipient.
func (k *Keys) dataKey(keys []ageKey, b *Budget) ([]byte, error) {
	identities, err := k.identities()
	if err != nil {
		return nil, err
	}
	var broken error
	for _, id := range identities {
		i := slices.IndexFunc(keys, func(key ageKey) bool { return key.recipient == id.public })
		if i < 0 {
			continue
		}
		plain, err := openKey(keys[i], id, b)
		if err == nil {
			return plain, nil
		}
		broken = err
	}
	if broken != nil {
		return nil, broken
	}
	return nil, noKey("%s among those that it is encrypted for (add %s to .sops.yaml, and run sops updatekeys)", none(identities), publicKeys(identities))
}

// openKey opens a file's key that is kept for one recipient.
func openKey(key ageKey, id identity, b *Budget) ([]byte, error) {
	if !isAge([]byte(key.enc)) {
		return nil, damaged("what it has for the recipient %s is not encrypted by age", clean(key.recipient))
	}
	header, err := readAgeHeader([]byte(key.enc))
	if err != nil {
		return nil, err
	}
	plain, err := openFor(header, []identity{id}, b)
	if errors.Is(err, errNotFor) {
		return nil, damaged("what it has for the recipient %s is for another one", clean(key.recipient))
	}
	return plain, err
}

// none is the subject of a sentence about identities that do not fit.
func none(identities []identity) string {
	if len(identities) == 1 {
		return "the key there is not"
	}
	return fmt.Sprintf("none of the %d keys there is", len(identities))
}

// publicKeys are those of identities, for people to encrypt for.
func publicKeys(identities []identity) string {
	var names []string
	for _, id := range identities {
		names = append(names, clean(id.public))
	}
	return strings.ReplaceAll(listed(names), " and ", " or ")
}
