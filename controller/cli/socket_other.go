//go:build !unix

package cli

// socketGroup tells nothing where sockets have no groups.
func socketGroup(string) (group string, has bool) { return "", false }
