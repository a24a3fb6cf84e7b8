package cli

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// defaultListen is where run serves metrics and health unless told otherwise:
// for this machine only.
const defaultListen = "127.0.0.1:9470"

// health is what a container's HEALTHCHECK runs, since an image made from scratch
// has neither a shell nor curl.
func (a *app) health() *cobra.Command {
	var (
		listen  string
		cert    string
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:    "health",
		Short:  "Ask the daemon of this container whether it is well",
		Hidden: true,
		Args:   usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return askHealth(ctx, listen, cert != "")
		},
	}
	cmd.Flags().StringVar(&listen, "listen", defaultListen, "Address the daemon listens on")
	cmd.Flags().StringVar(&cert, "http-tls-cert", "", "Certificate that the daemon serves with: then it is asked over TLS")
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "How long to wait for the answer")
	return cmd
}

// askHealth is nil where the daemon that listens on address says that it is well.
// Over TLS it takes any certificate: the name in it is that under which others ask,
// and nothing is told here.
func askHealth(ctx context.Context, address string, secure bool) error {
	target, err := local(address)
	if err != nil {
		return err
	}
	scheme := "http"
	if secure {
		scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+target+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	// No proxy: the daemon is on this machine.
	response, err := (&http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}).Do(request)
	if err != nil {
		return verdict{fmt.Sprintf("not healthy: %v", err)}
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	words, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
	return verdict{fmt.Sprintf("not healthy: %s %s", response.Status, strings.TrimSpace(string(words)))}
}

// local turns an address to listen on into one to connect to from this machine.
func local(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", usagef("--listen %q: %w", listen, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port), nil
}
