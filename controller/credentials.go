package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	helpers "github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/docker/docker/api/types/registry"
)

// indexServer is the key under which Docker's files keep the credentials of the
// default registry; every other registry has its host name.
const indexServer = "https://index.docker.io/v1/"

// credentialsTTL is how long an answer stays good: long enough that one pass asks
// a helper once, short enough for tokens that expire within minutes.
const credentialsTTL = time.Minute

// A failure is believed for a shorter time, so that a helper that hangs does not
// hold up every image of a pass, and one that was put right is soon seen.
const failureTTL = 10 * time.Second

// helperTimeout is how long a credential helper may take.
const helperTimeout = 20 * time.Second

// RegistryCredentials gives credentials out of a Docker config file, with its
// credential helpers. It implements reconcile.Credentials and may be used from
// many goroutines. The file is read again when it changes. A value never leaves
// it other than as the answer.
type RegistryCredentials struct {
	path string
	now  func() time.Time

	mu     sync.Mutex
	stamp  fileStamp
	file   *configfile.ConfigFile
	cached map[string]cachedAuth // by registry key
}

type cachedAuth struct {
	encoded string
	err     error
	until   time.Time
}

// A fileStamp tells whether a file is still the one that was read.
type fileStamp struct {
	modified time.Time
	size     int64
	exists   bool
}

// NewRegistryCredentials reads from path: a config.json, or a directory that
// holds one. Empty means DOCKER_CONFIG, else ~/.docker. A file that is not there
// gives no credentials, and is used as soon as it appears.
func NewRegistryCredentials(path string) *RegistryCredentials {
	return &RegistryCredentials{path: configPath(path, os.Getenv), now: time.Now}
}

func configPath(path string, getenv func(string) string) string {
	if path == "" {
		path = dockerConfigDir(getenv)
	} else if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return path
	} else if err != nil && filepath.Ext(path) == ".json" {
		return path
	}
	return filepath.Join(path, "config.json")
}

// EncodedAuth gives the credentials for image's registry as the engine wants
// them, or "" where the file has none. A file that cannot be read and a helper
// that fails are errors, which name the file or the helper.
func (c *RegistryCredentials) EncodedAuth(image string) (string, error) {
	key, err := registryKey(image)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refresh(); err != nil {
		return "", err
	}
	if hit, ok := c.cached[key]; ok && c.now().Before(hit.until) {
		return hit.encoded, hit.err
	}
	answer := cachedAuth{until: c.now().Add(credentialsTTL)}
	if answer.encoded, answer.err = c.ask(key); answer.err != nil {
		answer.until = c.now().Add(failureTTL)
	}
	c.cached[key] = answer
	return answer.encoded, answer.err
}

// registryKey is where a Docker config file keeps the credentials for an image.
func registryKey(image string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("registry of image %q: %w", image, err)
	}
	switch domain := reference.Domain(named); domain {
	case "docker.io", "index.docker.io":
		return indexServer, nil
	default:
		return domain, nil
	}
}

// refresh reads the file where it is not the one that was read before.
func (c *RegistryCredentials) refresh() error {
	stamp, err := stampOf(c.path)
	if err != nil {
		return fmt.Errorf("registry credentials: %w", err)
	}
	if c.file != nil && stamp == c.stamp {
		return nil
	}
	file, err := readConfig(c.path, stamp.exists)
	if err != nil {
		return err
	}
	c.file, c.stamp, c.cached = file, stamp, map[string]cachedAuth{}
	return nil
}

func stampOf(path string) (fileStamp, error) {
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return fileStamp{}, nil
	}
	if err != nil {
		return fileStamp{}, err
	}
	return fileStamp{modified: info.ModTime(), size: info.Size(), exists: true}, nil
}

func readConfig(path string, exists bool) (*configfile.ConfigFile, error) {
	file := configfile.New(path)
	if !exists {
		return file, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("registry credentials: %w", err)
	}
	defer f.Close()
	if err := file.LoadFromReader(f); err != nil {
		// The decoder's error may quote what it read, which is credentials.
		return nil, fmt.Errorf("registry credentials: %s is not a Docker config file (it must be JSON, with base64 in \"auth\")", path)
	}
	return file, nil
}

// ask gets the credentials for key, from where Docker's own client would: the
// environment, then the registry's helper or store, else the file.
func (c *RegistryCredentials) ask(key string) (string, error) {
	auth, err := configfile.New("").GetAuthConfig(key) // DOCKER_AUTH_CONFIG alone
	if err == nil && empty(auth) {
		auth, err = c.fromFile(key)
	}
	if err != nil {
		return "", fmt.Errorf("registry credentials for %s: %w", key, err)
	}
	if empty(auth) {
		return "", nil
	}
	encoded, err := registry.EncodeAuthConfig(registry.AuthConfig{
		Username:      auth.Username,
		Password:      auth.Password,
		Auth:          auth.Auth,
		ServerAddress: auth.ServerAddress,
		IdentityToken: auth.IdentityToken,
		RegistryToken: auth.RegistryToken,
	})
	if err != nil {
		return "", fmt.Errorf("registry credentials for %s: encode: %w", key, err)
	}
	return encoded, nil
}

func (c *RegistryCredentials) fromFile(key string) (types.AuthConfig, error) {
	helper, ok := c.file.CredentialHelpers[key]
	if !ok {
		helper = c.file.CredentialsStore
	}
	if helper != "" {
		return askHelper("docker-credential-"+helper, key)
	}
	return c.file.GetAuthConfig(key)
}

// askHelper runs a credential helper. What the helper prints stays out of the
// error: it may have printed the credentials before it failed.
func askHelper(program, key string) (types.AuthConfig, error) {
	ctx, cancel := context.WithTimeout(context.Background(), helperTimeout)
	defer cancel()
	found, err := helpers.Get(func(args ...string) helpers.Program {
		return &helperCommand{exec.CommandContext(ctx, program, args...)}
	}, key)
	switch {
	case credentials.IsErrCredentialsNotFound(err):
		return types.AuthConfig{}, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return types.AuthConfig{}, fmt.Errorf("%s did not answer within %s", program, helperTimeout)
	case err != nil:
		if _, missing := exec.LookPath(program); missing != nil {
			return types.AuthConfig{}, fmt.Errorf("%s is not on the PATH (install it, or put the credentials into a file of their own for --registry-config)", program)
		}
		return types.AuthConfig{}, fmt.Errorf("%s failed (`echo %s | %s get` shows how)", program, key, program)
	}
	auth := types.AuthConfig{ServerAddress: key, Username: found.Username, Password: found.Secret}
	if found.Username == tokenUser {
		auth.Username, auth.Password, auth.IdentityToken = "", "", found.Secret
	}
	return auth, nil
}

// tokenUser is the user name by which a helper says that its secret is an
// identity token (docker-credential-helpers' protocol).
const tokenUser = "<token>"

// helperCommand is a helper that is killed when its time is over; what it writes
// to its standard error is dropped.
type helperCommand struct{ cmd *exec.Cmd }

func (h *helperCommand) Input(in io.Reader) { h.cmd.Stdin = in }
func (h *helperCommand) Output() ([]byte, error) {
	h.cmd.WaitDelay = time.Second
	return h.cmd.Output()
}

func empty(a types.AuthConfig) bool {
	return a.Username == "" && a.Password == "" && a.Auth == "" && a.IdentityToken == "" && a.RegistryToken == ""
}
