package spec

// lintUnused tells of what is declared and used by nobody.
func (c *converter) lintUnused() {
	used := map[string]map[string]bool{"networks": c.usedNetworks(), "volumes": {}, "configs": {}, "secrets": {}}
	for key, service := range c.project.Services {
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
