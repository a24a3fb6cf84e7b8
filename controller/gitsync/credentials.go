package gitsync

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// maxCredential is how much of a file with credentials is read.
const maxCredential = 64 << 10

// defaultUser goes with a token whose URL names no user. Most hosts look at the token
// alone, and those that do not say whom they want.
const defaultUser = "git"

// A login is what a server is told by https.
type login struct{ user, password string }

// login reads the files anew; the zero value: there are none to read.
func (c *Config) login(a address) (login, error) {
	switch {
	case c.TokenFile != "":
		token, err := readSecret(c.TokenFile)
		if err != nil {
			return login{}, fmt.Errorf("read the token for %s: %w", a.host, err)
		}
		user := a.user
		if user == "" {
			user = defaultUser
		}
		return login{user, token}, nil
	case c.PasswordFile != "":
		line, err := readSecret(c.PasswordFile)
		if err != nil {
			return login{}, fmt.Errorf("read the password for %s: %w", a.host, err)
		}
		user, password, ok := strings.Cut(line, ":")
		if !ok || user == "" {
			return login{}, fmt.Errorf("read the password for %s: %s has to hold user:password", a.host, c.PasswordFile)
		}
		return login{user, password}, nil
	}
	return login{}, nil
}

// signer reads the ssh key anew.
func (c *Config) signer() (ssh.Signer, error) {
	text, err := readBounded(c.SSHKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the ssh key: %w", err)
	}
	if c.SSHPassphraseFile == "" {
		key, err := ssh.ParsePrivateKey(text)
		if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
			return nil, fmt.Errorf("the ssh key %s wants a passphrase (give the file that has it)", c.SSHKeyFile)
		}
		if err != nil {
			return nil, fmt.Errorf("%s is no private ssh key that skep can read (ssh-keygen makes one)", c.SSHKeyFile)
		}
		return key, nil
	}
	passphrase, err := readSecret(c.SSHPassphraseFile)
	if err != nil {
		return nil, fmt.Errorf("read the passphrase of the ssh key: %w", err)
	}
	key, err := ssh.ParsePrivateKeyWithPassphrase(text, []byte(passphrase))
	if err != nil {
		return nil, fmt.Errorf("the passphrase in %s does not open the ssh key %s", c.SSHPassphraseFile, c.SSHKeyFile)
	}
	return key, nil
}

// readSecret is the one line that a file holds.
func readSecret(file string) (string, error) {
	text, err := readBounded(file)
	if err != nil {
		return "", err
	}
	line := strings.TrimRight(string(text), "\r\n")
	if line == "" {
		return "", fmt.Errorf("%s is empty", file)
	}
	if strings.ContainsAny(line, "\r\n\x00") {
		return "", fmt.Errorf("%s holds more than one line", file)
	}
	return line, nil
}

func readBounded(file string) ([]byte, error) { return readUpTo(file, maxCredential) }
