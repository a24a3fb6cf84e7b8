package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/compose/convert"
	"github.com/docker/cli/cli/compose/loader"
	"github.com/docker/cli/cli/compose/types"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
)

// dockerObjects is what `docker stack deploy -c file name` would send: docker/cli's
// loader and converter, in the order in which its commands call them
// (cli/command/stack/loader and cli/command/stack/swarm/deploy_composefile.go).
// Ignored holds the options that the command says it passes over.
func dockerObjects(file, name string, env map[string]string) (o *objects, ignored []string, err error) {
	defer asEnvironment(env)()
	defer func() {
		if p := recover(); p != nil { // the command would end so too
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	config, ignored, err := dockerConfig(file, env)
	if err != nil {
		return nil, nil, err
	}
	namespace := convert.NewNamespace(name)
	o = &objects{
		External: map[string]struct{}{},
		Configs:  map[string]swarm.ConfigSpec{},
		Secrets:  map[string]swarm.SecretSpec{},
	}
	var external []string
	o.Networks, external = convert.Networks(namespace, config.Networks, declaredNetworks(config.Services))
	for name, options := range o.Networks {
		if options.Driver == "" {
			options.Driver = "overlay" // createNetworks does so
			o.Networks[name] = options
		}
	}
	for _, name := range external {
		o.External[name] = struct{}{}
	}
	secrets, err := convert.Secrets(namespace, config.Secrets)
	if err != nil {
		return nil, nil, err
	}
	for _, spec := range secrets {
		o.Secrets[spec.Name] = spec
	}
	configs, err := convert.Configs(namespace, config.Configs)
	if err != nil {
		return nil, nil, err
	}
	for _, spec := range configs {
		o.Configs[spec.Name] = spec
	}
	o.Services, err = convert.Services(context.Background(), namespace, config, anyEngine{})
	if err != nil {
		return nil, nil, err
	}
	return o, ignored, nil
}

// asEnvironment makes env the process's whole environment, in which docker/cli looks up
// the names that stand alone in an env_file, until the function that it returns is
// called.
func asEnvironment(env map[string]string) (restore func()) {
	before := os.Environ()
	os.Clearenv()
	for key, value := range env {
		os.Setenv(key, value)
	}
	return func() {
		os.Clearenv()
		for _, entry := range before {
			key, value, _ := strings.Cut(entry, "=")
			os.Setenv(key, value)
		}
	}
}

// dockerConfig reads and checks a file as the command does.
func dockerConfig(file string, env map[string]string) (*types.Config, []string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	tree, err := loader.ParseYAML(text)
	if err != nil {
		return nil, nil, err
	}
	config, err := loader.Load(types.ConfigDetails{
		WorkingDir:  filepath.Dir(file),
		ConfigFiles: []types.ConfigFile{{Filename: file, Config: tree}},
		Environment: env,
	})
	if forbidden := (*loader.ForbiddenPropertiesError)(nil); errors.As(err, &forbidden) {
		var keys []string
		for key := range forbidden.Properties {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		return nil, nil, fmt.Errorf("unsupported options: %s", strings.Join(keys, ", "))
	}
	if err != nil {
		return nil, nil, err
	}
	for _, service := range config.Services {
		if service.Image == "" {
			return nil, nil, fmt.Errorf("invalid image reference for service %s: no image specified", service.Name)
		}
		if _, err := reference.ParseAnyReference(service.Image); err != nil {
			return nil, nil, fmt.Errorf("invalid image reference for service %s: %w", service.Name, err)
		}
	}
	ignored := loader.GetUnsupportedProperties(tree)
	for key := range loader.GetDeprecatedProperties(tree) {
		ignored = append(ignored, key)
	}
	return config, ignored, nil
}

// declaredNetworks is getServicesDeclaredNetworks.
func declaredNetworks(services []types.ServiceConfig) map[string]struct{} {
	used := map[string]struct{}{}
	for _, service := range services {
		if len(service.Networks) == 0 {
			used["default"] = struct{}{}
		}
		for key := range service.Networks {
			used[key] = struct{}{}
		}
	}
	return used
}

// anyEngine is an engine that has every config and secret that it is asked for, under
// its name as its ID. Converting asks it for nothing else.
type anyEngine struct{ client.APIClient }

func (anyEngine) ClientVersion() string { return "1.51" }

func (anyEngine) ConfigList(_ context.Context, o swarm.ConfigListOptions) ([]swarm.Config, error) {
	var found []swarm.Config
	for _, name := range o.Filters.Get("name") {
		found = append(found, swarm.Config{ID: name, Spec: swarm.ConfigSpec{Annotations: swarm.Annotations{Name: name}}})
	}
	return found, nil
}

func (anyEngine) SecretList(_ context.Context, o swarm.SecretListOptions) ([]swarm.Secret, error) {
	var found []swarm.Secret
	for _, name := range o.Filters.Get("name") {
		found = append(found, swarm.Secret{ID: name, Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: name}}})
	}
	return found, nil
}
