//go:build linux

package swarmlab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	dirPrefix = "skep-lab-"
	stateFile = "lab.json"
	lockFile  = "lock"
	// machineLock is the same for every Base, as subnets are the machine's.
	machineLock = "/tmp/skep-lab.lock"
)

// Base is the directory that labs are made in: SKEP_LAB_BASE, or /tmp.
func Base() string {
	if dir := os.Getenv("SKEP_LAB_BASE"); dir != "" {
		return dir
	}
	return "/tmp"
}

// state is what a lab is known by after its owner's death, as lab.json in its
// directory.
type state struct {
	ID      string       `json:"id"`
	Dir     string       `json:"dir"`
	Subnet  netip.Prefix `json:"subnet"`
	Keep    bool         `json:"keep"`
	Owner   int          `json:"owner"` // PID of the process that made it
	Created time.Time    `json:"created"`
	Switch  holder       `json:"switch"`
	Hosts   []host       `json:"hosts"`
}

type host struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	Holder  holder     `json:"holder"`
}

func (s *state) write() error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write down the lab: %w", err)
	}
	file := filepath.Join(s.Dir, stateFile)
	if err := os.WriteFile(file+".new", append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write down the lab: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("write down the lab: %w", err)
	}
	return nil
}

func readState(dir string) (*state, error) {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, fmt.Errorf("read the lab: %w", err)
	}
	s := &state{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("read the lab %s: %w", dir, err)
	}
	if s.Dir != dir || len(s.ID) != 6 {
		return nil, fmt.Errorf("read the lab %s: its %s is of another one", dir, stateFile)
	}
	return s, nil
}

// alive says whether any of the lab's hosts still runs.
func (s *state) alive() bool {
	for _, p := range s.holders() {
		if p.alive() {
			return true
		}
	}
	return false
}

// holders are the lab's holders, the switch last.
func (s *state) holders() []process {
	var all []process
	for _, h := range s.Hosts {
		all = append(all, h.Holder.process)
	}
	return append(all, s.Switch.process)
}

// remove ends all of the lab's processes and removes what it made. It needs
// nothing but the state, and nothing of that to be still there.
func (s *state) remove() error {
	var errs []error
	for _, p := range s.holders() {
		errs = append(errs, p.end())
	}
	errs = append(errs,
		removeLink(s.ID),
		removeCgroups(cgroupName(s.ID)),
		unmountBelow(s.Dir),
	)
	if err := errors.Join(errs...); err != nil {
		// The directory stays, so that a later try knows what is left.
		return fmt.Errorf("take down lab %s: %w", s.ID, err)
	}
	if err := os.RemoveAll(s.Dir); err != nil {
		return fmt.Errorf("take down lab %s: %w", s.ID, err)
	}
	return nil
}

// end kills a holder, and with it all of its PID namespace; and who else is in its
// network, such as a command of Lab.Command.
func (p process) end() error {
	if !p.alive() {
		return nil
	}
	guests, err := p.guests()
	errs := []error{err, p.kill()}
	for _, g := range guests {
		if g.PID != os.Getpid() {
			errs = append(errs, g.kill())
		}
	}
	return errors.Join(errs...)
}

// Info is what List tells of a lab.
type Info struct {
	ID      string
	Dir     string
	Subnet  netip.Prefix
	Created time.Time
	Nodes   int
	Keep    bool // it outlives the process that made it
	Running bool // some of its hosts run; else it is what a dead owner left
}

// List tells of the labs in Base(), the oldest first.
func List() ([]Info, error) {
	states, err := states()
	if err != nil {
		return nil, err
	}
	var all []Info
	for _, s := range states {
		all = append(all, Info{
			ID: s.ID, Dir: s.Dir, Subnet: s.Subnet, Created: s.Created,
			Nodes: len(s.Hosts), Keep: s.Keep, Running: s.alive(),
		})
	}
	slices.SortFunc(all, func(a, b Info) int { return a.Created.Compare(b.Created) })
	return all, nil
}

func states() ([]*state, error) {
	files, err := filepath.Glob(filepath.Join(Base(), dirPrefix+"*", stateFile))
	if err != nil {
		return nil, fmt.Errorf("list labs in %s: %w", Base(), err)
	}
	var all []*state
	for _, file := range files {
		s, err := readState(filepath.Dir(file))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// DownAll takes down the labs in Base() with these ids, or all where none is
// given: running or left behind, of whatever process.
func DownAll(ctx context.Context, ids ...string) error {
	unlock, err := lockMachine(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	all, err := states()
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		if !slices.ContainsFunc(all, func(s *state) bool { return s.ID == id }) {
			errs = append(errs, fmt.Errorf("no lab %s in %s", id, Base()))
		}
	}
	for _, s := range all {
		if len(ids) == 0 || slices.Contains(ids, s.ID) {
			errs = append(errs, s.remove())
		}
	}
	if len(ids) == 0 {
		errs = append(errs, reap())
	}
	return errors.Join(errs...)
}

// Reap removes the labs in Base() whose owner died, but those it meant to be kept.
// Up does so too.
func Reap(ctx context.Context) error {
	unlock, err := lockMachine(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return reap()
}

// reap is Reap for a caller that holds the machine's lock. An owner lives as long
// as the lab's own lock is held.
func reap() error {
	dirs, err := filepath.Glob(filepath.Join(Base(), dirPrefix+"*"))
	if err != nil {
		return fmt.Errorf("look for labs that were left in %s: %w", Base(), err)
	}
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		if err := reapOne(dir); err != nil {
			return fmt.Errorf("remove a lab that was left behind: %w", err)
		}
	}
	return reapSuites()
}

func reapOne(dir string) error {
	lock, err := flock(filepath.Join(dir, lockFile), false)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil // its owner lives
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	s, err := readState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(dir) // died before it made anything else
	}
	if err != nil {
		return err
	}
	if s.Keep && s.alive() {
		return nil
	}
	return s.remove()
}

// flock locks a file, which it makes where it is missing, until the file is
// closed or this process ends. Without wait it returns EWOULDBLOCK where another
// has it.
func flock(file string, wait bool) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		err = syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", file, err)
	}
	return f, nil
}

// lockMachine keeps other processes from making or removing labs until unlock.
func lockMachine(ctx context.Context) (unlock func(), err error) {
	var f *os.File
	err = wait(ctx, time.Minute, "the lock on making and removing labs", func() error {
		f, err = flock(machineLock, false)
		return err
	})
	if err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// mounts lists the mount points of this process's namespace that f chooses.
func mounts(f func(point, fstype string) bool) ([]string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer file.Close()
	var points []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		a, b := strings.Fields(left), strings.Fields(right)
		if !ok || len(a) < 5 || len(b) < 1 {
			continue
		}
		if point := unescape.Replace(a[4]); f(point, b[0]) {
			points = append(points, point)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return points, nil
}

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// unmountBelow unmounts what is mounted below dir on this machine. A host's own
// mounts are in its namespace and never seen here; what a person mounted is.
func unmountBelow(dir string) error {
	points, err := mounts(func(point, _ string) bool { return strings.HasPrefix(point, dir+"/") })
	if err != nil {
		return err
	}
	var errs []error
	for i := len(points) - 1; i >= 0; i-- {
		if err := syscall.Unmount(points[i], syscall.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", points[i], err))
		}
	}
	return errors.Join(errs...)
}
