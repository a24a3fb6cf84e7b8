package spec

import (
	"strconv"
	"strings"
)

// checkTree looks at the tree before the library does: for what would come out of
// it as an error without a place, and for what must not be written at all. False where
// there is too much to look at.
func checkTree(r *report, tree map[string]any) bool {
	if !checkPortCounts(r, mapping(tree, "services")) {
		return false
	}
	for _, section := range sections {
		objects, ok := tree[section].(map[string]any)
		if !ok && tree[section] != nil {
			r.fail("invalid-compose", []string{section}, "%s is not a mapping of names (write a name and below it what it is)", section)
			continue
		}
		for _, key := range sortedKeys(objects) {
			at := []string{section, key}
			object, ok := objects[key].(map[string]any)
			switch {
			case ok && section == "services":
				checkServiceTree(r, object, at)
			case ok:
				checkLabels(r, object["labels"], under(at, "labels"))
			case section == "services" || objects[key] != nil || section == "configs" || section == "secrets":
				r.fail("invalid-compose", at, "%s.%s is not a mapping (write its keys below it)", section, key)
			}
		}
	}
	checkLong(r, tree)
	return true
}

// checkPortCounts refuses more ports than are worth to be read; then, false.
func checkPortCounts(r *report, services map[string]any) bool {
	for _, key := range sortedKeys(services) {
		count := portCounts(mapping(services, key))
		at := []string{"services", key, "ports"}
		if count > maxPorts {
			r.fail("invalid-port", at, "the service %s publishes more than %d ports (publish fewer)", key, maxPorts)
			return false
		}
		if r.ports += count; r.ports > maxAllPorts {
			r.fail("invalid-port", at, "the stack publishes more than %d ports (publish fewer)", maxAllPorts)
			return false
		}
	}
	return true
}

// maxKey bounds a key: they come back in findings and in names.
const maxKey = 255

// checkLong refuses keys of objects that no engine could take.
func checkLong(r *report, tree map[string]any) {
	for _, section := range sections {
		for _, key := range sortedKeys(mapping(tree, section)) {
			if len(key) > maxKey {
				r.fail("invalid-name", []string{section, key}, "a name under %s has more than %d characters (shorten it)", section, maxKey)
			}
		}
	}
}

func checkServiceTree(r *report, service map[string]any, at []string) {
	for _, key := range sortedKeys(service) {
		if remedy, ok := forbidden[key]; ok {
			r.fail("option-forbidden", under(at, key), "%s has no effect in a Swarm, and the service would run without it (%s)", key, remedy)
		}
	}
	checkLabels(r, service["labels"], under(at, "labels"))
	checkLabels(r, mapping(service, "deploy")["labels"], under(at, "deploy", "labels"))
	if n, err := strconv.Atoi(text(service["oom_score_adj"])); err == nil && (n < -1000 || n > 1000) {
		r.fail("invalid-value", under(at, "oom_score_adj"), "oom_score_adj is %d, and a kernel takes -1000 to 1000 (write a number in between)", n)
	}
	checkShortForms(r, service, at)
	checkReferences(r, service, at)
	checkUlimits(r, service, at)
}

// checkShortForms refuses ports and volumes that cannot be read.
func checkShortForms(r *report, service map[string]any, at []string) {
	ports, _ := service["ports"].([]any)
	for i, port := range ports {
		if _, err := parsePort(port); err != nil {
			r.fail("invalid-port", under(at, "ports", strconv.Itoa(i)), "%v (write PUBLISHED:TARGET, or the long form)", err)
		}
	}
	volumes, _ := service["volumes"].([]any)
	for i, volume := range volumes {
		if written, ok := volume.(string); ok {
			if _, err := parseVolume(written); err != nil {
				r.fail("invalid-volume", under(at, "volumes", strconv.Itoa(i)), "%v (write SOURCE:TARGET, or the long form)", err)
			}
		}
	}
}

// checkReferences refuses names of configs and secrets at which the library panics.
func checkReferences(r *report, service map[string]any, at []string) {
	for _, section := range []string{"configs", "secrets"} {
		uses, _ := service[section].([]any)
		for i, use := range uses {
			m, _ := use.(map[string]any)
			for _, key := range []string{"source", "target"} {
				value, given := m[key]
				if _, isText := value.(string); given && !isText {
					r.fail("invalid-value", under(at, section, strconv.Itoa(i), key), "%s.%s is not text (put it in quotes, or leave it out)", section, key)
				}
			}
		}
	}
}

// checkUlimits refuses limits that are no numbers.
func checkUlimits(r *report, service map[string]any, at []string) {
	limits := mapping(service, "ulimits")
	for _, name := range sortedKeys(limits) {
		values := map[string]any{"": limits[name]}
		if both, ok := limits[name].(map[string]any); ok {
			values = both
		}
		for _, which := range sortedKeys(values) {
			if !whole(values[which]) && !strings.HasPrefix(which, "x-") {
				r.fail("invalid-value", under(at, "ulimits", name), "the ulimit %s is not a whole number (write one, or soft and hard)", name)
			}
		}
	}
}

// whole says whether a value is a whole number, or the text of one.
func whole(value any) bool {
	switch v := value.(type) {
	case int:
		return true
	case string:
		_, err := strconv.Atoi(v)
		return err == nil
	}
	return false
}

// checkLabels refuses labels that skep or docker write themselves.
func checkLabels(r *report, value any, at []string) {
	for _, key := range sortedKeys(pairs(value)) {
		checkLabel(r, key, under(at, key))
	}
}

func checkLabel(r *report, key string, at []string) {
	if strings.HasPrefix(key, "skep.") {
		r.fail("label-reserved", at, "the label %s is reserved: skep writes those that begin with skep. (rename it)", key)
	}
	if key == LabelNamespace || key == LabelImage {
		r.warn("label-reserved", at, "the label %s is overwritten: it tells which stack and image a service is of (remove it)", key)
	}
}
