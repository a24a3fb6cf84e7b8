package sops

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"time"
)

// encPrefix begins an encrypted value.
const encPrefix = "ENC[AES256_GCM,data:"

// macStart begins what a MAC over encrypted values alone is over, so that it is never
// that over all: the SHA-256 of "sops".
var macStart = []byte{
	0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b,
	0x0b, 0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
}

// A decryption is the work on one file.
type decryption struct {
	block   cipher.Block
	rule    rule
	macOnly bool
	mac     hash.Hash
	context int // bytes of paths so far
}

// decrypt puts values in place of the encrypted ones, and verifies the MAC that is over
// them and their order. A value that was moved to another key, taken from another file,
// added, or left out is found by it. What the format binds to nothing is the type of a
// value: one that was a number can be made the same digits as text.
func (f *File) decrypt(key []byte) error {
	block, err := aes.NewCipher(key)
	if err != nil || len(key) != 32 {
		return damaged("its key has another length than sops gives one")
	}
	d := &decryption{block: block, rule: f.meta.rule, macOnly: f.meta.macOnly, mac: sha512.New()}
	if d.macOnly {
		d.mac.Write(macStart)
	}
	for _, b := range f.tree {
		if err := d.branch(b, nil, false, false); err != nil {
			return err
		}
	}
	told, err := d.open(f.meta.mac, f.meta.modified)
	text, ok := told.(string)
	if err != nil || !ok || subtle.ConstantTimeCompare([]byte(text), fmt.Appendf(nil, "%X", d.mac.Sum(nil))) != 1 {
		return damaged("its values are not those that its MAC is over: somebody changed it without sops (put back the last version that sops wrote, and edit that with sops)")
	}
	return nil
}

// encrypted says whether a value is one that the rule has encrypted: below a key, or
// below a comment, that it fits.
func (d *decryption) encrypted(key, comment bool) bool {
	switch d.rule.kind {
	case only:
		return key
	case allButComments:
		return !comment
	case onlyComments:
		return comment
	}
	return !key
}

// keyFits and commentFits ask the rule, if it is about keys or comments.
func (d *decryption) keyFits(key string) bool {
	return (d.rule.kind == allBut || d.rule.kind == only) && d.rule.fits(key)
}

func (d *decryption) commentFits(text string) bool {
	return (d.rule.kind == allButComments || d.rule.kind == onlyComments) && d.rule.fits(text)
}

// branch decrypts a mapping. key and comment say what the rule found above it.
func (d *decryption) branch(b branch, path []string, key, above bool) error {
	active := false // a comment that belongs to the next value fits
	for n, i := range b {
		if c, ok := i.key.(comment); ok {
			found, err := d.comment(c, path, key, above || active)
			if err != nil {
				return err
			}
			b[n].key = found
			active = active || d.commentFits(c.text)
			continue
		}
		name := i.key.(string)
		v, err := d.value(i.value, append(path, name), key || d.keyFits(name), above || active)
		if _, ok := v.(comment); ok && err == nil {
			err = damaged("a comment in it stands where a value belongs")
		}
		if err != nil {
			return err
		}
		b[n].value, active = v, false
	}
	return nil
}

// list decrypts a sequence, whose elements have its own path.
func (d *decryption) list(l list, path []string, key, above bool) error {
	active := false
	for n, element := range l {
		if c, ok := element.(comment); ok {
			found, err := d.comment(c, path, key, above || active)
			if err != nil {
				return err
			}
			l[n] = found
			active = active || d.commentFits(c.text)
			continue
		}
		v, err := d.value(element, path, key, above || active)
		if err != nil {
			return err
		}
		l[n], active = v, false
	}
	return nil
}

// comment decrypts one. It is not in the MAC; older versions of sops left it as it was.
func (d *decryption) comment(c comment, path []string, key, above bool) (comment, error) {
	own := d.rule.kind == allButComments && d.commentFits(c.text)
	if !d.encrypted(key, above || own) {
		return c, nil
	}
	context, err := d.contextOf(path)
	if err != nil {
		return c, err
	}
	v, err := d.open(c.text, context)
	if plain, ok := v.(comment); err == nil && ok {
		return plain, nil
	}
	return c, nil
}

