package gitsync

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"compress/zlib"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"pgregory.net/rapid"
)

// indexed indexes a pack that is in memory.
func indexed(t testing.TB, pack []byte) (*idxfile.MemoryIndex, error) {
	t.Helper()
	f, err := os.Open(writeFile(t, filepath.Join(t.TempDir(), "p"), string(pack)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return indexPack(t.Context(), f, t.TempDir())
}

// noise is a text that does not compress.
func noise(seed uint64, n int) []byte {
	rnd := rand.New(rand.NewPCG(seed, 0))
	out := make([]byte, 0, n+8)
	for len(out) < n {
		out = binary.LittleEndian.AppendUint64(out, rnd.Uint64())
	}
	return out[:n]
}

// The index of a pack that git made is the one that git makes of it, to the byte: with
// deltas upon deltas, by place and by hash, in memory and in files.
func TestIndexIsGits(t *testing.T) {
	r := newRepo(t)
	big := noise(1, maxInMemory+100)
	for i := range 6 {
		copy(big[i*1000:], fmt.Sprint("version ", i))
		r.commit(fmt.Sprint(i), map[string]string{
			"big": string(big), "web.yml": strings.Repeat(stack("nginx"), 50) + fmt.Sprint("# ", i), "same": "x",
		})
	}
	for name, args := range map[string][]string{
		"deltas by place": {"--delta-base-offset"}, "deltas by hash": {}, "no deltas": {"--window=0"}, "long chains": {"--delta-base-offset", "--depth=4095", "--window=50"},
	} {
		t.Run(name, func(t *testing.T) {
			base := filepath.Join(t.TempDir(), "p")
			gitIn(t, r.dir, []byte("HEAD\n"), append([]string{"pack-objects", "--revs", "-q", "--no-reuse-delta", base}, args...)...)
			packs, _ := filepath.Glob(base + "*.pack")
			f, err := os.Open(packs[0])
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			index, err := indexPack(t.Context(), f, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if _, err := idxfile.NewEncoder(&got).Encode(index); err != nil {
				t.Fatal(err)
			}
			if want := readFile(t, strings.TrimSuffix(packs[0], ".pack")+".idx"); got.String() != want {
				t.Error("the index is not git's")
			}
		})
	}
}

// packOf is a pack of raw entries: the head of each, and what is deflated.
func packOf(entries ...[2][]byte) []byte {
	out := binary.BigEndian.AppendUint32([]byte("PACK"), packVersion)
	out = binary.BigEndian.AppendUint32(out, uint32(len(entries)))
	for _, e := range entries {
		out = append(out, e[0]...)
		var z bytes.Buffer
		w := zlib.NewWriter(&z)
		_, _ = w.Write(e[1])
		w.Close()
		out = append(out, z.Bytes()...)
	}
	sum := sha1.Sum(out)
	return append(out, sum[:]...)
}

func entryOf(kind plumbing.ObjectType, text []byte) [2][]byte {
	return [2][]byte{entryHead(kind, int64(len(text))), text}
}

// deltaOf is a delta upon the entry so many bytes before.
func deltaOf(back byte, delta []byte) [2][]byte {
	return [2][]byte{append(entryHead(plumbing.OFSDeltaObject, int64(len(delta))), back), delta}
}

// Packs that git would not make are errors, and none takes the memory that it asks for.
func TestHostilePacks(t *testing.T) {
	base := entryOf(plumbing.BlobObject, []byte("0123456789"))
	back := byte(len(packOf(base)) - 12 - 20)
	varint := func(n uint64) []byte { return binary.AppendUvarint(nil, n) }
	delta := func(from, to uint64, ops ...byte) []byte { return append(append(varint(from), varint(to)...), ops...) }
	good := packOf(base, deltaOf(back, delta(10, 5, 0x91, 2, 3, 2, 'x', 'y')))
	index, err := indexed(t, good)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := index.Contains(plumbing.ComputeHash(plumbing.BlobObject, []byte("234xy"))); !ok || err != nil {
		t.Errorf("what the delta makes is not there (%v)", err)
	}
	for name, test := range map[string]struct {
		pack  []byte
		large bool
	}{
		"not a pack":                     {[]byte("hello, this is dog"), false},
		"cut off":                        {good[:len(good)-30], false},
		"another sum":                    {append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), false},
		"more than it says":              {packOf([2][]byte{entryHead(plumbing.BlobObject, 3), []byte("four")}), false},
		"less than it says":              {packOf([2][]byte{entryHead(plumbing.BlobObject, 5), []byte("four")}), false},
		"no kind":                        {packOf([2][]byte{{5<<4 | 1}, []byte("x")}), false},
		"delta upon nothing":             {packOf(base, deltaOf(back-1, delta(10, 1, 1, 'x'))), false},
		"delta upon itself":              {packOf(base, deltaOf(0, delta(10, 1, 1, 'x'))), false},
		"delta upon a stranger":          {packOf([2][]byte{append(entryHead(plumbing.REFDeltaObject, 4), bytes.Repeat([]byte{7}, 20)...), delta(10, 1, 1, 'x')}), false},
		"delta of other size":            {packOf(base, deltaOf(back, delta(11, 1, 1, 'x'))), false},
		"delta beyond base":              {packOf(base, deltaOf(back, delta(10, 5, 0x91, 8, 5))), false},
		"delta makes more":               {packOf(base, deltaOf(back, delta(10, 1, 2, 'x', 'y'))), false},
		"delta makes less":               {packOf(base, deltaOf(back, delta(10, 3, 2, 'x', 'y'))), false},
		"delta without an op":            {packOf(base, deltaOf(back, delta(10, 3, 0))), false},
		"delta is cut off":               {packOf(base, deltaOf(back, delta(10, 3, 3, 'x'))), false},
		"delta is nothing":               {packOf(base, deltaOf(back, nil)), false},
		"delta makes worlds":             {packOf(base, deltaOf(back, delta(10, 1<<50, 1, 'x'))), true},
		"delta makes less than nothing":  {packOf(base, deltaOf(back, delta(10, 1<<63, 1, 'x'))), false},
		"a world in a head":              {packOf([2][]byte{entryHead(plumbing.BlobObject, 1<<50), []byte("x")}), true},
		"a commit of a world":            {packOf(entryOf(plumbing.CommitObject, make([]byte, maxMeta+1))), true},
		"a tag of a world":               {packOf(entryOf(plumbing.TagObject, make([]byte, maxMeta+1))), true},
		"a commit that a delta makes so": {packOf(entryOf(plumbing.CommitObject, []byte("0123456789")), deltaOf(back, delta(10, maxMeta+1, 0x91, 2, 3))), true},
		"many objects":                   {append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte("PACK"), 2), 1<<31), make([]byte, 30)...), true},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			index, err := indexed(t, test.pack)
			runtime.ReadMemStats(&after)
			if err == nil || index != nil {
				t.Fatal("it was taken")
			}
			if large := reasonOf(err) == GitTooLarge; large != test.large || !large && !errors.Is(err, errMalformed) {
				t.Errorf("the error is %v", err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
				t.Errorf("%d bytes were allocated", used)
			}
		})
	}
}

