package sops

import (
	"regexp"
	"strings"
)

// A file names the Vault that its key is asked of, and the program sops sends the token
// that it has to whatever server that is. Newer ones can be told which servers may be
// asked (SOPS_HC_VAULT_ALLOWLIST), older ones cannot: so the file is looked at before.

const (
	vaultAddress = "VAULT_ADDR"
	vaultList    = "SOPS_HC_VAULT_ALLOWLIST"
)

// vaultsAllowed are those of an environment: the list, where that is set, as the program
// understands it (all, none, or how addresses begin, with commas between), else the one
// address.
func vaultsAllowed(environ []string) string {
	list, address := "", ""
	for _, entry := range environ {
		switch name, value, _ := strings.Cut(entry, "="); name {
		case vaultList:
			list = value
		case vaultAddress:
			address = value
		}
	}
	switch {
	case list != "":
		return list
	case address != "":
		return strings.TrimRight(address, "/") + "/"
	}
	return "none"
}

// vaultsFit says whether the program may be given a file, by the Vaults that it names.
func vaultsFit(allowed string, addresses []string) bool {
	if allowed == "all" {
		return true
	}
	fits := func(address string) bool {
		for start := range strings.SplitSeq(allowed, ",") {
			if start != "" && start != "none" && strings.HasPrefix(strings.TrimRight(address, "/")+"/", start) {
				return true
			}
		}
		return false
	}
	for _, address := range addresses {
		if !fits(address) {
			return false
		}
	}
	return true
}

// iniVault is a line of INI that names a Vault.
var iniVault = regexp.MustCompile(`(?im)^[^\n]*vault_address[^=:\n]*[=:](.*)$`)

// vaultsNamed are the addresses of all Vaults that a file may have the program ask: what
// is no text is one that fits nothing. Letters' cases do not count, as they do not for
// the program's reader of JSON.
func vaultsNamed(f *File) (addresses []string) {
	if f.Format == INI {
		for _, m := range iniVault.FindAllSubmatch(f.data, -1) {
			addresses = append(addresses, strings.Trim(string(m[1]), " \t\r\"'`"))
		}
		return addresses
	}
	for _, document := range f.tree {
		for _, i := range document {
			key, _ := i.key.(string)
			if key = strings.ToLower(key); key == "sops" || f.Format == Dotenv && strings.HasPrefix(key, "sops_") {
				addresses = vaultsIn(branch{i}, addresses)
			}
		}
	}
	return addresses
}

// vaultsIn adds those of a part of the metadata.
func vaultsIn(v any, addresses []string) []string {
	switch v := v.(type) {
	case branch:
		for _, i := range v {
			key, _ := i.key.(string)
			if strings.HasSuffix(strings.ToLower(key), "vault_address") {
				text, _ := i.value.(string)
				addresses = append(addresses, text)
			}
			addresses = vaultsIn(i.value, addresses)
		}
	case list:
		for _, element := range v {
			addresses = vaultsIn(element, addresses)
		}
	}
	return addresses
}
