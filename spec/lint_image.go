package spec

import (
	"github.com/distribution/reference"
)

// image tells of images that are not the same tomorrow.
func (l *linter) image() {
	image := l.service.Spec.TaskTemplate.ContainerSpec.Image
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return // the conversion has the finding
	}
	if _, pinned := named.(reference.Digested); pinned {
		return
	}
	tagged, ok := named.(reference.Tagged)
	switch {
	case !ok:
		l.report.warn("image-untagged", under(l.at, "image"), "the image %s has no tag, which means latest: nobody can tell which version runs, or go back to it (write a version's tag)", image)
	case tagged.Tag() == "latest":
		l.report.warn("image-latest", under(l.at, "image"), "the image %s is latest: nobody can tell which version runs, or go back to it (write a version's tag)", image)
	}
}
