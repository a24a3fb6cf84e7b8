package cli

import (
	"cmp"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
)

// A bom is a software bill of materials in the format of CycloneDX 1.5, with as much
// as the toolchain leaves in a binary: every module that is in it, with its version
// and checksum. It has no time and no serial number, so that the same binary always
// tells the same.
type bom struct {
	Format     string         `json:"bomFormat"`
	Spec       string         `json:"specVersion"`
	Version    int            `json:"version"`
	Metadata   bomMetadata    `json:"metadata"`
	Components []bomComponent `json:"components"`
}

type bomMetadata struct {
	Component bomComponent `json:"component"`
}

type bomComponent struct {
	Type       string        `json:"type"`
	Ref        string        `json:"bom-ref"`
	Name       string        `json:"name"`
	Version    string        `json:"version"`
	PURL       string        `json:"purl"`
	Licenses   []bomLicense  `json:"licenses,omitempty"`
	Properties []bomProperty `json:"properties,omitempty"`
}

type bomLicense struct {
	License struct {
		ID string `json:"id"`
	} `json:"license"`
}

type bomProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// toldSettings are the build's settings that say what was built and of what.
var toldSettings = []string{"CGO_ENABLED", "GOARCH", "GOOS", "GOFIPS140", "vcs.modified", "vcs.revision", "vcs.time"}

// materials lists what a binary was made of; version is its own.
func materials(info *debug.BuildInfo, version string) bom {
	self := component("application", info.Main.Path, version)
	self.Licenses = make([]bomLicense, 1)
	self.Licenses[0].License.ID = "Apache-2.0"
	for _, s := range info.Settings {
		if slices.Contains(toldSettings, s.Key) {
			self.Properties = append(self.Properties, bomProperty{"go:build:" + s.Key, s.Value})
		}
	}
	slices.SortFunc(self.Properties, func(a, b bomProperty) int { return strings.Compare(a.Name, b.Name) })
	b := bom{Format: "CycloneDX", Spec: "1.5", Version: 1, Metadata: bomMetadata{self}}
	// The standard library and the toolchain are one thing with one version.
	b.Components = append(b.Components, component("library", "std", strings.TrimPrefix(info.GoVersion, "go")))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := component("library", m.Path, m.Version)
		if m.Sum != "" {
			c.Properties = []bomProperty{{"go:sum", m.Sum}}
		}
		b.Components = append(b.Components, c)
	}
	slices.SortFunc(b.Components, func(x, y bomComponent) int { return strings.Compare(x.Ref, y.Ref) })
	return b
}

func component(kind, path, version string) bomComponent {
	purl := packageURL(path, version)
	return bomComponent{Type: kind, Ref: purl, Name: path, Version: version, PURL: purl}
}

// packageURL names a module as scanners of vulnerabilities know it
// (https://github.com/package-url/purl-spec, type golang).
func packageURL(path, version string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	purl := "pkg:golang/" + strings.Join(segments, "/")
	if version != "" {
		purl += "@" + strings.ReplaceAll(url.PathEscape(version), "+", "%2B")
	}
	return purl
}

// printMaterials writes the bill of this binary, or of the skep in a file: one for
// another platform cannot tell its own here.
func printMaterials(out io.Writer, file string) error {
	info, version, err := readBuild(file)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	if err := enc.Encode(materials(info, version)); err != nil {
		return fmt.Errorf("list what this binary is made of: %w", err)
	}
	return nil
}

// readBuild reads what the toolchain left in a binary, and its version. A version that
// the linker set stands in no other place than this binary's own memory: one in a file
// is taken to be of the same.
func readBuild(file string) (*debug.BuildInfo, string, error) {
	if file == "" {
		info, ok := debug.ReadBuildInfo()
		if !ok {
			return nil, "", errors.New("list what this binary is made of: the toolchain left nothing about it in it (build it with modules)")
		}
		return info, buildVersion().Version, nil
	}
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return nil, "", fmt.Errorf("list what a binary is made of: %w", err)
	}
	if info.Main.Path != module {
		return nil, "", fmt.Errorf("list what %s is made of: it is %s, not %s", file, cmp.Or(info.Main.Path, "a binary without modules"), module)
	}
	return info, cmp.Or(release, info.Main.Version), nil
}

const module = "github.com/skep-io/skep"
