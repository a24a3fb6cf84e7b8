package spec

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
)

// A converter turns a project into the objects that `docker stack deploy` would
// make of it, with names in place of IDs. It is pure but for files, through which
// it reads what the project names.
type converter struct {
	report *report
	stack  string // the stack's name
	base   string // what relative bind mounts are relative to
	env    map[string]string
	// lookup asks for a variable and remembers that it was asked for.
	lookup  func(string) (string, bool)
	project *types.Project
	// services holds each service's values as they were written, with variables
	// and extends resolved: what the typed project has lost.
	services map[string]map[string]any
	// literal is the file's tree before variables were put in.
	literal  map[string]any
	policy   Policy
	policies map[string]servicePolicy
	// files reads a file of the stack's folder, at most a byte more than limit.
	files    func(name string, limit int64) (fileText, fileProblem)
	longName bool // the stack's own name is too long, and that was told
	// lines holds what was read of each env_file and label_file, which many services
	// may name.
	lines map[string]map[string]string
	// sealedValues are the values of variables that came out of encrypted files, and
	// sealedLong those of them that are recognised in a longer text; masked are the fields
	// of the service under way that encrypted env_files and label_files gave it.
	sealedValues map[string]bool
	sealedLong   []string
	sealedWork   int
	masked       map[string]bool
	// mountedAt is where the file has each mount, by service and target.
	mountedAt map[string]map[string][]string
}

// What an engine takes: names of services are DNS labels, those of configs and
// secrets a little freer (swarmkit, manager/controlapi: validateAnnotations and
// validateConfigOrSecretAnnotations), and data is shorter than a limit (there:
// MaxConfigSize and MaxSecretSize).
var (
	objectName = regexp.MustCompile(`^[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*$`)
	fileName   = regexp.MustCompile(`^[a-zA-Z0-9]+(?:[a-zA-Z0-9-_.]*[a-zA-Z0-9])?$`)
)

const (
	maxServiceName = 63
	maxFileName    = 64
	maxConfigData  = 1000 << 10
	maxSecretData  = 500 << 10
)

// scoped is the name that an object of the stack gets by its key.
func (c *converter) scoped(key string) string { return c.stack + "_" + key }

// labelled is labels with the one by which docker knows the stack's objects.
func (c *converter) labelled(labels map[string]string) map[string]string {
	out := make(map[string]string, len(labels)+1)
	for key, value := range labels {
		out[key] = value
	}
	out[LabelNamespace] = c.stack
	return out
}

