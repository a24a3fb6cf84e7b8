package controller

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/context/store"
	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	"github.com/docker/go-connections/tlsconfig"
)

// MinAPIVersion is the oldest Engine API that skep speaks: Docker 20.10, the
// first with jobs and with service status in lists.
const MinAPIVersion = "1.41"

// ErrTooOld is an engine that speaks no API version that skep knows.
var ErrTooOld = errors.New("engine too old")

// What keeps a connection from hanging or churning.
const (
	// requestLimit is how long an engine has for an answer, whatever is asked: one that
	// has lost its leader gives up by itself after 20 s and says so, which is worth more
	// than an end of ours. For a stream of events it is until its head.
	requestLimit = 30 * time.Second
	// checkLimit is for CheckEngine's two or three requests together.
	checkLimit      = 45 * time.Second
	tlsTimeout      = 10 * time.Second
	idleTimeout     = 90 * time.Second
	idleConnections = 16 // a wave's writes, plus events and listings
)

// defaultContext is the name Docker gives to "no context": host and TLS come
// from flags and environment.
const defaultContext = "default"

// EngineOptions says which engine to speak to, in the words of Docker's own
// flags and environment. The zero value is what `docker` without flags uses.
type EngineOptions struct {
	Host    string // -H, --host; beats every other source
	Context string // --context: a name from Docker's context store

	TLS       bool // --tls: TLS without verification, unless TLSVerify
	TLSVerify bool // --tlsverify
	// CACert, Cert and Key are PEM files (--tlscacert, --tlscert, --tlskey). The
	// default is ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH, else in ConfigDir.
	CACert, Cert, Key string

	// ConfigDir holds Docker's config.json and contexts: default DOCKER_CONFIG,
	// else ~/.docker.
	ConfigDir string
	UserAgent string
	// Wrap goes around the transport of every request, for metrics.
	Wrap func(http.RoundTripper) http.RoundTripper
	// Getenv is os.Getenv unless a test says otherwise.
	Getenv func(string) string
}

// An endpoint is where an engine listens, and how to speak to it.
type endpoint struct {
	host string
	tls  *tls.Config // nil: none
}

// Connect makes a client for the engine that o names. It resolves the host as
// the docker command does (-H, --context, DOCKER_HOST, DOCKER_CONTEXT, the
// current context, the default socket) and does not speak to the engine yet: an
// engine that is not there is found by CheckEngine, or by the first request.
func Connect(o EngineOptions) (*client.Client, error) {
	o = o.withDefaults()
	ep, err := o.resolve()
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(ep.host, "ssh://") {
		return nil, fmt.Errorf("engine %s: ssh is not supported (forward the socket, `ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST`, and use -H unix:///tmp/docker.sock)", ep.host)
	}
	return newClient(ep, o)
}

func (o EngineOptions) withDefaults() EngineOptions {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.ConfigDir == "" {
		o.ConfigDir = dockerConfigDir(o.Getenv)
	}
	if o.Getenv(client.EnvTLSVerify) != "" {
		o.TLSVerify = true
	}
	if o.TLSVerify || o.Getenv("DOCKER_TLS") != "" {
		o.TLS = true
	}
	return o
}

// dockerConfigDir is where Docker's own client keeps its files.
func dockerConfigDir(getenv func(string) string) string {
	if dir := getenv(config.EnvOverrideConfigDir); dir != "" {
		return dir
	}
	home := getenv("HOME")
	if home == "" {
		home, _ = os.UserHomeDir()
	}
	return filepath.Join(home, ".docker")
}

// resolve finds the endpoint, in the order the docker command looks.
func (o EngineOptions) resolve() (endpoint, error) {
	name, err := o.contextName()
	if err != nil {
		return endpoint{}, err
	}
	if name != defaultContext {
		return o.fromContext(name)
	}
	return o.fromFlags()
}

// contextName follows docker/cli's order of precedence.
func (o EngineOptions) contextName() (string, error) {
	if o.Context != "" && o.Host != "" {
		return "", errors.New("both --host and --context name an engine (give one)")
	}
	if o.Context != "" {
		return o.Context, nil
	}
	if o.Host != "" || o.Getenv(client.EnvOverrideHost) != "" {
		return defaultContext, nil
	}
	if name := o.Getenv("DOCKER_CONTEXT"); name != "" {
		return name, nil
	}
	file, err := config.Load(o.ConfigDir)
	if err != nil {
		return "", fmt.Errorf("read Docker's configuration for the current context: %w (correct the file, or say which engine with -H)", err)
	}
	if file.CurrentContext != "" {
		return file.CurrentContext, nil
	}
	return defaultContext, nil
}

