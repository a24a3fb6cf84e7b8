package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/skep-io/skep/spec"
)

func (a *app) schema() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON schema of stacks' files, for editors",
		GroupID: groupFiles,
		Long: `Print the JSON schema of compose files as skep takes them: that of the compose
specification, with x-skep described, and what a Swarm ignores marked. Editors
complete and check files with it. The same skep prints the same schema.

With yaml-language-server, a file's first line names its schema:

  # yaml-language-server: $schema=../skep.schema.json`,
		Example: `  skep schema > skep.schema.json`,
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			text, err := spec.Schema()
			if err != nil {
				return err
			}
			if _, err := a.out.Write(text); err != nil {
				return fmt.Errorf("print the schema: %w", err)
			}
			return nil
		},
	}
}
