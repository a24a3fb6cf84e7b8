package cli

import (
	"errors"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/controller/forge"
)

// forgeFlags say how the daemon and the place of its repositories hear of each other.
type forgeFlags struct {
	secretFile string
	kind       string
	tokenFile  string
	url        string
	page       string
}

func (x *forgeFlags) install(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&x.secretFile, "git-webhook-secret-file", "", "File with the secrets, one a line, by which forges may say at /hooks/git that something was pushed")
	f.StringVar(&x.kind, "commit-status", "", "Write at commits what became of them, by the API of: github, gitlab, gitea")
	f.StringVar(&x.tokenFile, "commit-status-token-file", "", "File with the token that may write them")
	f.StringVar(&x.url, "commit-status-url", "", "The API, such as https://git.example.com/api/v4 (default: github.com's or gitlab.com's)")
	f.StringVar(&x.page, "page-url", "", "Where people find skep's page, for statuses to lead to")
}

// apply has the daemon do so.
func (x *forgeFlags) apply(config *controller.Config) error {
	config.WebhookSecretFile = x.secretFile
	if x.kind == "" {
		switch {
		case x.tokenFile != "":
			return usagef("--commit-status-token-file does nothing without --commit-status")
		case x.url != "":
			return usagef("--commit-status-url does nothing without --commit-status")
		}
		return nil
	}
	if config.Once {
		return usagef("--once writes no status: leave out --commit-status")
	}
	if x.tokenFile == "" {
		return usagef("--commit-status needs a token: give --commit-status-token-file")
	}
	if _, err := controller.ReadCommitToken(x.tokenFile); err != nil {
		return usagef("--commit-status-token-file: %w", err)
	}
	if err := checkPage(x.page); err != nil {
		return usagef("--page-url: %w", err)
	}
	client, err := forge.NewClient(forge.ClientConfig{
		Kind: forge.Kind(x.kind), URL: x.url, Now: time.Now,
		Token: func() (string, error) { return controller.ReadCommitToken(x.tokenFile) },
	})
	if err != nil && x.url != "" {
		return usagef("--commit-status-url: %w", err)
	}
	if err != nil {
		return usagef("--commit-status %s: %w", x.kind, err)
	}
	config.CommitStatus, config.PageURL = client, x.page
	return nil
}

func checkPage(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("this is no URL that a browser opens (write https://HOST)")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("it may have a host and a path alone: whoever sees a commit sees it")
	}
	return nil
}
