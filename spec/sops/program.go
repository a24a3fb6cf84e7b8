package sops

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"
)

// A Program is the program sops, which knows keys that are not kept in a file: of a
// cloud's KMS, of PGP.
type Program struct {
	path    string
	environ []string
	vaults  string // which it may ask, see vaultsAllowed
	limit   time.Duration
	hung    *atomic.Int64 // when it last took too long, in Unix nanoseconds
}

// programLimit is how long it may take: a KMS answers within a second or not at all.
const programLimit = 10 * time.Second

// restAfter is how long it is left alone when it did not end in that time: reading the
// other files must not wait for it one by one.
const restAfter = time.Minute

// NewProgram is the program at a path. Of the environment, as os.Environ has it, it gets
// what Passed tells.
func NewProgram(path string, environ []string) *Program {
	environ = slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return !Passed(name)
	})
	vaults := vaultsAllowed(environ)
	return &Program{path: path, environ: append(environ, vaultList+"="+vaults), vaults: vaults, limit: programLimit, hung: &atomic.Int64{}}
}

func (p *Program) with(entry string) *Program {
	q := *p
	q.environ = append(slices.Clone(p.environ), entry)
	return &q
}

var (
	passedNames = []string{"PATH", "HOME", "USER", "LANG", "TMPDIR", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "GNUPGHOME", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
		"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "MSI_SECRET"}
	passedPrefixes = []string{"SOPS_", "AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_", "GCE_METADATA_", "VAULT_", "HUAWEICLOUD_"}
)

// Passed says whether the program gets a variable: those by which it finds its keys, its
// way to a KMS, and what any program needs.
func Passed(name string) bool {
	return slices.Contains(passedNames, name) ||
		slices.ContainsFunc(passedPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// open has the program decrypt a file, from its input to its output.
func (p *Program) open(ctx context.Context, f *File) ([]byte, error) {
	if !vaultsFit(p.vaults, f.vaults) {
		return nil, noKey("its key is kept by a Vault that is none of those which may be asked (set VAULT_ADDR to the Vault's address, or SOPS_HC_VAULT_ALLOWLIST to those of several)")
	}
	if hung := p.hung.Load(); hung != 0 && time.Since(time.Unix(0, hung)) < restAfter {
		return nil, noKey("the program sops did not end within %s for another file, and is left alone for a minute (see whether its KMS can be reached)", p.limit)
	}
	limited, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	format := string(f.Format)
	cmd := exec.CommandContext(limited, p.path, "--decrypt", "--input-type", format, "--output-type", format, "/dev/stdin")
	cmd.Env, cmd.Dir = p.environ, "/" // away from any .sops.yaml
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // its agents and plugins too
	cmd.WaitDelay = time.Second
	plain, said := bounded{most: maxSize}, bounded{most: maxSaid}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(f.data), &plain, &said
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case limited.Err() != nil:
		p.hung.Store(time.Now().UnixNano())
		return nil, noKey("the program sops did not decrypt it within %s (see whether its KMS can be reached)", p.limit)
	case plain.over:
		return nil, noKey("the program sops gave more than %d MiB for it", maxSize>>20)
	case err == nil:
		return plain.Bytes(), nil
	}
	if _, exited := errors.AsType[*exec.ExitError](err); !exited {
		return nil, noKey("the program sops cannot be executed (see whether %s is one)", p.path)
	}
	return nil, noKey("the program sops does not decrypt it, and says: %s (let it have one of the keys, or encrypt the file for an age key that is here)", sentence(said.String()))
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	bytes.Buffer
	most int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if left := b.most - b.Len(); len(p) > left {
		b.over = true
		b.Buffer.Write(p[:left])
		return len(p), nil
	}
	return b.Buffer.Write(p)
}

const (
	maxSaid     = 16 << 10 // of what the program says, in bytes
	maxSentence = 400      // of it that is told
)

// hidden is what of a program's words is not told: hashes over values, by which a short
// one can be guessed, encrypted values, keys, and what stands in quotes, which may be a
// line of the file.
var hidden = regexp.MustCompile("(?i)ENC\\[[^\\]]*\\]?|AGE-SECRET-KEY-[0-9A-Z-]+|\\b[0-9a-f]{16,}\\b|\"[^\"\n]*\"|\\B'[^'\n]*'|`[^`\n]*`")

// sentence is the end of what the program said, where it says why, on one line.
func sentence(said string) string {
	said = hidden.ReplaceAllString(said, "…")
	said = strings.Join(strings.FieldsFunc(said, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == '|' }), " ")
	if r := []rune(said); len(r) > maxSentence {
		said = string(r[:maxSentence]) + "…"
	}
	if said == "" {
		return "nothing"
	}
	return said
}
