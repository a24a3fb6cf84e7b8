package spec

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/format"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-units"
)

// fileTarget is where a config or secret goes in a container.
type fileTarget struct {
	Name string
	UID  string
	GID  string
	Mode os.FileMode
}

func fileMode(mode uint32) os.FileMode { return os.FileMode(mode) }

// mounts converts a service's volumes in the order they are written, with targets
// as they are written, and after them its tmpfs.
func (c *converter) mounts(raw map[string]any, at []string) []mount.Mount {
	list, _ := raw["volumes"].([]any)
	var out []mount.Mount
	targets := map[string]bool{}
	c.mountedAt[at[len(at)-1]] = map[string][]string{}
	add := func(m mount.Mount, where []string) {
		place := path.Clean(m.Target) // a node refuses /d beside /d/
		if targets[place] {
			c.report.fail("duplicate-target", where, "two volumes of the service have the same target %s, which an engine refuses (remove one)", m.Target)
		}
		targets[place] = true
		out = append(out, m)
		c.mountedAt[at[len(at)-1]][m.Target] = where
	}
	for i, element := range list {
		where := under(at, "volumes", strconv.Itoa(i))
		volume, err := parseVolume(element)
		if err != nil {
			c.report.fail("invalid-volume", where, "%v (write SOURCE:TARGET, or the long form)", err)
			continue
		}
		if m, ok := c.mount(volume, where); ok {
			add(m, where)
		}
	}
	switch v := raw["tmpfs"].(type) {
	case string:
		if m, ok := c.tmpfs(v, under(at, "tmpfs")); ok {
			add(m, under(at, "tmpfs"))
		}
	case []any:
		for i, element := range v {
			where := under(at, "tmpfs", strconv.Itoa(i))
			if m, ok := c.tmpfs(text(element), where); ok {
				add(m, where)
			}
		}
	}
	return out
}

// parseVolume reads the short form, or types the long one. The short form's
// options are those that were written: a path that is to be made on the node is
// what the library adds for another program.
func parseVolume(value any) (types.ServiceVolumeConfig, error) {
	var volume types.ServiceVolumeConfig
	switch v := value.(type) {
	case string:
		volume, err := format.ParseVolume(v)
		if volume.Bind != nil && volume.Bind.Propagation == "" {
			volume.Bind = nil
		}
		if volume.Volume != nil && !volume.Volume.NoCopy {
			volume.Volume = nil
		}
		return volume, err
	case map[string]any:
		v, _ = clone(v).(map[string]any)
		if tmpfs := mapping(v, "tmpfs"); tmpfs["mode"] != nil {
			mode, err := parseMode(tmpfs["mode"])
			if err != nil {
				return volume, fmt.Errorf("tmpfs.mode: %w", err)
			}
			tmpfs["mode"] = mode
		}
		if err := loader.Transform(v, &volume); err != nil {
			return volume, errors.New(strings.Join(undecoded(err), "; "))
		}
		return volume, nil
	}
	return volume, fmt.Errorf("a volume is neither text nor a mapping")
}

// undecoded is what the library's decoder says, each problem by itself and without its
// heading.
func undecoded(err error) []string {
	heading, problems, ok := strings.Cut(err.Error(), "decoding failed due to the following error(s):")
	if !ok || heading != "" {
		return []string{firstLine(err.Error())}
	}
	return strings.FieldsFunc(problems, func(r rune) bool { return r == '\n' })
}

// parseMode reads the permissions of a file: a number is what YAML made of it, text
// is octal.
func parseMode(value any) (uint32, error) {
	var mode int64
	var err error
	switch v := value.(type) {
	case int:
		mode = int64(v)
	case string:
		mode, err = strconv.ParseInt(strings.TrimPrefix(v, "0o"), 8, 64)
	default:
		err = strconv.ErrSyntax
	}
	if err != nil || mode < 0 || mode > 0o7777 {
		return 0, fmt.Errorf("%v is no mode of a file, which is octal, such as 0755", value)
	}
	return uint32(mode), nil
}