// value decrypts any value.
func (d *decryption) value(v any, path []string, key, above bool) (any, error) {
	switch v := v.(type) {
	case branch:
		return v, d.branch(v, path, key, above)
	case list:
		return v, d.list(v, path, key, above)
	case nil:
		return nil, nil // is never encrypted
	}
	encrypted := d.encrypted(key, above)
	if encrypted {
		text, ok := v.(string)
		if !ok {
			return nil, damaged("a value in it is to be encrypted, and is not (edit it with sops)")
		}
		context, err := d.contextOf(path)
		if err != nil {
			return nil, err
		}
		if v, err = d.open(text, context); err != nil {
			return nil, damaged("a value in it %v", err)
		}
	}
	if _, isComment := v.(comment); isComment { // in a list, where sops makes an encrypted one an element
		return v, nil
	}
	if encrypted || !d.macOnly {
		d.mac.Write(macBytes(v))
	}
	return v, nil
}

// contextOf is what a value is bound to: the keys that lead to it.
func (d *decryption) contextOf(path []string) (string, error) {
	n := 1
	for _, key := range path {
		n += len(key) + 1
	}
	if d.context += n; d.context > maxContext {
		return "", damaged("its keys are too long")
	}
	return strings.Join(path, ":") + ":", nil
}

var (
	errNotEncrypted = errors.New("is to be encrypted, and is not (edit it with sops)")
	errOtherPlace   = errors.New("is not what sops encrypted there: it was changed, or moved, without sops (put back the last version that sops wrote, and edit that with sops)")
)

// open decrypts one value, which is bound to a context.
func (d *decryption) open(text, context string) (any, error) {
	if text == "" {
		return "", nil // is never encrypted
	}
	sealed, nonce, kind, ok := cutValue(text)
	if !ok {
		return nil, errNotEncrypted
	}
	gcm, err := cipher.NewGCMWithNonceSize(d.block, len(nonce))
	if err != nil {
		return nil, errOtherPlace
	}
	plain, err := gcm.Open(nil, nonce, sealed, []byte(context))
	if err != nil {
		return nil, errOtherPlace
	}
	return typed(kind, string(plain))
}

// cutValue takes ENC[AES256_GCM,data:…,iv:…,tag:…,type:…] to pieces.
func cutValue(text string) (sealed, nonce []byte, kind string, ok bool) {
	rest, ok1 := strings.CutPrefix(text, encPrefix)
	data, rest, ok2 := strings.Cut(rest, ",iv:")
	iv, rest, ok3 := strings.Cut(rest, ",tag:")
	tag, rest, ok4 := strings.Cut(rest, ",type:")
	kind, ok5 := strings.CutSuffix(rest, "]")
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return nil, nil, "", false
	}
	sealed, err1 := base64.StdEncoding.DecodeString(data)
	nonce, err2 := base64.StdEncoding.DecodeString(iv)
	mac, err3 := base64.StdEncoding.DecodeString(tag)
	if err1 != nil || err2 != nil || err3 != nil || len(nonce) == 0 || len(nonce) > 64 || len(mac) != 16 {
		return nil, nil, "", false
	}
	return append(sealed, mac...), nonce, kind, true
}

// typed is a decrypted text as the value that it was.
func typed(kind, text string) (v any, err error) {
	switch kind {
	case "str", "bytes":
		return text, nil
	case "comment":
		return comment{text: text}, nil
	case "int":
		v, err = strconv.Atoi(text)
	case "float":
		v, err = strconv.ParseFloat(text, 64)
	case "bool":
		v, err = strconv.ParseBool(text)
	case "time":
		var at time.Time
		err = at.UnmarshalText([]byte(text))
		v = at
	default:
		return nil, errors.New("has a type that sops does not write")
	}
	if err != nil { // whose own words tell the value
		return nil, errors.New("is not of the type that it says")
	}
	return v, nil
}
