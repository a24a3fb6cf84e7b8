package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version of a released binary; the linker sets it:
// -ldflags "-X github.com/skep-io/skep/controller/cli.release=v1.2.3".
var release string

// A build says what binary this is.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Date    string `json:"date,omitempty"` // of the commit, RFC 3339
	Dirty   bool   `json:"dirty,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// buildVersion reads what the toolchain and the linker left in the binary.
func buildVersion() build {
	b := build{Version: release, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		case "vcs.modified":
			b.Dirty = s.Value == "true"
		}
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	return b
}

func (b build) String() string {
	s := "skep " + b.Version
	if b.Commit != "" {
		s += ", commit " + b.Commit[:min(7, len(b.Commit))]
		if b.Dirty {
			s += " with changes"
		}
	}
	return fmt.Sprintf("%s, %s, %s/%s", s, b.Go, b.OS, b.Arch)
}

func (a *app) version() *cobra.Command {
	var (
		format formatFlag
		sbom   bool
		of     string
	)
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Tell which skep this is",
		GroupID: groupFiles,
		Example: `  skep version
  skep version --format '{{.Version}}'
  skep version --sbom > skep.cdx.json`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if of != "" && !sbom {
				return usagef("--of goes with --sbom")
			}
			if sbom {
				return printMaterials(a.out, of)
			}
			t, err := format.parse()
			if err != nil {
				return err
			}
			if format.value == "table" {
				_, err := fmt.Fprintln(a.out, buildVersion())
				return err
			}
			return printEach(a.out, t, []build{buildVersion()})
		},
	}
	format.install(cmd, "table", "json")
	cmd.Flags().BoolVar(&sbom, "sbom", false, "Tell what this binary is made of, as CycloneDX JSON")
	cmd.Flags().StringVar(&of, "of", "", "With --sbom: of the skep in this `FILE`, as of one for another platform")
	return cmd
}
