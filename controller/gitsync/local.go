package gitsync

import (
	"bufio"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// A localRemote is a repository in a directory. It is read as it lies there: no git
// program runs.
type localRemote struct {
	at      address
	storage *filesystem.Storage
}

func newLocalRemote(at address) (*localRemote, error) {
	dir := filepath.Clean(at.path)
	if info, err := os.Stat(filepath.Join(dir, ".git")); err == nil && info.IsDir() {
		dir = filepath.Join(dir, ".git")
	}
	for _, name := range []string{"HEAD", "objects"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("%s is no git repository: %w", at, err)
		}
	}
	return &localRemote{at, openStorage(dir)}, nil
}

func (l *localRemote) refs(context.Context) (*packp.AdvRefs, error) {
	adv := packp.NewAdvRefs()
	_ = adv.Capabilities.Set(capability.Shallow) // fails for one that wants an argument
	refs, err := l.storage.IterReferences()
	if err != nil {
		return nil, fmt.Errorf("read the refs of %s: %w", l.at, err)
	}
	err = refs.ForEach(func(r *plumbing.Reference) error {
		to, err := storer.ResolveReference(l.storage, r.Name())
		if err != nil {
			return nil // a symbolic ref to nothing is none
		}
		hash := to.Hash()
		if adv.References[r.Name().String()] = hash; r.Name() == plumbing.HEAD {
			adv.Head = &hash
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the refs of %s: %w", l.at, err)
	}
	return adv, nil
}

func (l *localRemote) fetch(ctx context.Context, q request) (*delivery, error) {
	p := &packing{ctx: ctx, from: l.storage, q: q, listed: map[plumbing.Hash]bool{}, depth: map[plumbing.Hash]int{}}
	if err := p.list(); err != nil {
		return nil, fmt.Errorf("read %s: %w", l.at, err)
	}
	d := p.deliver()
	d.ShallowUpdate = p.update
	return d, nil
}

// deliver makes the pack while it is read.
func (p *packing) deliver() *delivery {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil { // of the git library, about a repository that is damaged, or half copied
				w.CloseWithError(fmt.Errorf("the repository cannot be read: %v", v))
			}
		}()
		w.CloseWithError(p.write(w))
	}()
	return &delivery{pack: r, close: func() error {
		r.Close()
		<-done
		return nil
	}}
}

func (l *localRemote) secrets() []string { return nil }
func (l *localRemote) end()              {}

// A packing finds the objects that a request lacks, and puts them into a pack as they
// are, without deltas.
type packing struct {
	ctx     context.Context
	from    *filesystem.Storage
	q       request
	objects []plumbing.Hash
	listed  map[plumbing.Hash]bool
	depth   map[plumbing.Hash]int // of commits that were seen
	update  packp.ShallowUpdate
	deflate *zlib.Writer
}

// list goes through history, the nearest commits first, and through their trees.
func (p *packing) list() error {
	commit, err := peel(p.from, p.q.want, p.add)
	if err != nil {
		return err
	}
	shallow := map[plumbing.Hash]bool{}
	for _, hash := range p.q.shallows {
		shallow[hash] = true
	}
	held := map[plumbing.Hash]bool{}
	for _, hash := range p.q.haves {
		held[hash] = true
	}
	p.depth[commit] = 1
	for next := []plumbing.Hash{commit}; len(next) > 0; next = next[1:] {
		at := next[0]
		if held[at] && p.q.depth == 0 {
			continue // and all that it descends from
		}
		tree, parents, err := readCommit(p.from, at)
		if err != nil {
			return err
		}
		if err := p.add(at); err != nil {
			return err
		}
		if !p.q.has(at) {
			if err := p.addTree(tree); err != nil {
				return err
			}
		}
		if p.depth[at] == p.q.depth {
			if len(parents) > 0 {
				p.update.Shallows = append(p.update.Shallows, at)
			}
			continue
		}
		if shallow[at] {
			p.update.Unshallows = append(p.update.Unshallows, at)
		}
		for _, parent := range parents {
			if p.depth[parent] == 0 {
				p.depth[parent] = p.depth[at] + 1
				next = append(next, parent)
			}
		}
	}
	return nil
}

// add lists an object, unless it is held or listed.
func (p *packing) add(hash plumbing.Hash) error {
	if p.listed[hash] || p.q.has(hash) {
		return nil
	}
	if len(p.objects) == maxObjects {
		return tooLarge("it has more than %d objects", maxObjects)
	}
	p.listed[hash] = true
	p.objects = append(p.objects, hash)
	return nil
}

func (p *packing) addTree(tree plumbing.Hash) error {
	if p.listed[tree] || p.q.has(tree) {
		return nil
	}
	if err := p.ctx.Err(); err != nil {
		return err
	}
	entries, err := readTree(p.from, tree)
	if err != nil {
		return err
	}
	if err := p.add(tree); err != nil {
		return err
	}
	for _, e := range entries {
		switch e.kind {
		case kindDir:
			err = p.addTree(e.hash)
		case kindSubmodule:
		default:
			err = p.add(e.hash)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// write makes the pack.
func (p *packing) write(w io.Writer) error {
	var err error
	if p.deflate, err = zlib.NewWriterLevel(w, zlib.BestSpeed); err != nil {
		return err
	}
	sum := sha1.New()
	buffered := bufio.NewWriterSize(w, 64<<10)
	out := io.MultiWriter(buffered, sum)
	head := binary.BigEndian.AppendUint32([]byte("PACK"), packVersion)
	if _, err := out.Write(binary.BigEndian.AppendUint32(head, uint32(len(p.objects)))); err != nil {
		return err
	}
	for _, hash := range p.objects {
		if err := p.writeOne(out, hash); err != nil {
			return fmt.Errorf("read %s: %w", hash, err)
		}
	}
	if _, err := buffered.Write(sum.Sum(nil)); err != nil {
		return err
	}
	return buffered.Flush()
}

const packVersion = 2

func (p *packing) writeOne(out io.Writer, hash plumbing.Hash) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	o, err := p.from.EncodedObject(plumbing.AnyObject, hash)
	if err != nil {
		return err
	}
	r, err := o.Reader()
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := out.Write(entryHead(o.Type(), o.Size())); err != nil {
		return err
	}
	p.deflate.Reset(out)
	if _, err := io.Copy(p.deflate, r); err != nil {
		return err
	}
	return p.deflate.Close()
}

// entryHead is how an object in a pack begins: its kind, and its size in groups of bits.
func entryHead(kind plumbing.ObjectType, size int64) []byte {
	b := byte(kind)<<4 | byte(size&0xf)
	var head []byte
	for size >>= 4; size > 0; size >>= 7 {
		head = append(head, b|0x80)
		b = byte(size & 0x7f)
	}
	return append(head, b)
}
