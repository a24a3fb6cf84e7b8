package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"sync"
	"time"
)

// A report is what a probe prints when it is told to stop.
type report struct {
	Requests int `json:"requests"`
	Failed   int `json:"failed"`
	// Unresolved are those of the requests for which the name server gave no answer at all:
	// they tell of a machine that is too busy, and nothing of who would have been asked.
	Unresolved int            `json:"unresolved"`
	Versions   map[string]int `json:"versions"` // answers by the version that gave them
	Hosts      map[string]int `json:"hosts"`    // and by the container
	First      time.Time      `json:"first"`    // when the first request was sent
	Last       time.Time      `json:"last"`     // and the last
	// LongestGap is the longest time between two answers that were good, in seconds.
	LongestGap float64 `json:"longestGap"`
	// Errors are the first few failures in words, with their time.
	Errors []string `json:"errors,omitempty"`

	mu       sync.Mutex
	lastGood time.Time
}

const keptErrors = 10

var (
	versionIn = regexp.MustCompile(`Hello from version: ([^"\s]+)`)
	hostIn    = regexp.MustCompile(`"container_id":\s*"([^"]+)"`)
)

// probe asks a URL at a steady rate, whether answers come or not, each time on a
// connection of its own and never twice for one request, until it gets SIGTERM or
// its stdin closes. Then it waits for the answers that are due, and prints a
// report as JSON.
func probe(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("probe", flag.ContinueOnError)
	rate := flags.Float64("rate", 25, "requests per `second`")
	timeout := flags.Duration("timeout", 5*time.Second, "an answer later than this is a failure")
	dns := flags.String("dns", "", "the name server to ask, `host:port`, instead of this machine's")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || *rate <= 0 {
		return errors.New("usage: probe [-rate N] [-timeout D] [-dns HOST:PORT] URL")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // whoever started it is gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	r := &report{Versions: map[string]int{}, Hosts: map[string]int{}}
	r.run(ctx, client(*timeout, *dns), flags.Arg(0), time.Duration(float64(time.Second) / *rate))
	return json.NewEncoder(os.Stdout).Encode(r)
}

// client asks name servers itself, tries one address after the other, in any order,
// and gives each a second: as a virtual IP would, it does not stay with one that is
// about to go.
func client(timeout time.Duration, dns string) *http.Client {
	r := net.DefaultResolver
	if dns != "" {
		r = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, dns)
		}}
	}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		up := &upstream{host: host, port: port, lookup: func(ctx context.Context, host string) ([]string, error) {
			return addresses(ctx, r, host)
		}}
		return up.dial(ctx, network, addr)
	}
	return &http.Client{Timeout: timeout, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
}

// addresses asks a name server for those of a host.
func addresses(ctx context.Context, r *net.Resolver, host string) ([]string, error) {
	ips, err := r.LookupIP(ctx, "ip4", host)
	var all []string
	for _, ip := range ips {
		all = append(all, ip.String())
	}
	return all, err
}

// run sends a request an interval until ctx ends, and waits for all answers.
func (r *report) run(ctx context.Context, c *http.Client, url string, interval time.Duration) {
	var pending sync.WaitGroup
	defer pending.Wait()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		pending.Go(func() { r.ask(c, url) })
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (r *report) ask(c *http.Client, url string) {
	sent := time.Now()
	body, err := get(c, url)
	r.add(sent, time.Now(), body, err)
}

func get(c *http.Client, url string) (string, error) {
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status)
	}
	return string(body), nil
}

// add counts one answer.
func (r *report) add(sent, got time.Time, body string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Requests++
	if r.First.IsZero() || sent.Before(r.First) {
		r.First = sent
	}
	if sent.After(r.Last) {
		r.Last = sent
	}
	if unresolved(err) {
		r.Unresolved++
		return
	}
	if err != nil {
		r.Failed++
		if len(r.Errors) < keptErrors {
			r.Errors = append(r.Errors, fmt.Sprintf("%s: %v", sent.UTC().Format(time.RFC3339Nano), err))
		}
		return
	}
	if !r.lastGood.IsZero() {
		r.LongestGap = max(r.LongestGap, got.Sub(r.lastGood).Seconds())
	}
	if got.After(r.lastGood) {
		r.lastGood = got
	}
	count(r.Versions, versionIn, body)
	count(r.Hosts, hostIn, body)
}

// unresolved says that a name server was asked and was silent. One that says that there is
// no such name is a failure like any other.
func unresolved(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsTimeout && !dns.IsNotFound
}

func count(in map[string]int, what *regexp.Regexp, body string) {
	if m := what.FindStringSubmatch(body); m != nil {
		in[m[1]]++
	}
}
