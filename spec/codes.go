package spec

import (
	"slices"
	"strings"
)

// A Code is one kind of finding. Its name does not change once it was released:
// x-skep.findings and comments in files name it.
type Code struct {
	Name string
	From Origin
	// Severities are those that its findings come with, the worst first. A finding
	// that is an error stays one; what else there is can be set in x-skep.findings.
	Severities []Severity
	// Meaning says in a line what was found.
	Meaning string
}

// Origin says where a finding is made.
type Origin string

// Reading is about the directory and the text in its files, File about what one
// compose file says, Swarm about a file against the Swarm, with an engine at hand.
const (
	Reading Origin = "reading"
	File    Origin = "file"
	Swarm   Origin = "swarm"
)

// Settable says whether x-skep.findings may change the severity of some of the
// code's findings.
func (c Code) Settable() bool {
	return c.From != Reading && slices.ContainsFunc(c.Severities, func(s Severity) bool { return s != Error })
}

// hiding are the codes of files whose errors end the work on a file early.
var hiding = set("variable", "include", "include-cycle", "include-conflict", "include-too-large", "extends", "extends-cycle",
	"env-file", "secret-not-decrypted", "secret-damaged", "invalid-compose", "invalid-port", "invalid-volume", "invalid-value")

// Hides says that where an error of this code is, the file may have others that are
// found only when it is mended.
func (c Code) Hides() bool {
	return c.From == Reading && slices.Contains(c.Severities, Error) || hiding[c.Name]
}

// Codes are all codes of findings that packages spec and reconcile make, sorted by
// name. docs/findings.md has a section for each.
func Codes() []Code {
	sorted := slices.Clone(codeTable)
	slices.SortFunc(sorted, func(a, b Code) int { return strings.Compare(a.Name, b.Name) })
	return sorted
}

// CodeOf finds a code by its name.
func CodeOf(name string) (Code, bool) {
	i := slices.IndexFunc(codeTable, func(c Code) bool { return c.Name == name })
	if i < 0 {
		return Code{}, false
	}
	return codeTable[i], true
}

// codeNames are the names of the codes that a filter keeps, sorted.
func codeNames(keep func(Code) bool) []string {
	var names []string
	for _, c := range Codes() {
		if keep(c) {
			names = append(names, c.Name)
		}
	}
	return names
}

// How bad the findings of a code are.
var (
	asError          = []Severity{Error}
	asWarning        = []Severity{Warning}
	asInfo           = []Severity{Info}
	asErrorOrWarning = []Severity{Error, Warning}
	asWarningOrInfo  = []Severity{Warning, Info}
)

