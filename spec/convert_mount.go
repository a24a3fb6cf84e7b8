package spec

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/format"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/docker/api/types/mount"
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
// as they are written.
func (c *converter) mounts(value any, at []string) []mount.Mount {
	list, _ := value.([]any)
	var out []mount.Mount
	targets := map[string]bool{}
	for i, element := range list {
		where := under(at, strconv.Itoa(i))
		volume, err := parseVolume(element)
		if err != nil {
			c.report.fail("invalid-volume", where, "%v (write SOURCE:TARGET, or the long form)", err)
			continue
		}
		m, ok := c.mount(volume, where)
		if !ok {
			continue
		}
		if targets[m.Target] {
			c.report.fail("duplicate-target", where, "two volumes of the service have the same target %s, which an engine refuses (remove one)", m.Target)
		}
		targets[m.Target] = true
		out = append(out, m)
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
		err := loader.Transform(clone(v), &volume)
		return volume, err
	}
	return volume, fmt.Errorf("a volume is neither text nor a mapping")
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
		if v.Bind != nil {
			m.BindOptions = &mount.BindOptions{Propagation: mount.Propagation(v.Bind.Propagation)}
		}
	case "tmpfs":
		if v.Tmpfs != nil {
			m.TmpfsOptions = &mount.TmpfsOptions{SizeBytes: int64(v.Tmpfs.Size)}
		}
	case "image":
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

// namedVolume fills in a mount of a volume; one without a source is anonymous.
func (c *converter) namedVolume(m *mount.Mount, v types.ServiceVolumeConfig, at []string) bool {
	if v.Source == "" {
		return true
	}
	if !c.declaredVolume(v.Source, at) {
		return false
	}
	declared := c.project.Volumes[v.Source]
	m.Source = c.volumeName(v.Source)
	m.VolumeOptions = &mount.VolumeOptions{}
	if v.Volume != nil {
		m.VolumeOptions.NoCopy, m.VolumeOptions.Subpath = v.Volume.NoCopy, v.Volume.Subpath
	}
	if declared.External {
		return true
	}
	m.VolumeOptions.Labels = c.labelled(declared.Labels)
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
