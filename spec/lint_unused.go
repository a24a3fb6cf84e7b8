package spec

import (
	"slices"
	"strconv"

	"github.com/compose-spec/compose-go/v2/types"
)

// lintUnused tells of what is declared and used by nobody. A service that is left
// out for its profiles uses what it names: another day it is in.
func (c *converter) lintUnused() {
	used := map[string]map[string]bool{"networks": {}, "volumes": {}, "configs": {}, "secrets": {}}
	var profiles []string
	for _, services := range []types.Services{c.project.Services, c.project.DisabledServices} {
		for key, service := range services {
			c.uses(key, service, used)
			profiles = append(profiles, service.Profiles...)
		}
	}
	for i, profile := range c.policy.Profiles {
		if profile != "*" && !slices.Contains(profiles, profile) {
			c.report.info("unused", []string{"x-skep", "profiles", strconv.Itoa(i)}, "x-skep.profiles has the profile %s, and no service does (remove it, or write it in the profiles of a service)", profile)
		}
	}
	declared := map[string][]string{
		"networks": sortedKeys(c.project.Networks), "volumes": sortedKeys(c.project.Volumes),
		"configs": sortedKeys(c.project.Configs), "secrets": sortedKeys(c.project.Secrets),
	}
	for section, keys := range declared {
		for _, key := range keys {
			if !used[section][key] {
				c.report.info("unused", []string{section, key}, "%s.%s is declared, and no service uses it (remove it, or name it in a service)", section, key)
			}
		}
	}
}

// uses marks what a service uses.
func (c *converter) uses(key string, service types.ServiceConfig, used map[string]map[string]bool) {
	if len(service.Networks) == 0 {
		used["networks"]["default"] = true
	}
	for network := range service.Networks {
		used["networks"][network] = true
	}
	for _, use := range service.Configs {
		used["configs"][use.Source] = true
	}
	for _, use := range service.Secrets {
		used["secrets"][use.Source] = true
	}
	if service.CredentialSpec != nil {
		used["configs"][service.CredentialSpec.Config] = true
	}
	volumes, _ := c.services[key]["volumes"].([]any)
	for _, value := range volumes {
		if volume, err := parseVolume(value); err == nil {
			used["volumes"][volume.Source] = true
		}
	}
}
