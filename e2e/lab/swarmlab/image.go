//go:build linux

package swarmlab

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/image"
	"golang.org/x/sync/errgroup"
)

// An Image is one that is made here, without a base and without a registry: the
// files it holds, and how it is started.
type Image struct {
	Ref        string // "nginx:latest"
	Files      []File
	Entrypoint []string
	Cmd        []string
	Env        []string
	User       string
	Labels     map[string]string
}

// A File is one file of an image; directories above it are made.
type File struct {
	Path   string      // absolute
	Mode   os.FileMode // with os.ModeDir a directory, with os.ModeSticky likewise
	Source string      // the file of this machine it is a copy of
	Data   []byte      // or what is in it
	Link   string      // or what it is a symbolic link to
}

// Web returns an image of the web application of e2e/apps, to be told by env how
// it is to fail. What a compose file sets wins over env.
func (l *Lab) Web(ctx context.Context, ref string, env ...string) (Image, error) {
	return l.program(ctx, ref, "web", env)
}

// Proxy returns an image of the reverse proxy of e2e/apps, which plays nginx.
func (l *Lab) Proxy(ctx context.Context, ref string, env ...string) (Image, error) {
	return l.program(ctx, ref, "proxy", env)
}

func (l *Lab) program(ctx context.Context, ref, name string, env []string) (Image, error) {
	bin, err := l.apps(ctx)
	if err != nil {
		return Image{}, err
	}
	return Image{
		Ref: ref,
		Files: []File{
			{Path: "/bin/apps", Mode: 0o755, Source: bin},
			{Path: "/bin/curl", Link: "apps"},
			{Path: "/bin/job", Link: "apps"},
			{Path: "/bin/proxy", Link: "apps"},
			{Path: "/bin/web", Link: "apps"},
			{Path: "/tmp", Mode: os.ModeDir | os.ModeSticky | 0o777},
		},
		Entrypoint: []string{"/bin/" + name},
		Env:        append([]string{"PATH=/bin"}, env...),
	}, nil
}

// SeedImages returns the images that the seed's compose files name: the web
// application at 1.0 and 2.0, both well, and the proxy in place of nginx.
func (l *Lab) SeedImages(ctx context.Context) ([]Image, error) {
	return l.webAndProxy(ctx, "nginx:latest", map[string][]string{
		"my-fastapi-app:1.0":          {"APP_VERSION=v1.0"},
		"masungil/my-fastapi-app:1.0": {"APP_VERSION=v1.0"},
		"masungil/my-fastapi-app:2.0": {"APP_VERSION=v2.0"},
	})
}

// ExampleImages returns the images that deploy/examples names.
func (l *Lab) ExampleImages(ctx context.Context) ([]Image, error) {
	return l.webAndProxy(ctx, "skep-example/proxy:1.0", map[string][]string{
		"skep-example/web:1.0":      {"APP_VERSION=v1.0"},
		"skep-example/web:2.0":      {"APP_VERSION=v2.0"},
		"skep-example/web:2.1-sick": {"APP_VERSION=v2.1-sick", "APP_SICK=1"},
	})
}

// webAndProxy returns an image of the proxy, and of the web application by name
// and environment.
func (l *Lab) webAndProxy(ctx context.Context, proxy string, web map[string][]string) ([]Image, error) {
	img, err := l.Proxy(ctx, proxy)
	if err != nil {
		return nil, err
	}
	all := []Image{img}
	for _, ref := range slices.Sorted(maps.Keys(web)) {
		if img, err = l.Web(ctx, ref, web[ref]...); err != nil {
			return nil, err
		}
		all = append(all, img)
	}
	return all, nil
}

// LoadImage puts the images into every node's engine. An image that has the name
// of one that is there takes the name from it.
func (l *Lab) LoadImage(ctx context.Context, images ...Image) error {
	all := make([]int, len(l.Nodes))
	for i := range all {
		all[i] = i
	}
	return l.LoadImageOn(ctx, all, images...)
}