// convert makes the stack; what is wrong with it is in the report.
func (c *converter) convert() *Stack {
	stack := &Stack{Name: c.stack, Policy: c.policy}
	if len(c.project.Services) == 0 {
		c.report.fail("no-services", []string{"services"}, "the stack has no services (write at least one, or remove the file)")
	}
	c.checkStackName()
	for _, key := range sortedKeys(c.project.Services) {
		c.masked = map[string]bool{}
		service := c.service(key, c.project.Services[key])
		c.mask(&service, c.masked)
		stack.Services = append(stack.Services, service)
	}
	for _, key := range sortedKeys(c.project.DisabledServices) {
		c.report.info("profile-inactive", []string{"services", key, "profiles"}, "the service %s is left out: none of its profiles is active (take profiles out, or activate one)", key)
	}
	stack.Networks = c.networks()
	stack.Configs = c.configs()
	stack.Secrets = c.secrets()
	c.checkClusterSpecs()
	c.checkCycles(stack.Services)
	slices.SortFunc(stack.Services, func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
	return stack
}

// networkName is the name of a network by its key.
func (c *converter) networkName(key string) string {
	declared := c.project.Networks[key]
	switch {
	case declared.Name != "":
		return declared.Name
	case bool(declared.External):
		return key
	}
	return c.scoped(key)
}

// usedNetworks holds the keys of the networks that services are attached to.
func (c *converter) usedNetworks() map[string]bool {
	used := map[string]bool{}
	for _, service := range c.project.Services {
		if len(service.Networks) == 0 {
			used["default"] = true
		}
		for key := range service.Networks {
			used[key] = true
		}
	}
	return used
}

// networks converts the networks that services use.
func (c *converter) networks() []Network {
	var out []Network
	for _, key := range sortedKeys(c.usedNetworks()) {
		declared, ok := c.project.Networks[key]
		if !ok && key != "default" {
			continue // the service that names it has the finding
		}
		n := Network{Key: key, Name: c.networkName(key), External: bool(declared.External)}
		if !n.External {
			n.Create = c.network(declared, []string{"networks", key})
		}
		out = append(out, n)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	for i := 1; i < len(out); i++ {
		if out[i].Name == out[i-1].Name && (!out[i].External || !out[i-1].External) {
			c.report.fail("duplicate-name", []string{"networks", out[i].Key}, "the networks %s and %s have the same name %s (rename one)", out[i-1].Key, out[i].Key, out[i].Name)
		}
	}
	return out
}

func (c *converter) network(declared types.NetworkConfig, at []string) network.CreateOptions {
	options := network.CreateOptions{
		Driver:     "overlay",
		EnableIPv4: declared.EnableIPv4,
		EnableIPv6: declared.EnableIPv6,
		Internal:   declared.Internal,
		Attachable: declared.Attachable,
		Options:    declared.DriverOpts,
		Labels:     c.labelled(declared.Labels),
	}
	if declared.Driver != "" {
		options.Driver = declared.Driver
	}
	if ipam := declared.Ipam; ipam.Driver != "" || len(ipam.Config) > 0 || len(ipam.Options) > 0 {
		options.IPAM = &network.IPAM{Driver: ipam.Driver, Options: ipam.Options}
		for i, pool := range ipam.Config {
			if pool != nil {
				options.IPAM.Config = append(options.IPAM.Config, network.IPAMConfig{
					Subnet: pool.Subnet, IPRange: pool.IPRange, Gateway: pool.Gateway, AuxAddress: pool.AuxiliaryAddresses,
				})
				c.checkPool(pool, under(at, "ipam", "config", strconv.Itoa(i)))
			}
		}
	}
	return options
}

// checkPool refuses addresses that no engine takes.
func (c *converter) checkPool(pool *types.IPAMPool, at []string) {
	subnet, err := netip.ParsePrefix(pool.Subnet)
	if pool.Subnet != "" && err != nil {
		c.report.fail("invalid-value", under(at, "subnet"), "the subnet %q is none (write one such as 10.1.0.0/24)", pool.Subnet)
		return
	}
	if pool.Subnet == "" && (pool.IPRange != "" || pool.Gateway != "") {
		c.report.fail("invalid-value", at, "a pool of addresses has an ip_range or a gateway and no subnet that they are in (write subnet)")
		return
	}
	if part, err := netip.ParsePrefix(pool.IPRange); pool.IPRange != "" && (err != nil || part.Bits() < subnet.Bits() || !subnet.Contains(part.Addr())) {
		c.report.fail("invalid-value", under(at, "ip_range"), "the ip_range %q is no part of the subnet %s (write one such as 10.1.0.128/25)", pool.IPRange, pool.Subnet)
	}
	if gateway, err := netip.ParseAddr(pool.Gateway); pool.Gateway != "" && (err != nil || !subnet.Contains(gateway)) {
		c.report.fail("invalid-value", under(at, "gateway"), "the gateway %q is no address of the subnet %s (write one of it)", pool.Gateway, pool.Subnet)
	}
}

// objectNameOf is the name of a config or secret by its key.
func (c *converter) objectNameOf(key string, declared types.FileObjectConfig) string {
	switch {
	case declared.Name != "":
		return declared.Name
	case bool(declared.External):
		return key
	}
	return c.scoped(key)
}

func (c *converter) configName(key string) string {
	return c.objectNameOf(key, types.FileObjectConfig(c.project.Configs[key]))
}

func (c *converter) secretName(key string) string {
	return c.objectNameOf(key, types.FileObjectConfig(c.project.Secrets[key]))
}

// configs converts all configs of the file.
func (c *converter) configs() []Config {
	var out []Config
	for _, key := range sortedKeys(c.project.Configs) {
		declared := types.FileObjectConfig(c.project.Configs[key])
		at := []string{"configs", key}
		config := Config{Key: key, Name: c.configName(key), External: bool(declared.External)}
		c.checkFileName(config.Name, at)
		if !config.External {
			config.Spec = swarm.ConfigSpec{
				Annotations: swarm.Annotations{Name: config.Name, Labels: c.labelled(declared.Labels)},
				Templating:  c.templating(declared, at),
			}
			config.Spec.Data, config.Sealed = c.data(declared, at, "config", maxConfigData)
		}
		out = append(out, config)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	for i := 1; i < len(out); i++ {
		c.checkDuplicate("configs", out[i-1].Key, out[i].Key, out[i-1].Name, out[i].Name, out[i-1].External && out[i].External)
	}
	return out
}

// secrets converts all secrets of the file.
func (c *converter) secrets() []Secret {
	var out []Secret
	for _, key := range sortedKeys(c.project.Secrets) {
		declared := types.FileObjectConfig(c.project.Secrets[key])
		at := []string{"secrets", key}
		secret := Secret{Key: key, Name: c.secretName(key), External: bool(declared.External)}
		c.checkFileName(secret.Name, at)
		if !secret.External {
			secret.Spec = swarm.SecretSpec{
				Annotations: swarm.Annotations{Name: secret.Name, Labels: c.labelled(declared.Labels)},
				Templating:  c.templating(declared, at),
			}
			if declared.Driver != "" {
				secret.Spec.Driver = &swarm.Driver{Name: declared.Driver, Options: declared.DriverOpts}
				if declared.File != "" || declared.Environment != "" {
					c.report.fail("secret-driver", under(at, "driver"), "the secret %s has a driver and a value of its own (keep one of them)", key)
				}
			} else {
				data, _ := c.data(declared, at, "secret", maxSecretData)
				secret.Value = NewSensitive(data)
			}
		}
		out = append(out, secret)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	for i := 1; i < len(out); i++ {
		c.checkDuplicate("secrets", out[i-1].Key, out[i].Key, out[i-1].Name, out[i].Name, out[i-1].External && out[i].External)
	}
	return out
}

// templating is the driver that fills in a template on the node. There is one: with
// any other the node rejects the task (swarmkit, template/expand.go).
func (c *converter) templating(declared types.FileObjectConfig, at []string) *swarm.Driver {
	if declared.TemplateDriver == "" {
		return nil
	}
	if declared.TemplateDriver != "golang" {
		c.report.fail("invalid-value", under(at, "template_driver"), "%q is no template driver (write golang)", declared.TemplateDriver)
	}
	return &swarm.Driver{Name: declared.TemplateDriver}
}

// data is the content of a config or secret: of its file, its variable, or as
// written; and whether it came out of an encrypted file. What it is goes into no finding.
func (c *converter) data(declared types.FileObjectConfig, at []string, kind string, limit int64) (data []byte, sealed bool) {
	key := at[1]
	written := mapping(c.literal, at...)
	switch {
	case declared.File != "" || written["file"] != nil:
		read, problem := c.files(declared.File, limit)
		if problem.text != "" {
			if problem.text = fmt.Sprintf("the %s %s: %s", kind, key, problem.text); !c.report.sealedProblem(problem, under(at, "file")) {
				c.report.fail(kind+"-file", under(at, "file"), "%s", problem.text)
			}
			return nil, false
		}
		if read.unopened != "" {
			c.report.warn("secret-not-decrypted", under(at, "file"), "the %s %s: %s", kind, key, read.unopened)
		}
		data, sealed = read.data, read.sealed
	case declared.Environment != "":
		value, ok := c.lookup(declared.Environment)
		if !ok {
			c.report.fail("variable-unset", under(at, "environment"), "the %s %s takes its value from the variable %s, which is not set (set it in the stack's .env, or allow it from the environment)", kind, key, declared.Environment)
			return nil, false
		}
		data, sealed = []byte(value), c.hides(value)
	default:
		data, sealed = []byte(declared.Content), c.hides(declared.Content)
	}
	switch {
	case len(data) == 0:
		c.report.fail(kind+"-empty", at, "the %s %s is empty, and an engine takes none that is (write something into it)", kind, key)
	case int64(len(data)) >= limit:
		c.report.fail(kind+"-too-large", at, "the %s %s has more than the %d bytes that an engine takes (put it into the image, or on a volume)", kind, key, limit-1)
	}
	return data, sealed
}

// checkStackName refuses the stack's name where it makes those of several services too
// long, which is one fault and not that of each.
func (c *converter) checkStackName() {
	long := slices.DeleteFunc(sortedKeys(c.project.Services), func(key string) bool { return len(c.scoped(key)) <= maxServiceName })
	if len(long) > 1 {
		c.longName = true
		c.report.fail("invalid-name", []string{"name"}, "the stack's name %s makes the names of %d services longer than the %d characters that an engine takes, such as %s (shorten the stack's name)", c.stack, len(long), maxServiceName, c.scoped(long[0]))
	}
}

func (c *converter) checkFileName(name string, at []string) {
	if len(name) > maxFileName || !fileName.MatchString(name) {
		c.report.fail("invalid-name", at, "%q cannot be the name of a config or secret, which has at most %d letters, digits, -, _ and . and begins and ends with a letter or digit (give it a shorter or plainer name)", name, maxFileName)
	}
}

func (c *converter) checkDuplicate(section, key, other, name, otherName string, external bool) {
	if name == otherName && !external {
		c.report.fail("duplicate-name", []string{section, other}, "%s and %s of %s have the same name %s (rename one)", key, other, section, name)
	}
}

// checkCycles refuses services that wait for each other.
func (c *converter) checkCycles(services []Service) {
	depends := map[string][]string{}
	for _, s := range services {
		depends[s.Key] = s.DependsOn
	}
	const visiting, visited = 1, 2
	state := map[string]int{}
	var chain []string
	var visit func(string)
	visit = func(key string) {
		switch state[key] {
		case visited:
			return
		case visiting:
			circle := append(slices.Clone(chain[slices.Index(chain, key):]), key)
			c.report.fail("depends-on-cycle", []string{"services", key, "depends_on"}, "services wait for each other in a circle: %s (take one of these depends_on out)", strings.Join(circle, " → "))
			return
		}
		state[key] = visiting
		chain = append(chain, key)
		for _, next := range depends[key] {
			visit(next)
		}
		chain = chain[:len(chain)-1]
		state[key] = visited
	}
	for _, key := range sortedKeys(depends) {
		visit(key)
	}
}

func (c *converter) hasHome() bool {
	_, set := c.lookup("HOME")
	return set
}

// bindSource is the path on the node that a bind mount names.
func (c *converter) bindSource(source string, at []string) string {
	if rest, ok := strings.CutPrefix(source, "~"); ok {
		home, set := c.lookup("HOME")
		if !set {
			c.report.fail("bind-home", at, "the bind mount of %s begins with ~, and there is no HOME here that every node would have (write an absolute path)", source)
			return source
		}
		source = home + rest
	}
	if path.IsAbs(source) || windowsPath(source) {
		return source
	}
	return path.Join(c.base, source)
}
