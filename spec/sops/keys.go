package sops

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"

	"filippo.io/age"
)

// A Mode says when the program sops is executed.
type Mode string

// Auto executes it for what no key here opens, Never not at all, Always for all files
// of sops.
const (
	Auto   Mode = "auto"
	Never  Mode = "never"
	Always Mode = "always"
)

// Keys are what files are opened with. They may be used from many goroutines.
type Keys struct {
	file    string
	mode    Mode
	program *Program

	mu    sync.Mutex
	sum   [sha256.Size]byte // of what was read last
	known []identity
	err   error
}

// NewKeys are those of a file of age identities, one a line, as age-keygen writes it,
// which is read anew whenever something is opened; "" for none. A program of nil is none.
func NewKeys(file string, mode Mode, program *Program) (*Keys, error) {
	if mode == Always && program == nil {
		return nil, errors.New("the program sops is not in PATH (install it, or let age files be opened without it)")
	}
	if program != nil && file != "" {
		program = program.with("SOPS_AGE_KEY_FILE=" + file)
	}
	return &Keys{file: file, mode: mode, program: program}, nil
}

// Given says whether there is any key, or a program that may have one.
func (k *Keys) Given() bool { return k != nil && (k.file != "" || k.program != nil && k.mode != Never) }

// An identity is a private key, with its public one.
type identity struct {
	age.Identity
	public string
}

const (
	maxKeyFile    = 64 << 10
	maxIdentities = 100
)

// identities reads the file.
func (k *Keys) identities() ([]identity, error) {
	if k.file == "" {
		return nil, noKey("there is no key (give --age-key-file FILE, or set SKEP_AGE_KEY_FILE)")
	}
	text, err := readKeyFile(k.file)
	if err != nil {
		return nil, noKey("the file of keys %s cannot be read: %v (check the path and its permissions)", k.file, err)
	}
	defer clear(text)
	k.mu.Lock()
	defer k.mu.Unlock()
	if sum := sha256.Sum256(text); sum != k.sum {
		k.known, k.err = parseIdentities(text)
		k.sum = sum
	}
	if k.err != nil {
		return nil, noKey("the file of keys %s %v", k.file, k.err)
	}
	return k.known, nil
}

// readKeyFile reads a file of keys, without waiting for the other end of a pipe.
func readKeyFile(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if p, ok := errors.AsType[*fs.PathError](err); ok {
			err = p.Err
		}
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("it has more than %d kB", maxKeyFile>>10)
	}
	return text, err
}

// parseIdentities reads identities. What is wrong with one is told by its line alone.
func parseIdentities(text []byte) ([]identity, error) {
	var out []identity
	n := 0
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		id, err := parseIdentity(string(line))
		if err != nil {
			return nil, fmt.Errorf("has in line %d %w", n, err)
		}
		if out = append(out, id); len(out) > maxIdentities {
			return nil, fmt.Errorf("has more than %d keys (take out those that are no longer needed)", maxIdentities)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("has no key in it (make one with age-keygen)")
	}
	return out, nil
}

func parseIdentity(line string) (identity, error) {
	switch {
	case strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1"):
		if id, err := age.ParseHybridIdentity(line); err == nil {
			return identity{id, id.Recipient().String()}, nil
		}
	case strings.HasPrefix(line, "AGE-SECRET-KEY-1"):
		if id, err := age.ParseX25519Identity(line); err == nil {
			return identity{id, id.Recipient().String()}, nil
		}
	case strings.HasPrefix(line, "AGE-PLUGIN-"):
		return identity{}, errors.New("a key of an age plugin, and no plugin is executed (make a key with age-keygen)")
	case strings.HasPrefix(line, "-----BEGIN"):
		return identity{}, errors.New("an SSH or PGP key, or an encrypted one, and only keys of age are read (make a key with age-keygen)")
	case strings.HasPrefix(line, "age1"):
		return identity{}, errors.New("a public key (write the private one, which begins with AGE-SECRET-KEY-)")
	}
	return identity{}, errors.New("what is no key of age (make one with age-keygen)")
}