// Whatever git makes of texts, each of its objects is in the index under its own hash.
func TestIndexOfAnyPack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		base := rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(rt, "base")
		n := rapid.IntRange(1, 200).Draw(rt, "n")
		var want []byte
		delta := binary.AppendUvarint(nil, uint64(len(base)))
		var ops []byte
		for range n {
			if rapid.Bool().Draw(rt, "copy") {
				off := rapid.IntRange(0, len(base)-1).Draw(rt, "off")
				size := rapid.IntRange(1, len(base)-off).Draw(rt, "size")
				ops = append(ops, 0x91, byte(off), byte(size))
				want = append(want, base[off:off+size]...)
			} else {
				text := rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(rt, "text")
				ops = append(append(ops, byte(len(text))), text...)
				want = append(want, text...)
			}
		}
		delta = append(binary.AppendUvarint(delta, uint64(len(want))), ops...)
		first := entryOf(plumbing.BlobObject, base)
		back := len(packOf(first)) - 12 - 20
		index, err := indexed(t, packOf(first, [2][]byte{append(entryHead(plumbing.OFSDeltaObject, int64(len(delta))), distance(back)...), delta}))
		if err != nil {
			rt.Fatal(err)
		}
		for _, text := range [][]byte{base, want} {
			if ok, err := index.Contains(plumbing.ComputeHash(plumbing.BlobObject, text)); !ok || err != nil {
				rt.Fatalf("a text is not there (%v)", err)
			}
		}
	})
}