// mount converts one volume of a service.
func (c *converter) mount(v types.ServiceVolumeConfig, at []string) (mount.Mount, bool) {
	m := mount.Mount{
		Type:        mount.Type(v.Type),
		Source:      v.Source,
		Target:      v.Target,
		ReadOnly:    v.ReadOnly,
		Consistency: mount.Consistency(v.Consistency),
	}
	if m.Target == "" {
		c.report.fail("invalid-volume", at, "a volume has no target (write where in the container it goes)")
		return m, false
	}
	if !absoluteTarget(m.Target) {
		c.report.fail("invalid-volume", at, "a volume's target is %q, and every node rejects one that is not an absolute path (begin it with /)", m.Target)
		return m, false
	}
	if !c.checkOptions(v, at) || !c.checkSource(v, at) {
		return m, false
	}
	switch v.Type {
	case "", "volume":
		return m, c.namedVolume(&m, v, at)
	case "bind", "npipe":
		if v.Type == "bind" {
			m.Source = c.bindSource(v.Source, at)
		}
		m.BindOptions = c.bindOptions(v.Bind, under(at, "bind"))
	case "tmpfs":
		if v.Tmpfs != nil {
			m.TmpfsOptions = &mount.TmpfsOptions{SizeBytes: int64(v.Tmpfs.Size), Mode: fileMode(v.Tmpfs.Mode)}
		}
	case "image":
		c.report.warn("field-unsupported", under(at, "type"), "the volume is of type image, which engines have for containers, and up to 28.5 not for services: they refuse the service (put its files into a config, or into the service's image)")
		if v.Image != nil {
			m.ImageOptions = &mount.ImageOptions{Subpath: v.Image.SubPath}
		}
	case "cluster":
		m.ClusterOptions = &mount.ClusterOptions{}
		if !strings.HasPrefix(v.Source, "group:") {
			if !c.declaredVolume(v.Source, at) {
				return m, false
			}
			m.Source = c.volumeName(v.Source)
		}
	default:
		c.report.fail("invalid-volume", at, "%q is no type of a volume (write volume, bind, tmpfs, image, npipe or cluster)", v.Type)
		return m, false
	}
	return m, true
}

// absoluteTarget says whether a mount's target is one that nodes take; one with a
// template is known on the node only.
func absoluteTarget(target string) bool {
	return strings.HasPrefix(target, "/") || windowsPath(target) || strings.Contains(target, "{{")
}

// bindOptions converts the options of a bind mount. Of what recursive can say, a
// Swarm keeps disabled alone (moby, daemon/cluster/convert).
func (c *converter) bindOptions(b *types.ServiceVolumeBind, at []string) *mount.BindOptions {
	if b == nil {
		return nil
	}
	out := &mount.BindOptions{Propagation: mount.Propagation(b.Propagation)}
	if out.Propagation != "" && !slices.Contains(mount.Propagations, out.Propagation) {
		c.report.fail("invalid-value", under(at, "propagation"), "%q is no propagation of a bind mount (write one of shared, slave, private, rshared, rslave and rprivate)", b.Propagation)
	}
	switch b.Recursive {
	case "disabled":
		out.NonRecursive = true
	case "writable":
		out.ReadOnlyNonRecursive = true
	case "readonly":
		out.ReadOnlyForceRecursive = true
	}
	if out.ReadOnlyNonRecursive || out.ReadOnlyForceRecursive {
		c.report.warn("option-ignored", under(at, "recursive"), "volumes.bind.recursive: %s is dropped on the way into a Swarm, which knows enabled and disabled alone (write one of them)", b.Recursive)
	}
	return out
}

// tmpfs converts one entry of a service's tmpfs, PATH[:OPTION,…], to a mount. Of a
// tmpfs's options an engine has mode, size, ro and exec; noexec, nosuid and nodev
// hold for each tmpfs that it makes.
func (c *converter) tmpfs(written string, at []string) (mount.Mount, bool) {
	target, options, _ := strings.Cut(written, ":")
	m := mount.Mount{Type: mount.TypeTmpfs, Target: target}
	if !absoluteTarget(target) {
		c.report.fail("invalid-volume", at, "tmpfs is %q, which does not begin with an absolute path (write /PATH, or /PATH:OPTIONS)", written)
		return m, false
	}
	var o mount.TmpfsOptions
	for _, option := range strings.FieldsFunc(options, func(r rune) bool { return r == ',' }) {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "size":
			if strings.HasSuffix(value, "%") {
				c.report.warn("option-ignored", at, "the size of the tmpfs at %s is ignored in a Swarm, which counts in bytes: %s (write one such as 64m)", target, value)
				continue
			}
			size, err := units.RAMInBytes(value)
			if err != nil || size < 0 {
				c.report.fail("invalid-value", at, "the size of the tmpfs at %s is %q, which is none (write one such as 64m)", target, value)
			}
			o.SizeBytes = size
		case "mode":
			mode, err := parseMode(value)
			if err != nil {
				c.report.fail("invalid-value", at, "the mode of the tmpfs at %s: %v (write one)", target, err)
			}
			o.Mode = fileMode(mode)
		case "ro":
			m.ReadOnly = true
		case "rw":
			m.ReadOnly = false
		case "exec":
			o.Options = [][]string{{"exec"}}
		case "noexec":
			o.Options = nil
		case "nosuid", "nodev":
		default:
			c.report.warn("option-ignored", at, "the option %s of the tmpfs at %s is ignored in a Swarm, which knows size, mode, ro and exec (remove it)", option, target)
		}
	}
	if o.SizeBytes != 0 || o.Mode != 0 || o.Options != nil {
		m.TmpfsOptions = &o
	}
	return m, true
}

