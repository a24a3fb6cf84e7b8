// Package prom has tests run a real Prometheus, and its promtool. It starts them and asks
// them; what the answers have to be is the tests' affair.
package prom

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Tool finds a program of Prometheus': in PATH, or where `make tools` puts it.
func Tool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	path := filepath.Join(cache, "skep-lab", "prometheus", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find %s: %w (make tools)", name, err)
	}
	return path, nil
}

// Promtool runs promtool in a directory. Its error has what it said.
func Promtool(ctx context.Context, dir string, args ...string) error {
	path, err := Tool("promtool")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("promtool %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// A Server is a Prometheus that runs until it is stopped.
type Server struct {
	dir  string
	addr string
	cmd  *exec.Cmd
	done chan struct{}
	out  *buffer
}

// ScrapeEvery is how often a Server scrapes; a scrape may take as long. Its rules it
// evaluates every second.
const ScrapeEvery = 2 * time.Second

// config is a Server's configuration. Its targets are in a file, which it watches.
const config = `global: {scrape_interval: 2s, evaluation_interval: 1s}
rule_files: [rules/*.yml]
scrape_configs:
  - job_name: skep
    file_sd_configs:
      - {files: [targets.json], refresh_interval: 1s}
`

// Start runs a Prometheus in a directory of its own, with these rule files, and returns
// when it answers. It scrapes nothing before Scrape.
func Start(ctx context.Context, dir string, rules map[string][]byte) (*Server, error) {
	return StartWith(ctx, dir, []byte(config), rules)
}

// StartWith is Start with a configuration of the caller's; Scrape has no part in it.
func StartWith(ctx context.Context, dir string, config []byte, rules map[string][]byte) (*Server, error) {
	path, err := Tool("prometheus")
	if err != nil {
		return nil, err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port for prometheus: %w", err)
	}
	s := &Server{dir: dir, addr: free.Addr().String(), done: make(chan struct{}), out: &buffer{}}
	_ = free.Close()
	if err := os.MkdirAll(filepath.Join(dir, "rules"), 0o755); err != nil {
		return nil, err
	}
	for name, text := range rules {
		if err := os.WriteFile(filepath.Join(dir, "rules", name), text, 0o644); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), config, 0o644); err != nil {
		return nil, err
	}
	if err := s.Scrape(); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(path, "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address="+s.addr, "--log.level=warn")
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = dir, s.out, s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		defer close(s.done)
		runtime.LockOSThread() // the parent whose death is meant is a thread
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start prometheus: %w", err)
	}
	if err := s.awaitReady(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/-/ready", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.done:
			return fmt.Errorf("prometheus ended at once: %s", s.out)
		case <-ctx.Done():
			return fmt.Errorf("prometheus is not ready: %w: %s", ctx.Err(), s.out)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Scrape has it scrape these addresses, in the place of those before. Each counts as an
// instance of its own.
func (s *Server) Scrape(addresses ...string) error {
	text, err := json.Marshal([]map[string][]string{{"targets": append([]string{}, addresses...)}})
	if err != nil {
		return err
	}
	file := filepath.Join(s.dir, "targets.json")
	if err := os.WriteFile(file+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// Stop ends it, and waits for that.
func (s *Server) Stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	late := time.NewTimer(10 * time.Second)
	defer late.Stop()
	select {
	case <-s.done:
	case <-late.C:
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}

// Said is what it wrote to its log.
func (s *Server) Said() string { return s.out.String() }

// A Series is one of an answer: its labels, and its values in the order of time.
type Series struct {
	Labels map[string]string
	Values []float64
}

// Query asks for a query's value at a moment.
func (s *Server) Query(ctx context.Context, query string, at time.Time) ([]Series, error) {
	return s.ask(ctx, "query", url.Values{"query": {query}, "time": {stamp(at)}})
}

// QueryRange asks for a query's values from one moment to another.
func (s *Server) QueryRange(ctx context.Context, query string, from, to time.Time, step time.Duration) ([]Series, error) {
	return s.ask(ctx, "query_range", url.Values{"query": {query}, "start": {stamp(from)}, "end": {stamp(to)}, "step": {fmt.Sprint(step.Seconds())}})
}

func stamp(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

// Targets are what it scrapes now: the URL, and the labels that its series get.
func (s *Server) Targets(ctx context.Context) (map[string]map[string]string, error) {
	var answer struct {
		Active []struct {
			Labels map[string]string `json:"labels"`
			URL    string            `json:"scrapeUrl"`
		} `json:"activeTargets"`
	}
	if err := s.get(ctx, "targets", url.Values{"state": {"active"}}, &answer); err != nil {
		return nil, err
	}
	out := map[string]map[string]string{}
	for _, t := range answer.Active {
		out[t.URL] = t.Labels
	}
	return out, nil
}

// LabelValues are those that a label has in the series that a selector takes.
func (s *Server) LabelValues(ctx context.Context, label, selector string) ([]string, error) {
	var values []string
	err := s.get(ctx, "label/"+label+"/values", url.Values{"match[]": {selector}}, &values)
	return values, err
}

func (s *Server) ask(ctx context.Context, what string, args url.Values) ([]Series, error) {
	var answer struct {
		Type   string          `json:"resultType"`
		Result json.RawMessage `json:"result"`
	}
	if err := s.get(ctx, what, args, &answer); err != nil {
		return nil, err
	}
	if answer.Type == "scalar" {
		var pair [2]any
		if err := json.Unmarshal(answer.Result, &pair); err != nil {
			return nil, err
		}
		return []Series{{Values: numbers([][2]any{pair})}}, nil
	}
	var result []struct {
		Metric map[string]string `json:"metric"`
		Value  *[2]any           `json:"value"`
		Values [][2]any          `json:"values"`
	}
	if err := json.Unmarshal(answer.Result, &result); err != nil {
		return nil, fmt.Errorf("understand prometheus' answer: %w", err)
	}
	var out []Series
	for _, r := range result {
		if r.Value != nil {
			r.Values = append(r.Values, *r.Value)
		}
		out = append(out, Series{r.Metric, numbers(r.Values)})
	}
	return out, nil
}

// numbers are the values of samples, without what is no number.
func numbers(samples [][2]any) []float64 {
	var out []float64
	for _, s := range samples {
		text, _ := s[1].(string)
		if v, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(v) {
			out = append(out, v)
		}
	}
	return out
}

func (s *Server) get(ctx context.Context, what string, args url.Values, data any) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/api/v1/"+what+"?"+args.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask prometheus: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("ask prometheus: %w", err)
	}
	var answer struct {
		Status string          `json:"status"`
		Error  string          `json:"error"`
		Data   json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("understand prometheus' answer: %w", err)
	}
	if answer.Status != "success" {
		return errors.New("prometheus: " + answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}

var (
	clause  = regexp.MustCompile(`(?m)^(\s*(?:for|keep_firing_for): )(\S+)$`)
	window  = regexp.MustCompile(`\[(\d+[smhd])\]`)
	periods = regexp.MustCompile(`^(\d+)([smhd])$`)
)

// Hasten rewrites rules so that each of their minutes is a second: what has to last, and
// the ranges that are looked back over, which stay long enough for some scrapes.
func Hasten(rules []byte) []byte {
	rules = clause.ReplaceAllFunc(rules, func(line []byte) []byte {
		m := clause.FindSubmatch(line)
		return append(bytes.Clone(m[1]), hasten(string(m[2]), time.Second)...)
	})
	return window.ReplaceAllFunc(rules, func(text []byte) []byte {
		return []byte("[" + hasten(string(window.FindSubmatch(text)[1]), 5*ScrapeEvery) + "]")
	})
}

func hasten(period string, least time.Duration) string {
	m := periods.FindStringSubmatch(period)
	if m == nil {
		return period
	}
	n, _ := strconv.Atoi(m[1]) // digits
	unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[m[2]]
	return fmt.Sprintf("%ds", int(max(time.Duration(n)*unit/60, least)/time.Second))
}

// A buffer may be written to and read at the same time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