func FuzzIndexPack(f *testing.F) {
	base := entryOf(plumbing.BlobObject, []byte("0123456789"))
	back := byte(len(packOf(base)) - 12 - 20)
	f.Add(packOf(base, deltaOf(back, []byte{10, 5, 0x91, 2, 3, 2, 'x', 'y'})))
	f.Add(packOf(base, base, [2][]byte{append(entryHead(plumbing.REFDeltaObject, 4), bytes.Repeat([]byte{7}, 20)...), {10, 1, 1, 'x'}}))
	f.Fuzz(func(t *testing.T, pack []byte) {
		if len(pack) > 20 { // or else nothing gets beyond the sum at its end
			sum := sha1.Sum(pack[:len(pack)-20])
			copy(pack[len(pack)-20:], sum[:])
		}
		_, _ = indexed(t, bytes.Clone(pack))
	})
}

// distance is how far back a delta's base is, as a pack has it.
func distance(n int) []byte {
	out := []byte{byte(n & 0x7f)}
	for n >>= 7; n > 0; n >>= 7 {
		n--
		out = append([]byte{byte(n&0x7f) | 0x80}, out...)
	}
	return out
}

// A repository much larger than memory is to be is fetched and written out with little of
// it: texts that do not compress, and one that is a delta upon another.
func TestMemory(t *testing.T) {
	r := newRepo(t)
	const file, count = 6 << 20, 6
	for i := range count {
		writeFile(t, filepath.Join(r.dir, fmt.Sprint("noise", i)), string(noise(uint64(i), file)))
	}
	r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	writeFile(t, filepath.Join(r.dir, "noise0"), "changed"+string(noise(0, file)))
	commit := r.commit("two", nil)
	r.git("repack", "-a", "-d", "-q")
	s := open(t, Config{URL: r.url(), Limits: Limits{Pack: 100 << 20}})
	peak := peakHeap(func() { looked(t, s) })
	wantState(t, s, "")
	wantCommit(t, s, commit)
	if got, want := readFile(t, filepath.Join(s.Dir(), "noise0")), "changed"+string(noise(0, file)); got != want {
		t.Error("a text is not what it was")
	}
	if peak > 24<<20 {
		t.Errorf("%d MiB of memory for %d MiB", peak>>20, file*count>>20)
	}
}

// peakHeap is by how much the heap grew at most while do ran.
func peakHeap(do func()) (peak uint64) {
	defer debug.SetGCPercent(debug.SetGCPercent(10)) // what nobody holds is not counted for long
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	begun := m.HeapAlloc
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapAlloc)
			}
		}
	})
	do()
	close(stop)
	watching.Wait()
	return peak - min(begun, peak)
}

// What is larger than allowed is not taken, and not asked for again.
func TestPackLimit(t *testing.T) {
	r := newRepo(t)
	first := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	s := open(t, Config{URL: r.url(), Limits: Limits{Pack: 64 << 10}})
	looked(t, s)
	r.commit("two", map[string]string{"noise": string(noise(1, 100<<10))})
	looked(t, s)
	wantState(t, s, GitTooLarge, "larger than 64 KiB")
	wantCommit(t, s, first)
	left, err := filepath.Glob(filepath.Join(s.cfg.Cache, "repo", "*", ".git", "objects", "pack", tempPrefix+"*"))
	if err != nil || len(left) != 0 {
		t.Errorf("%v are left (%v)", left, err)
	}
	if err := os.Rename(filepath.Join(r.dir, ".git", "objects"), filepath.Join(r.dir, ".git", "objects.away")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(r.dir, ".git", "objects"), 0o755); err != nil {
		t.Fatal(err)
	}
	looked(t, s)
	wantState(t, s, GitTooLarge) // by memory alone: there is nothing to be had any more
}

// History that is too large to have is left out where the commit alone is not.
func TestLargeHistory(t *testing.T) {
	r := newRepo(t)
	for i := range 3 {
		r.commit("noise", map[string]string{"noise": string(noise(uint64(i), 50<<10)), "web.yml": stack(fmt.Sprint("nginx:", i))})
	}
	s := open(t, Config{URL: r.url(), Limits: Limits{Pack: 100 << 10}})
	looked(t, s)
	wantState(t, s, "")
	last := r.commit("small", map[string]string{"web.yml": stack("nginx:9")})
	looked(t, s)
	wantState(t, s, "")
	wantCommit(t, s, last)
}
