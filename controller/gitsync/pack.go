package gitsync

import (
	"bufio"
	"container/list"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// A pack is indexed here, and not by the git library, which holds each of its objects
// in memory, and does not bound what a few bytes may become.

const (
	// maxObjects is how many objects a pack may have: as many take some 150 MB.
	maxObjects = 1 << 20
	// maxInflation is how many times its own size a pack may come to when it is read.
	maxInflation = 64
	// minInflated is what any pack may come to.
	minInflated = 1 << 30
	// maxChain is how many deltas may lie upon each other; git makes at most 4095.
	maxChain = 4095
	// maxInMemory is the size of the largest object that is held in memory; a larger one
	// lies in a file while it is a delta's base.
	maxInMemory = 4 << 20
	// maxCached is how much is held of objects that further deltas may be upon, and
	// fileCost what a file counts in this.
	maxCached = 16 << 20
	fileCost  = 512 << 10
)

// errMalformed is what is wrong with a pack that git would not have made.
var errMalformed = errors.New("the pack is damaged")

// A packEntry is an object in a pack. Of a delta, size is that of what it makes.
type packEntry struct {
	offset int64
	size   int64
	hash   plumbing.Hash
	crc    uint32
	base   int32 // the entry that a delta is upon, byHash, or whole
	kind   plumbing.ObjectType
	parent bool // deltas are upon it
}

const (
	whole  int32 = -1
	byHash int32 = -2 // its base is named by its hash
)

// An indexer finds out what a pack holds.
type indexer struct {
	ctx      context.Context
	scanner  *packfile.Scanner
	scratch  string // a directory for files
	entries  []packEntry
	refs     map[int32]plumbing.Hash // bases of those byHash
	left     int64                   // bytes that may still be inflated
	cached   map[int32]*list.Element
	recent   *list.List // of cachedBody, the newest in front
	size     int64      // of what is cached
	checksum plumbing.Hash
}

type cachedBody struct {
	entry int32
	*body
}

// indexPack reads the pack in f, and returns its index; nil for a pack without objects.
// Memory is bounded however large the pack is, scratch holds what is larger.
func indexPack(ctx context.Context, f *os.File, scratch string) (*idxfile.MemoryIndex, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	x := &indexer{
		ctx: ctx, scanner: packfile.NewScanner(f), scratch: scratch,
		refs: map[int32]plumbing.Hash{}, left: max(info.Size()*maxInflation, minInflated),
		cached: map[int32]*list.Element{}, recent: list.New(),
	}
	defer x.drop(0)
	if err := x.scan(); err != nil || len(x.entries) == 0 {
		return nil, err
	}
	if err := x.resolve(); err != nil {
		return nil, err
	}
	w := &idxfile.Writer{}
	_ = w.OnHeader(uint32(len(x.entries)))
	for _, e := range x.entries {
		w.Add(e.hash, uint64(e.offset), e.crc)
	}
	if err := w.OnFooter(x.checksum); err != nil {
		return nil, err
	}
	return w.Index()
}

// scan finds all entries, and the hashes of those that are whole.
func (x *indexer) scan() error {
	_, count, err := x.scanner.Header()
	if errors.Is(err, packfile.ErrEmptyPackfile) || err == nil && count == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	if count > maxObjects {
		return tooLarge("it has %d objects, and %d is the limit", count, maxObjects)
	}
	for range count {
		if err := x.scanOne(); err != nil {
			return err
		}
	}
	if x.checksum, err = x.scanner.Checksum(); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	return nil
}

func (x *indexer) scanOne() error {
	if err := x.ctx.Err(); err != nil {
		return err
	}
	h, err := x.scanner.NextObjectHeader()
	if err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	if err := errors.Join(x.take(h.Length), tooWordy(h.Type, h.Length)); err != nil {
		return err
	}
	e := packEntry{offset: h.Offset, size: h.Length, kind: h.Type, base: whole}
	hasher := plumbing.NewHasher(h.Type, h.Length)
	var head deltaHead
	sink := io.Writer(hasher)
	switch h.Type {
	case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
	case plumbing.OFSDeltaObject:
		i, ok := slices.BinarySearchFunc(x.entries, h.OffsetReference, func(e packEntry, at int64) int { return int(e.offset - at) })
		if !ok {
			return fmt.Errorf("%w: a delta is upon nothing", errMalformed)
		}
		e.base, sink = int32(i), &head
		x.entries[i].parent = true
	case plumbing.REFDeltaObject:
		e.base, sink = byHash, &head
		x.refs[int32(len(x.entries))] = h.Reference
	default:
		return fmt.Errorf("%w: it has an object of an unknown kind", errMalformed)
	}
	n, crc, err := x.scanner.NextObject(stoppable{x.ctx, sink})
	if err != nil || n != h.Length {
		return fmt.Errorf("%w: an object is cut off: %w", errMalformed, errors.Join(err, x.ctx.Err()))
	}
	e.crc = crc
	if e.base == whole {
		e.hash = hasher.Sum()
	} else if e.size, err = head.target(); err != nil {
		return err
	}
	x.entries = append(x.entries, e)
	return nil
}

// tooWordy refuses commits and tags that nobody writes: whoever compares history reads
// each of them as a whole.
func tooWordy(kind plumbing.ObjectType, n int64) error {
	if (kind == plumbing.CommitObject || kind == plumbing.TagObject) && n > maxMeta {
		return tooLarge("a %s has %s, and %s is the limit", kind, size(n), size(maxMeta))
	}
	return nil
}

// take counts bytes that are inflated.
func (x *indexer) take(n int64) error {
	if x.left -= n; n < 0 || x.left < 0 {
		return tooLarge("it comes to much more than its size when it is unpacked")
	}
	return nil
}

// resolve finds the hashes of what deltas make. One whose base is named by its hash has
// to wait until that is known; git makes few of these, so a few rounds do.
func (x *indexer) resolve() error {
	pending := 0
	for i := range x.entries {
		if x.entries[i].base != whole {
			pending++
		}
	}
	for pending > 0 {
		before := pending
		x.name()
		for i := range int32(len(x.entries)) {
			e := &x.entries[i]
			if !e.hash.IsZero() || e.base == byHash {
				continue
			}
			done, err := x.resolveOne(i)
			if err != nil {
				return err
			}
			if done {
				pending--
			}
		}
		if pending == before {
			return fmt.Errorf("%w: a delta is upon something that it does not have", errMalformed)
		}
	}
	return nil
}

// name looks up bases that are named by their hashes.
func (x *indexer) name() {
	if len(x.refs) == 0 {
		return
	}
	known := make(map[plumbing.Hash]int32, len(x.entries))
	for i, e := range x.entries {
		if !e.hash.IsZero() {
			known[e.hash] = int32(i)
		}
	}
	for i, hash := range x.refs {
		if base, ok := known[hash]; ok {
			x.entries[i].base, x.entries[base].parent = base, true
			delete(x.refs, i)
		}
	}
}

// resolveOne finds the hash of what a delta makes, unless one below it has to wait.
func (x *indexer) resolveOne(i int32) (done bool, err error) {
	chain := []int32{i} // to what is whole, or cached
	for {
		at := chain[len(chain)-1]
		base := x.entries[at].base
		if base == byHash {
			return false, nil
		}
		if base == whole || x.cached[at] != nil {
			break
		}
		if len(chain) > maxChain {
			return false, fmt.Errorf("%w: too many deltas lie upon each other", errMalformed)
		}
		chain = append(chain, base)
	}
	if err := x.ctx.Err(); err != nil {
		return false, err
	}
	b, err := x.whole(chain[len(chain)-1])
	if err != nil {
		return false, err
	}
	for _, at := range slices.Backward(chain[:len(chain)-1]) {
		kind := x.entries[chain[len(chain)-1]].kind
		b, err = x.apply(at, b, kind)
		if err != nil {
			return false, err
		}
	}
	if x.cached[i] == nil {
		b.close()
	}
	return true, nil
}

// whole is an entry's content: cached, or read.
func (x *indexer) whole(i int32) (*body, error) {
	if el := x.cached[i]; el != nil {
		x.recent.MoveToFront(el)
		return el.Value.(cachedBody).body, nil
	}
	e := x.entries[i]
	if err := x.take(e.size); err != nil {
		return nil, err
	}
	b, err := newBody(e.size, x.scratch)
	if err != nil {
		return nil, err
	}
	if _, err = x.scanner.SeekObjectHeader(e.offset); err == nil {
		_, _, err = x.scanner.NextObject(stoppable{x.ctx, b})
	}
	if err != nil {
		b.close()
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	x.keep(i, b)
	return b, nil
}

// apply makes an entry's content of its base's, and finds its hash. The base is closed
// unless it is cached.
func (x *indexer) apply(i int32, base *body, kind plumbing.ObjectType) (*body, error) {
	e := &x.entries[i]
	defer func() {
		if x.cached[e.base] == nil {
			base.close()
		}
	}()
	if err := errors.Join(x.take(e.size), tooWordy(kind, e.size)); err != nil {
		return nil, err
	}
	if _, err := x.scanner.SeekObjectHeader(e.offset); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	delta, err := x.scanner.ReadObject()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	defer delta.Close()
	b, err := newBody(e.size, x.scratch)
	if err != nil {
		return nil, err
	}
	hasher := plumbing.NewHasher(kind, e.size)
	if err := patch(bufio.NewReader(delta), base, e.size, stoppable{x.ctx, io.MultiWriter(hasher, b)}); err != nil {
		b.close()
		return nil, err
	}
	e.hash, e.kind = hasher.Sum(), kind
	x.keep(i, b)
	return b, nil
}

// keep caches what more deltas are upon.
func (x *indexer) keep(i int32, b *body) {
	if !x.entries[i].parent {
		return
	}
	x.cached[i] = x.recent.PushFront(cachedBody{i, b})
	x.size += b.cost()
	x.drop(1)
}

// drop lets go of what was not used for longest, while too much is cached, but for the
// newest so many; with 0, of everything.
func (x *indexer) drop(least int) {
	for x.recent.Len() > least && (least == 0 || x.size > maxCached) {
		el := x.recent.Back()
		c := x.recent.Remove(el).(cachedBody)
		delete(x.cached, c.entry)
		x.size -= c.cost()
		c.close()
	}
}

// A body is an object's content, in memory, or in a file without a name.
type body struct {
	size int64
	mem  []byte
	file *os.File
}

func newBody(size int64, scratch string) (*body, error) {
	if size <= maxInMemory {
		return &body{size: size, mem: make([]byte, 0, size)}, nil
	}
	f, err := os.CreateTemp(scratch, tempPrefix)
	if err != nil {
		return nil, diskError(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, diskError(err)
	}
	return &body{size: size, file: f}, nil
}

func (b *body) Write(p []byte) (int, error) {
	if b.file != nil {
		return diskWriter{b.file}.Write(p)
	}
	b.mem = append(b.mem, p...)
	return len(p), nil
}

// copyTo writes n bytes from an offset on.
func (b *body) copyTo(w io.Writer, off, n int64) error {
	if off < 0 || n < 0 || off > b.size-n {
		return fmt.Errorf("%w: a delta reaches beyond its base", errMalformed)
	}
	if b.file == nil {
		_, err := w.Write(b.mem[off : off+n])
		return err
	}
	_, err := io.Copy(w, io.NewSectionReader(b.file, off, n))
	return err
}

func (b *body) cost() int64 {
	if b.file != nil {
		return fileCost
	}
	return b.size
}

func (b *body) close() {
	if b.file != nil {
		b.file.Close()
	}
}

// A deltaHead keeps the beginning of a delta, which tells two sizes.
type deltaHead struct {
	text [2 * binary.MaxVarintLen64]byte
	n    int
}

func (h *deltaHead) Write(p []byte) (int, error) {
	h.n += copy(h.text[h.n:], p)
	return len(p), nil
}

// target is the size of what the delta makes.
func (h *deltaHead) target() (int64, error) {
	text := h.text[:h.n]
	for i := range 2 {
		size, n := binary.Uvarint(text)
		if n <= 0 || int64(size) < 0 {
			break
		}
		if i == 1 {
			return int64(size), nil
		}
		text = text[n:]
	}
	return 0, fmt.Errorf("%w: a delta does not begin as one", errMalformed)
}

// patch writes what a delta makes of its base, which has to be so many bytes.
func patch(delta *bufio.Reader, base *body, target int64, w io.Writer) error {
	cut := func(err error) error { return fmt.Errorf("%w: a delta is cut off: %w", errMalformed, err) }
	was, err := binary.ReadUvarint(delta)
	if err != nil {
		return cut(err)
	}
	if _, err := binary.ReadUvarint(delta); err != nil {
		return cut(err)
	}
	if int64(was) != base.size {
		return fmt.Errorf("%w: a delta is upon something else", errMalformed)
	}
	for left := target; ; {
		op, err := delta.ReadByte()
		if err == io.EOF && left == 0 {
			return nil
		}
		if err != nil {
			return cut(err)
		}
		off, n, err := copyArgs(op, delta)
		if err != nil {
			return cut(err)
		}
		if left -= n; left < 0 {
			return fmt.Errorf("%w: a delta makes more than it says", errMalformed)
		}
		switch {
		case op&0x80 != 0:
			err = base.copyTo(w, off, n)
		case op == 0:
			err = fmt.Errorf("%w: a delta has an unknown part", errMalformed)
		default:
			if _, err = io.CopyN(w, delta, n); err == io.EOF {
				err = cut(err)
			}
		}
		if err != nil {
			return err
		}
	}
}

// copyArgs reads what an operation of a delta is about: how many bytes, and from where.
func copyArgs(op byte, delta io.ByteReader) (off, n int64, err error) {
	if op&0x80 == 0 {
		return 0, int64(op), nil
	}
	for bit := range 7 {
		if op&(1<<bit) == 0 {
			continue
		}
		b, err := delta.ReadByte()
		if err != nil {
			return 0, 0, err
		}
		if bit < 4 {
			off |= int64(b) << (8 * bit)
		} else {
			n |= int64(b) << (8 * (bit - 4))
		}
	}
	if n == 0 {
		n = 0x10000
	}
	return off, n, nil
}

// A stoppable ends writing with its context.
type stoppable struct {
	ctx context.Context
	w   io.Writer
}

func (s stoppable) Write(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.w.Write(p)
}
