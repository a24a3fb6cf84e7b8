package spec

// lint tells what of a stack will not do what its author thinks.
func lint(c *converter, stack *Stack) {
	told := map[string]bool{}
	for _, s := range stack.Services {
		l := linter{converter: c, stack: stack, service: s, at: []string{"services", s.Key}, raw: c.services[s.Key], told: told}
		l.ignored()
		l.image()
		l.binds()
		l.rollout()
		l.nodes()
		l.secretsInEnvironment()
	}
	c.lintTop()
	c.lintPorts(stack)
	c.lintUnused()
}

// A linter looks at one service.
type linter struct {
	*converter
	stack   *Stack
	service Service
	at      []string
	raw     map[string]any // the service's values as they were written
	// told holds the variables that were told of, by place: services that extend one
	// have them in common.
	told map[string]bool
}

func set(words ...string) map[string]bool {
	out := make(map[string]bool, len(words))
	for _, word := range words {
		out[word] = true
	}
	return out
}
