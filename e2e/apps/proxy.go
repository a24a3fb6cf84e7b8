package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"time"
)

// proxy plays nginx as the seed uses it: it reads from nginx's configuration
// where to listen and whom to ask, and ends at once when the upstream's name does
// not resolve. Unlike nginx it asks for tasks.<upstream> at every request and
// tries another address when one cannot be reached, as a virtual IP would have it
// do: on a kernel without IPVS there is none.
func proxy(ctx context.Context, _ []string) error {
	file := os.Getenv("PROXY_CONF")
	if file == "" {
		file = "/etc/nginx/conf.d/default.conf"
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	conf, err := parseConf(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if conf.upstream == "" { // as nginx's own default page
		return serve(ctx, ":"+conf.port, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, "Welcome")
		}))
	}
	up := &upstream{host: conf.upstream, port: conf.upstreamPort, lookup: lookupTasks}
	if _, err := up.addresses(ctx); err != nil {
		return fmt.Errorf("host not found in upstream %q: %w", conf.upstream, err)
	}
	return serve(ctx, ":"+conf.port, up.handler())
}

// conf is what the proxy understands of nginx's configuration.
type conf struct {
	port         string // listen, default 80
	upstream     string // the host of proxy_pass, or of the server of the upstream it names
	upstreamPort string
}

var (
	comments     = regexp.MustCompile(`(?m)#.*$`)
	listenLine   = regexp.MustCompile(`\blisten\s+(?:\S*:)?(\d+)[^;]*;`)
	passLine     = regexp.MustCompile(`\bproxy_pass\s+(http://[^;\s]+)\s*;`)
	upstreamLine = regexp.MustCompile(`\bupstream\s+(\S+)\s*\{[^}]*?\bserver\s+([^;\s]+)[^;]*;`)
)

func parseConf(text string) (conf, error) {
	text = comments.ReplaceAllString(text, "")
	c := conf{port: "80"}
	if m := listenLine.FindStringSubmatch(text); m != nil {
		c.port = m[1]
	}
	pass := passLine.FindStringSubmatch(text)
	if pass == nil {
		return c, nil
	}
	to, err := url.Parse(pass[1])
	if err != nil {
		return c, fmt.Errorf("proxy_pass: %w", err)
	}
	hostPort := to.Host
	for _, m := range upstreamLine.FindAllStringSubmatch(text, -1) {
		if m[1] == hostPort {
			hostPort = m[2]
		}
	}
	c.upstream, c.upstreamPort, err = net.SplitHostPort(hostPort)
	if err != nil {
		c.upstream, c.upstreamPort = hostPort, "80"
	}
	if c.upstream == "" {
		return c, errors.New("proxy_pass: no host")
	}
	return c, nil
}

// An upstream is a service whose tasks answer for it.
type upstream struct {
	host, port string
	lookup     func(ctx context.Context, host string) ([]string, error)
}

// lookupTasks asks Swarm's name server for the addresses of a service's tasks; a
// name that is no service's is looked up as it is.
func lookupTasks(ctx context.Context, host string) ([]string, error) {
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip4", "tasks."+host)
	if err != nil {
		if ips, err = net.DefaultResolver.LookupIP(ctx, "ip4", host); err != nil {
			return nil, err
		}
	}
	var all []string
	for _, ip := range ips {
		all = append(all, ip.String())
	}
	return all, nil
}

// addresses are those to try, in random order.
func (u *upstream) addresses(ctx context.Context) ([]string, error) {
	ips, err := u.lookup(ctx, u.host)
	if err != nil {
		return nil, err
	}
	rand.Shuffle(len(ips), func(i, j int) { ips[i], ips[j] = ips[j], ips[i] })
	all := make([]string, len(ips))
	for i, ip := range ips {
		all[i] = net.JoinHostPort(ip, u.port)
	}
	return all, nil
}

// dial connects to the first address that lets it, and gives each a second.
func (u *upstream) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	addrs, err := u.addresses(ctx)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: time.Second}
	var errs []error
	for _, addr := range addrs {
		c, err := d.DialContext(ctx, network, addr)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no live upstreams: %w", errors.Join(errs...))
}

func (u *upstream) handler() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: net.JoinHostPort(u.host, u.port)})
			r.SetXForwarded()
		},
		// A connection a request: an idle one may belong to a task that is about to go.
		Transport: &http.Transport{DialContext: u.dial, DisableKeepAlives: true, ResponseHeaderTimeout: 10 * time.Second},
		ErrorLog:  log.New(os.Stderr, "proxy: ", 0),
	}
}