func (o EngineOptions) fromContext(name string) (endpoint, error) {
	s := store.New(filepath.Join(o.ConfigDir, "contexts"), store.NewConfig(
		func() any { return &map[string]any{} },
		store.EndpointTypeGetter(docker.DockerEndpoint, func() any { return &docker.EndpointMeta{} }),
	))
	meta, err := s.GetMetadata(name)
	if err != nil {
		return endpoint{}, fmt.Errorf("docker context %q: %w (`docker context ls` shows those there are)", name, err)
	}
	ep, err := docker.EndpointFromContext(meta)
	if err != nil {
		return endpoint{}, fmt.Errorf("docker context %q: %w", name, err)
	}
	full, err := docker.WithTLSData(s, name, ep)
	if err != nil {
		return endpoint{}, fmt.Errorf("docker context %q: %w", name, err)
	}
	secure, err := contextTLS(full)
	if err != nil {
		return endpoint{}, fmt.Errorf("docker context %q: %w", name, err)
	}
	return endpoint{host: full.Host, tls: secure}, nil
}

// contextTLS builds the TLS settings that a context carries in memory.
func contextTLS(ep docker.Endpoint) (*tls.Config, error) {
	if isSocket(ep.Host) || (ep.TLSData == nil && !ep.SkipTLSVerify) {
		return nil, nil
	}
	c := tlsconfig.ClientDefault(func(c *tls.Config) { c.InsecureSkipVerify = ep.SkipTLSVerify })
	if ep.TLSData == nil {
		return c, nil
	}
	if ca := ep.TLSData.CA; ca != nil {
		pool, err := certPool(ca)
		if err != nil {
			return nil, fmt.Errorf("ca.pem: %w", err)
		}
		c.RootCAs = pool
	}
	if ep.TLSData.Cert != nil && ep.TLSData.Key != nil {
		pair, err := tls.X509KeyPair(ep.TLSData.Cert, ep.TLSData.Key)
		if err != nil {
			return nil, fmt.Errorf("cert.pem and key.pem: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func (o EngineOptions) fromFlags() (endpoint, error) {
	host := o.Host
	if host == "" {
		host = o.Getenv(client.EnvOverrideHost)
	}
	host, err := opts.ParseHost(o.TLS, host)
	if err != nil {
		return endpoint{}, fmt.Errorf("engine host: %w (such as unix:///var/run/docker.sock or tcp://HOST:2376)", err)
	}
	if !o.TLS || isSocket(host) {
		return endpoint{host: host}, nil
	}
	secure, err := tlsconfig.Client(o.tlsFiles())
	if err != nil {
		return endpoint{}, fmt.Errorf("TLS for %s: %w (see --tlscacert, --tlscert, --tlskey and DOCKER_CERT_PATH)", host, err)
	}
	return endpoint{host: host, tls: secure}, nil
}

// tlsFiles names the PEM files; a certificate and key that nobody named and that
// are not there are left out, as the docker command does.
func (o EngineOptions) tlsFiles() tlsconfig.Options {
	dir := o.Getenv(client.EnvOverrideCertPath)
	if dir == "" {
		dir = o.ConfigDir
	}
	return tlsconfig.Options{
		CAFile:             orDefault(o.CACert, filepath.Join(dir, "ca.pem")),
		CertFile:           orExisting(o.Cert, filepath.Join(dir, "cert.pem")),
		KeyFile:            orExisting(o.Key, filepath.Join(dir, "key.pem")),
		InsecureSkipVerify: !o.TLSVerify,
		ExclusiveRootPools: true,
	}
}

func newClient(ep endpoint, o EngineOptions) (*client.Client, error) {
	transport := &http.Transport{
		TLSClientConfig:     ep.tls,
		TLSHandshakeTimeout: tlsTimeout,
		MaxIdleConns:        idleConnections,
		MaxIdleConnsPerHost: idleConnections,
		IdleConnTimeout:     idleTimeout,
	}
	hc := &http.Client{Transport: transport, CheckRedirect: client.CheckRedirect}
	options := []client.Opt{
		client.WithHTTPClient(hc),
		client.WithHost(ep.host), // sets the dialer, with a timeout of its own
		client.WithVersion(o.Getenv(client.EnvOverrideAPIVersion)),
		client.WithAPIVersionNegotiation(),
	}
	if o.UserAgent != "" {
		options = append(options, client.WithUserAgent(o.UserAgent))
	}
	c, err := client.NewClientWithOpts(options...)
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w", ep.host, err)
	}
	// The client keeps hc by reference. Wrapping it only now, from outside, lets
	// the client find its *http.Transport, which it needs for TLS and for Close.
	hc.Transport = &bounded{next: transport, limit: requestLimit}
	if o.Wrap != nil {
		hc.Transport = o.Wrap(hc.Transport)
	}
	return c, nil
}

// CheckEngine asks the engine whether it will do: that it answers, speaks an API
// that skep knows, and is a manager of a Swarm. Its errors say what to do. It
// also settles the API version, so call it before c is used concurrently, and again
// when the engine was away: another one may have come in its place.
func CheckEngine(ctx context.Context, c *client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	ping, err := c.Ping(ctx)
	if err != nil {
		return ExplainEngine(c.DaemonHost(), err)
	}
	// The client would take an answer without a version for an engine of long ago, and
	// stay with what it once settled on: what will not do is not settled on.
	if ping.APIVersion == "" {
		return fmt.Errorf("what answers at %s does not say which Docker API it speaks (is it a Docker engine, and does what is in front of it let /_ping through?)", c.DaemonHost())
	}
	if versions.LessThan(ping.APIVersion, MinAPIVersion) {
		return tooOld(c.DaemonHost(), ping.APIVersion)
	}
	c.NegotiateAPIVersionPing(ping)
	if v := c.ClientVersion(); versions.LessThan(v, MinAPIVersion) {
		return tooOld(c.DaemonHost(), v)
	}
	if ping.SwarmStatus != nil && ping.SwarmStatus.ControlAvailable {
		return nil
	}
	// Engines before 23.0 don't tell in a ping, and the word of an engine that
	// does not manage the Swarm is better than ours. Managers alone list nodes, which is
	// asked for in any case: it takes no right that nothing else needs.
	if _, err := c.NodeList(ctx, swarm.NodeListOptions{Filters: filters.NewArgs(filters.Arg("role", "manager"))}); err != nil {
		return ExplainEngine(c.DaemonHost(), err)
	}
	return nil
}

func tooOld(host, version string) error {
	return &engineError{ErrTooOld, fmt.Sprintf("engine at %s: API version %s is too old, skep needs %s (Docker 20.10 or newer; a DOCKER_API_VERSION below it must be unset)", host, version, MinAPIVersion)}
}

// ExplainEngine turns an error of the engine at host into one that says what to
// do. Errors it does not know, or has explained, come back as they are; nil stays nil.
func ExplainEngine(host string, err error) error {
	if err == nil {
		return nil
	}
	if explained, ok := errors.AsType[*engineError](err); ok {
		return explained
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &engineError{err, fmt.Sprintf("no permission to use the Docker engine at %s (run as root or as a member of the socket's group, usually docker)", host)}
	case isTLS(err):
		return &engineError{err, fmt.Sprintf("the Docker engine at %s and skep do not trust each other: %s (see --tlscacert for the engine's certificate, --tlscert and --tlskey for skep's own)", host, tlsWords(err))}
	case client.IsErrConnectionFailed(err):
		return &engineError{err, fmt.Sprintf("no Docker engine answers at %s: is it running? (start it, or name another with -H or DOCKER_HOST)%s", host, because(err))}
	case errors.Is(err, context.DeadlineExceeded), strings.Contains(err.Error(), "code = DeadlineExceeded"):
		return &engineError{err, fmt.Sprintf("the Docker engine at %s did not answer in time (is it overloaded, or has the Swarm lost its quorum?)", host)}
	case strings.Contains(err.Error(), "not a swarm manager"):
		return &engineError{err, fmt.Sprintf("the Docker engine at %s is not a Swarm manager (run skep on a manager, or name one with -H; `docker swarm init` makes one)", host)}
	case strings.Contains(err.Error(), "does not have a leader"):
		return &engineError{err, fmt.Sprintf("the Swarm at %s has no leader: too few of its managers answer (`docker node ls` on another manager; bring managers back)", host)}
	case strings.Contains(err.Error(), "needs to be unlocked"):
		return &engineError{err, fmt.Sprintf("the Swarm at %s is locked since its engine started (on that manager: `docker swarm unlock`)", host)}
	}
	return err
}

// isTLS says that it was over certificates that a connection failed.
func isTLS(err error) bool {
	text := err.Error()
	return strings.Contains(text, "tls: ") && !strings.Contains(text, "first record does not look like a TLS handshake") || strings.Contains(text, "x509: ")
}

// tlsWords is what of an error tells of certificates.
func tlsWords(err error) string {
	text := err.Error()
	for _, word := range []string{"x509: ", "tls: "} {
		if i := strings.Index(text, word); i >= 0 {
			return text[i+len(word):]
		}
	}
	return text
}

// because adds the cause to a failed connection where the client's sentence has
// more than that nobody answered.
func because(err error) string {
	if strings.Contains(err.Error(), "Cannot connect to the Docker daemon") {
		return ""
	}
	return ": " + err.Error()
}

// An engineError says in words for people what err is.
type engineError struct {
	err  error
	text string
}

func (e *engineError) Error() string { return e.text }
func (e *engineError) Unwrap() error { return e.err }

func isSocket(host string) bool {
	return strings.HasPrefix(host, "unix://") || strings.HasPrefix(host, "npipe://") || strings.HasPrefix(host, "fd://")
}

func certPool(pem []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("holds no certificate")
	}
	return pool, nil
}

func orDefault(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}

// orExisting is s, else otherwise where that file exists, else nothing.
func orExisting(s, otherwise string) string {
	if s != "" {
		return s
	}
	if _, err := os.Stat(otherwise); err != nil {
		return ""
	}
	return otherwise
}