// namedVolume fills in a mount of a volume; one without a source is anonymous, and
// has options only where the service writes some.
func (c *converter) namedVolume(m *mount.Mount, v types.ServiceVolumeConfig, at []string) bool {
	if o := v.Volume; o != nil && (v.Source != "" || o.NoCopy || o.Subpath != "" || len(o.Labels) > 0) {
		m.VolumeOptions = &mount.VolumeOptions{NoCopy: o.NoCopy, Subpath: o.Subpath, Labels: o.Labels}
	}
	if v.Source == "" {
		if v.Volume != nil && v.Volume.Subpath != "" {
			c.report.fail("invalid-volume", at, "an anonymous volume is new and has no subpath %q (give it a source)", v.Volume.Subpath)
		}
		return true
	}
	if !c.declaredVolume(v.Source, at) {
		return false
	}
	declared := c.project.Volumes[v.Source]
	m.Source = c.volumeName(v.Source)
	if m.VolumeOptions == nil {
		m.VolumeOptions = &mount.VolumeOptions{}
	}
	if declared.External {
		return true
	}
	labels := maps.Clone(map[string]string(declared.Labels))
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, m.VolumeOptions.Labels)
	m.VolumeOptions.Labels = c.labelled(labels)
	if declared.Driver != "" || declared.DriverOpts != nil {
		m.VolumeOptions.DriverConfig = &mount.Driver{Name: declared.Driver, Options: declared.DriverOpts}
	}
	return true
}

func (c *converter) declaredVolume(key string, at []string) bool {
	if _, ok := c.project.Volumes[key]; !ok {
		c.report.fail("undefined-reference", at, "the service %s uses the volume %s, which the file does not declare (add it under volumes)", at[1], key)
		return false
	}
	return true
}

// volumeName is the name of a volume by its key.
func (c *converter) volumeName(key string) string {
	declared := c.project.Volumes[key]
	switch {
	case declared.Name != "":
		return declared.Name
	case bool(declared.External):
		return key
	}
	return c.scoped(key)
}

// checkClusterSpecs tells of cluster volumes, which neither docker stack deploy nor
// skep creates.
func (c *converter) checkClusterSpecs() {
	for _, key := range sortedKeys(c.project.Volumes) {
		if at := []string{"volumes", key}; c.report.writes(at, "x-cluster-spec") {
			c.report.warn("cluster-spec", under(at, "x-cluster-spec"), "x-cluster-spec is ignored: the cluster volume %s is not created, and a service that mounts it waits for it (create it with docker volume create --type, and write external: true and its name here)", c.volumeName(key))
		}
	}
}

// checkOptions refuses options that are another type's.
func (c *converter) checkOptions(v types.ServiceVolumeConfig, at []string) bool {
	allowed := map[string]string{"": "volume", "volume": "volume", "bind": "bind", "npipe": "bind", "tmpfs": "tmpfs", "image": "image"}[v.Type]
	for _, o := range []struct {
		name  string
		given bool
	}{{"bind", v.Bind != nil}, {"volume", v.Volume != nil}, {"tmpfs", v.Tmpfs != nil}, {"image", v.Image != nil}} {
		if o.given && o.name != allowed {
			c.report.fail("invalid-volume", at, "a volume of type %s has options of type %s (remove them)", v.Type, o.name)
			return false
		}
	}
	return true
}

// checkSource refuses a source where there can be none, and none where there must
// be one.
func (c *converter) checkSource(v types.ServiceVolumeConfig, at []string) bool {
	switch v.Type {
	case "tmpfs":
		if v.Source != "" {
			c.report.fail("invalid-volume", at, "a tmpfs has a source, and there is nothing it could come from (remove source)")
			return false
		}
	case "bind", "npipe", "image", "cluster":
		if v.Source == "" {
			c.report.fail("invalid-volume", at, "a volume of type %s has no source (write one)", v.Type)
			return false
		}
	}
	return true
}