var codeTable = []Code{
	{"unreadable", Reading, asError, "a file or folder is there and cannot be read or understood"},
	{"outside", Reading, asError, "a symlink leads out of the specs directory"},
	{"not-a-file", Reading, asError, "where a compose file is expected stands something else"},
	{"not-a-stack", Reading, asError, "the folder holds no compose file, or several"},
	{"no-compose-file", Reading, asWarning, "a folder has YAML files and no compose file, or nothing in it"},
	{"two-compose-files", Reading, asError, "a stack's folder holds more than one compose file"},
	{"duplicate-stack", Reading, asError, "two files describe a stack of one name"},
	{"unstable", Reading, asError, "the files change while they are read"},
	{"cancelled", Reading, asError, "reading was stopped"},
	{"internal", Reading, asErrorOrWarning, "skep cannot cope with a file, which is a bug in skep"},
	{"file-absent", Reading, asWarning, "the commit has a stack's file that the work tree has not"},
	{"git-unreadable", Reading, asInfo, "there is a git repository that cannot be read"},
	{"file-too-large", Reading, asError, "the file is larger than --max-file-size"},
	{"policy-rule-unused", Reading, asWarningOrInfo, "a rule of the policy names stacks that the directory does not have"},
	{"policy-in-other-hands", Reading, asWarning, "those who write stacks may be able to write the policy"},
	{"policy-rule-unjudged", Reading, asWarning, "a rule of the policy goes by directories, and that of the specs is not known"},
	{"not-text", Reading, asError, "the file is not UTF-8 text"},
	{"yaml-syntax", Reading, asError, "the file is not YAML"},
	{"yaml-endless", Reading, asError, "an alias stands inside of what it names"},
	{"yaml-too-deep", Reading, asError, "values are nested too deeply"},
	{"yaml-too-large", Reading, asError, "the file has too many values once its aliases are expanded"},
	{"several-documents", Reading, asError, "the file holds more than one YAML document"},
	{"empty-file", Reading, asError, "the file holds nothing"},
	{"not-a-mapping", Reading, asError, "the file is a list or a single value"},
	{"yaml-tag", Reading, asError, "a value has a tag that means nothing there"},
	{"key-not-text", Reading, asError, "a key is a number, a date or the like"},

	{"variable", File, asError, "a variable cannot be expanded, or is required and not set"},
	{"variable-unset", File, asErrorOrWarning, "a variable is not set and stands for nothing"},
	{"dollar-in-default", File, asWarning, "$$ in a default stays two dollar signs"},
	{"mode-decimal", File, asWarning, "a file mode from a variable is read as a decimal number"},
	{"include", File, asError, "include names what cannot be included"},
	{"include-cycle", File, asError, "files include each other in a circle"},
	{"include-conflict", File, asError, "two files of a stack have one name for different things"},
	{"include-too-large", File, asError, "the compose files of a stack are too many or too large together"},
	{"include-ignored", File, asWarning, "an included file says what the stack's own file alone can say"},
	{"extends", File, asError, "extends names what there is not, or too much"},
	{"extends-cycle", File, asError, "services extend each other in a circle"},
	{"env-file", File, asError, "a file of variables or labels cannot be read, or is none"},
	{"config-file", File, asError, "the file of a config cannot be read, or lies outside of the stack's folder"},
	{"config-empty", File, asError, "a config is empty"},
	{"config-too-large", File, asError, "a config is larger than an engine takes"},
	{"secret-file", File, asError, "the file of a secret cannot be read, or lies outside of the stack's folder"},
	{"secret-empty", File, asError, "a secret is empty"},
	{"secret-too-large", File, asError, "a secret is larger than an engine takes"},
	{"secret-not-decrypted", File, asErrorOrWarning, "a file is encrypted, and no key here opens it"},
	{"secret-damaged", File, asError, "an encrypted file is not what was encrypted"},
	{"invalid-name", File, asError, "no engine takes the name of a stack, service, config or secret"},
	{"duplicate-name", File, asErrorOrWarning, "two networks, configs or secrets have one name"},
	{"external-name", File, asError, "name and external.name differ"},
	{"x-skep", File, asError, "x-skep has a key or value that is not known"},
	{"ignore-comment", File, asWarningOrInfo, "a skep:ignore comment ignores nothing"},

	{"invalid-compose", File, asError, "the compose format does not allow it"},
	{"invalid-value", File, asErrorOrWarning, "a value that an engine refuses or that means nothing"},
	{"no-services", File, asError, "the stack has no services"},
	{"profile-inactive", File, asInfo, "a service is left out, as none of its profiles is active"},
	{"image-missing", File, asError, "a service names no image"},
	{"image-invalid", File, asError, "that is not the name of an image"},
	{"undefined-reference", File, asError, "a service uses what the file does not have"},
	{"depends-on-cycle", File, asErrorOrWarning, "services, or stacks, wait for each other in a circle"},
	{"depends-on-unknown", File, asWarning, "x-skep.depends_on names a stack that the directory does not have"},
	{"invalid-port", File, asError, "a port cannot be read, or there are too many"},
	{"port-conflict", File, asErrorOrWarning, "two services publish the same port through the routing mesh"},
	{"host-port-conflict", File, asWarning, "two services publish the same port of the host"},
	{"dnsrr-ingress", File, asError, "endpoint_mode dnsrr goes without the routing mesh, and a port is published through it"},
	{"invalid-volume", File, asError, "an engine refuses the volume"},
	{"duplicate-target", File, asError, "two volumes, configs or secrets have one target"},
	{"bind-home", File, asError, "a bind mount begins with ~, and there is no HOME"},
	{"secret-driver", File, asError, "a secret has a driver and a value"},
	{"credential-spec", File, asError, "a credential_spec has more than one source"},
	{"healthcheck-disabled", File, asError, "a healthcheck has a test and is disabled"},
	{"global-replicas", File, asError, "a global service has replicas"},
	{"rollback-loops", File, asError, "a rollback that fails is to be rolled back"},
	{"label-reserved", File, asErrorOrWarning, "a label that skep or docker writes itself"},
	{"option-forbidden", File, asError, "an option promises a limit or a volume that a Swarm does not give"},

	{"option-ignored", File, asWarningOrInfo, "an option comes to nothing in a Swarm"},
	{"cluster-spec", File, asWarning, "x-cluster-spec creates no cluster volume"},
	{"build-ignored", File, asWarning, "a Swarm builds no images"},
	{"bind-relative", File, asWarning, "a bind mount of a folder that other nodes do not have"},
	{"bind", File, asInfo, "a bind mount takes what each node has at that path"},
	{"image-untagged", File, asWarning, "an image has no tag"},
	{"image-latest", File, asWarning, "an image is latest"},
	{"image-local-only", File, asWarningOrInfo, "other nodes have nowhere to pull the image from"},
	{"no-healthcheck", File, asInfo, "a service that is updated start-first has no healthcheck"},
	{"secret-in-env", File, asWarning, "a secret's value stands in the file"},
	{"start-first-unsafe", File, asWarningOrInfo, "two tasks of the service must not run side by side"},
	{"failure-continue", File, asWarning, "failure_action continue watches no task"},
	{"parallelism-zero", File, asWarningOrInfo, "parallelism 0 is all tasks at once"},
	{"monitor-before-delay", File, asWarning, "an update waits longer than it watches"},
	{"monitor-short", File, asInfo, "the healthcheck takes longer to tell than an update watches"},
	{"replicas-exceed-nodes", File, asWarningOrInfo, "replicas need more nodes than one"},
	{"job-update", File, asWarning, "a job has settings of an update"},
	{"field-unsupported", File, asWarning, "the engine does not know the field"},
	{"unused", File, asInfo, "something is declared, and no service uses it"},

	{"external-missing", Swarm, asError, "an external network, config or secret does not exist in the Swarm"},
	{"content-lost", Swarm, asError, "a release needs a config or secret that is gone, and no record keeps contents"},
	{"name-taken", Swarm, asError, "the object belongs to another stack"},
	{"ingress-port-taken", Swarm, asError, "another service publishes the port"},
	{"port-cycle", Swarm, asError, "services exchange published ports in a circle"},
	{"port-handover", Swarm, asWarningOrInfo, "a published port moves from one service to another"},
	{"network-changed", Swarm, asWarningOrInfo, "a network differs from the file, and cannot be changed"},
	{"mode-changed", Swarm, asWarning, "a service changes its mode, and is removed and created anew"},
	{"no-node-fits", Swarm, asWarning, "no node may take the service's tasks"},
	{"host-port-taken", Swarm, asWarning, "two stacks publish one port of the host, on too few nodes"},
	{"bind-missing-on-nodes", Swarm, asWarning, "nodes have nothing at a bind mount's path"},
	{"foreign", Swarm, asInfo, "an object of the stack that the file does not have and skep did not make"},
	{"left-behind", Swarm, asInfo, "it left the file and stays, since prune is off"},
	{"still-used", Swarm, asWarningOrInfo, "it left the file and goes when no service needs it any more"},
	{"ignore-unknown", Swarm, asWarning, "a path in x-skep.ignore is no field that is compared"},
	{"job-labels-wait", Swarm, asInfo, "labels of a job wait for its next change"},
	{"image-not-pinned", Swarm, asWarning, "no registry could tell the image's digest"},
	{"follow-away", Swarm, asWarning, "a registry could not tell what a service follows"},
	{"follow-held", Swarm, asWarning, "a newer tag was found, and is not followed to"},
	{"release-failed", Swarm, asWarning, "this version was rolled out and failed"},
	{"release-pending", Swarm, asWarning, "a release is to be taken back, or to be tried again, and nobody did so yet"},
	{"suspended", Swarm, asWarning, "the stack is suspended, and nothing of it is written"},
	{"pinned", Swarm, asWarning, "somebody went back to an earlier release, and the stack stays there"},
	{"other-owner", Swarm, asError, "another controller looks after the stack"},
	{"host-root", Swarm, asError, "a mount opens a whole node, and that is not allowed"},
	{"skep-own", Swarm, asError, "a stack asks for what skep keeps for itself"},
	{"policy-bind", Swarm, asError, "the policy does not allow the path of a node"},
	{"policy-port", Swarm, asError, "the policy does not allow the published port"},
	{"policy-network", Swarm, asError, "the policy does not allow a network of nodes"},
	{"policy-external", Swarm, asError, "the policy does not allow what is not the stack's own"},
	{"policy-image", Swarm, asError, "the policy does not allow the image"},
	{"policy-privilege", Swarm, asError, "the policy does not allow the privilege"},
	{"policy-driver", Swarm, asError, "the policy does not allow the plugin or file system"},
	{"policy-limit", Swarm, asError, "the service is larger, or freer, than the policy allows"},
	{"prune-blocked", Swarm, asError, "the file has lost most of the stack's services, and nobody confirmed that"},
	{"record-damaged", Swarm, asWarning, "what is remembered of a release cannot be read"},
	{"secret-believed", Swarm, asWarning, "an adopted secret cannot be compared with its file"},
}