// LoadImageOn puts the images into the engines of some nodes only, counted from 0.
func (l *Lab) LoadImageOn(ctx context.Context, nodes []int, images ...Image) error {
	archive, err := Archive(images...)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, i := range nodes {
		g.Go(func() error {
			if err := l.load(ctx, i, archive); err != nil {
				return fmt.Errorf("load images into %s: %w", l.Nodes[i].Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (l *Lab) load(ctx context.Context, i int, archive []byte) error {
	r, err := l.Client(i).ImageLoad(ctx, bytes.NewReader(archive))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	dec := json.NewDecoder(r.Body)
	for {
		var m struct {
			Error string `json:"error"`
		}
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if m.Error != "" {
			return errors.New(m.Error)
		}
	}
}

// RemoveImage removes an image from every node, where it is there.
func (l *Lab) RemoveImage(ctx context.Context, ref string) error {
	for i, n := range l.Nodes {
		if _, err := l.Client(i).ImageInspect(ctx, ref); err != nil {
			continue
		}
		if _, err := l.Client(i).ImageRemove(ctx, ref, image.RemoveOptions{Force: true}); err != nil {
			return fmt.Errorf("remove image %s from %s: %w", ref, n.Name, err)
		}
	}
	return nil
}

// Archive returns the images as `docker load` reads them. Equal images give equal
// bytes, and a layer that several have is in it once.
func Archive(images ...Image) ([]byte, error) {
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifest []entry
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	written := map[string]bool{}
	add := func(name string, data []byte) error {
		if written[name] {
			return nil
		}
		written[name] = true
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	fail := func(img Image, err error) ([]byte, error) { return nil, fmt.Errorf("make image %s: %w", img.Ref, err) }
	for _, img := range images {
		layer, err := img.layer()
		if err != nil {
			return fail(img, err)
		}
		config, err := img.config(layer)
		if err != nil {
			return fail(img, err)
		}
		e := entry{Config: digest(config) + ".json", RepoTags: []string{img.Ref}, Layers: []string{digest(layer) + "/layer.tar"}}
		manifest = append(manifest, e)
		if err := errors.Join(add(e.Config, config), add(e.Layers[0], layer)); err != nil {
			return fail(img, err)
		}
	}
	index, err := json.Marshal(manifest)
	if err != nil {
		return nil, fmt.Errorf("make images: %w", err)
	}
	if err := errors.Join(add("manifest.json", index), w.Close()); err != nil {
		return nil, fmt.Errorf("make images: %w", err)
	}
	return out.Bytes(), nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// config is the image's configuration, as the OCI image specification has it.
func (img Image) config(layer []byte) ([]byte, error) {
	return json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"created":      "1970-01-01T00:00:00Z",
		"config": map[string]any{
			"Entrypoint": img.Entrypoint,
			"Cmd":        img.Cmd,
			"Env":        img.Env,
			"User":       img.User,
			"Labels":     img.Labels,
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
	})
}

// layer is the image's one layer, a tar of its files in the order of their paths.
func (img Image) layer() ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	files := slices.Clone(img.Files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	dirs := map[string]bool{"/": true}
	for _, f := range files {
		if !path.IsAbs(f.Path) {
			return nil, fmt.Errorf("file %q: its path is not absolute", f.Path)
		}
		if err := addParents(w, f.Path, dirs); err != nil {
			return nil, err
		}
		if err := f.write(w); err != nil {
			return nil, fmt.Errorf("file %s: %w", f.Path, err)
		}
		dirs[f.Path] = f.Mode.IsDir()
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// addParents adds the directories above a file that have not been added yet.
func addParents(w *tar.Writer, file string, have map[string]bool) error {
	dir := path.Dir(file)
	if have[dir] {
		return nil
	}
	if err := addParents(w, dir, have); err != nil {
		return err
	}
	have[dir] = true
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: 0o755})
}

func (f File) write(w *tar.Writer) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(f.Path, "/"), Mode: int64(f.Mode.Perm())}
	switch {
	case f.Link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Link, 0o777
		return w.WriteHeader(h)
	case f.Mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		if f.Mode&os.ModeSticky != 0 {
			h.Mode |= 0o1000
		}
		return w.WriteHeader(h)
	}
	data := f.Data
	if f.Source != "" {
		var err error
		if data, err = os.ReadFile(f.Source); err != nil {
			return err
		}
	}
	h.Size = int64(len(data))
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// apps builds the programs of e2e/apps, once a lab, and returns the file.
func (l *Lab) apps(ctx context.Context) (string, error) {
	l.bin.Lock()
	defer l.bin.Unlock()
	if l.built == "" {
		file := filepath.Join(l.Dir, "apps")
		if err := Build(ctx, "github.com/skep-io/skep/e2e/apps", file); err != nil {
			return "", err
		}
		l.built = file
	}
	return l.built, nil
}

// Build builds a Go program of this module into file, static, so that it runs in
// an image that holds nothing else. The working directory is inside the module.
func Build(ctx context.Context, pkg, file string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	if _, err := output(cmd); err != nil {
		return fmt.Errorf("build %s: %w", pkg, err)
	}
	return nil
}
