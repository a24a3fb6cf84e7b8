package gitsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
)

// A remote is a repository elsewhere. It is asked, and never told anything.
type remote interface {
	// refs lists what there is.
	refs(ctx context.Context) (*packp.AdvRefs, error)
	// fetch begins to deliver a pack with what a request lacks.
	fetch(ctx context.Context, q request) (*delivery, error)
}

// A request is for a commit and what belongs to it.
type request struct {
	advertised *packp.AdvRefs
	want       plumbing.Hash
	haves      []plumbing.Hash // commits that are held in full
	shallows   []plumbing.Hash // commits that are held without their parents
	depth      int             // of history; 0: all that haves do not cover
	// has says whether an object is held already; a remote in the same machine asks.
	has func(plumbing.Hash) bool
}

// A delivery is the answer to a request.
type delivery struct {
	packp.ShallowUpdate
	pack  io.Reader
	close func() error // ends the connection; what the other side said at last
}

// maxRefs bounds what is read of a list of refs: some 300,000 of them.
const maxRefs = 32 << 20

// readRefs reads a list of refs, as version 0 of the protocol has it.
func readRefs(r io.Reader) (*packp.AdvRefs, error) {
	limited := &io.LimitedReader{R: r, N: maxRefs}
	adv := packp.NewAdvRefs()
	err := adv.Decode(limited)
	switch {
	case limited.N <= 0:
		return nil, tooLarge("the list of refs is longer than %d MiB", maxRefs>>20)
	case errors.Is(err, packp.ErrEmptyAdvRefs):
		return adv, nil
	case err != nil:
		return nil, fmt.Errorf("read the list of refs: %w", spoken(err))
	}
	return adv, nil
}

// sideBands are the ways to tell a pack from words, the best first.
var sideBands = []struct {
	capability capability.Capability
	kind       sideband.Type
}{{capability.Sideband64k, sideband.Sideband64k}, {capability.Sideband, sideband.Sideband}}

// encode is a request as version 0 of the protocol has it, with all haves at once: there
// are few, and none needs an answer.
func (q request) encode() ([]byte, error) {
	adv := q.advertised.Capabilities
	u := packp.NewUploadRequest()
	u.Wants = []plumbing.Hash{q.want}
	for _, c := range []capability.Capability{capability.OFSDelta, capability.NoProgress, capability.MultiACKDetailed} {
		if adv.Supports(c) {
			_ = u.Capabilities.Set(c) // fails for one that wants an argument; these do not
		}
	}
	for _, band := range sideBands {
		if adv.Supports(band.capability) {
			_ = u.Capabilities.Set(band.capability)
			break
		}
	}
	if adv.Supports(capability.Shallow) {
		_ = u.Capabilities.Set(capability.Shallow)
		u.Shallows, u.Depth = q.shallows, packp.DepthCommits(q.depth)
	}
	var out bytes.Buffer
	if err := u.Encode(&out); err != nil {
		return nil, fmt.Errorf("write a request: %w", err)
	}
	haves := packp.UploadHaves{Haves: q.haves}
	if err := haves.Encode(&out, false); err != nil {
		return nil, fmt.Errorf("write a request: %w", err)
	}
	if err := pktline.NewEncoder(&out).EncodeString("done\n"); err != nil {
		return nil, fmt.Errorf("write a request: %w", err)
	}
	return out.Bytes(), nil
}

// maxAnswer bounds what is read of an answer before the pack: where history ends, some
// 80,000 commits.
const maxAnswer = 4 << 20

// answer reads the answer to a request up to where the pack begins.
func (q request) answer(r io.Reader) (*delivery, error) {
	limited := &io.LimitedReader{R: r, N: maxAnswer}
	d, err := q.preamble(limited)
	if err != nil && limited.N <= 0 {
		return nil, tooLarge("what it answers before the pack is longer than %s", size(maxAnswer))
	}
	if err != nil {
		return nil, err
	}
	d.pack = r
	for _, band := range sideBands {
		if q.advertised.Capabilities.Supports(band.capability) {
			d.pack = packReader{sideband.NewDemuxer(band.kind, r)}
			break
		}
	}
	return d, nil
}

// preamble reads what comes before the pack, and not a byte more.
func (q request) preamble(r io.Reader) (*delivery, error) {
	d := &delivery{}
	if q.depth > 0 && q.advertised.Capabilities.Supports(capability.Shallow) {
		if err := d.ShallowUpdate.Decode(r); err != nil {
			return nil, fmt.Errorf("read what history is sent: %w", spoken(err))
		}
	}
	for lines := pktline.NewScanner(r); ; {
		if !lines.Scan() {
			err := lines.Err()
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("read the answer to a request: %w", spoken(err))
		}
		words := strings.Fields(string(lines.Bytes()))
		if len(words) == 1 && words[0] == "NAK" || len(words) == 2 && words[0] == "ACK" {
			return d, nil
		}
		if len(words) < 3 || words[0] != "ACK" { // ACK … common: the last one is yet to come
			return nil, errors.New("read the answer to a request: the server does not speak git's protocol")
		}
	}
}

// A packReader gives what the server says instead of a pack as an error that is bounded.
type packReader struct{ r io.Reader }

func (p packReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && err != io.EOF {
		err = spoken(err)
	}
	return n, err
}

// maxSpoken is how much is told of what a server said.
const maxSpoken = 300

// A spokenError is one whose words may be a server's: they are shown without what
// could steer a terminal, and not at length.
type spokenError struct{ err error }

func spoken(err error) error { return spokenError{err} }

func (e spokenError) Unwrap() error { return e.err }
func (e spokenError) Error() string { return clean(e.err.Error()) }

// clean is a line of text from elsewhere.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	if len(text) > maxSpoken {
		text = strings.ToValidUTF8(text[:maxSpoken], "") + "…"
	}
	return strings.TrimSpace(text)
}

// find is the object that a ref names: a branch, or else a tag, of that name, or what the
// remote itself is at.
func find(adv *packp.AdvRefs, ref string) (plumbing.Hash, bool) {
	names := []string{"refs/heads/" + ref, "refs/tags/" + ref}
	switch {
	case strings.HasPrefix(ref, "refs/"):
		names = []string{ref}
	case ref == "HEAD" && adv.Head != nil:
		return *adv.Head, true
	}
	for _, name := range names {
		if hash, ok := adv.References[name]; ok {
			return hash, true
		}
	}
	return plumbing.ZeroHash, false
}
