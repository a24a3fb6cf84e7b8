//go:build linux

package swarmlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
)

// hostAddr returns the address of a /24 that ends in n.
func hostAddr(subnet netip.Prefix, n int) netip.Addr {
	b := subnet.Masked().Addr().As4()
	b[3] = byte(n)
	return netip.AddrFrom4(b)
}

// freeSubnet finds a /24 that no interface of this machine is in. Every lab has
// one, so the caller holds the machine's lock until its own interface is there.
func freeSubnet() (netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("list this machine's addresses: %w", err)
	}
	var used []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			used = append(used, p)
		}
	}
	for n := range 512 {
		candidate := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(18 + n/256), byte(n), 0}), 24)
		if !overlaps(candidate, used) {
			return candidate, nil
		}
	}
	return netip.Prefix{}, errors.New("no subnet of 198.18.0.0/15 is free: take labs down with `go run ./e2e/lab down`")
}

func overlaps(p netip.Prefix, used []netip.Prefix) bool {
	for _, u := range used {
		if u.Overlaps(p) {
			return true
		}
	}
	return false
}

// uplink is the name of this machine's interface to the lab with that id.
func uplink(id string) string { return "sk" + id }

// startSwitch makes the bridge, and the link from it to this machine.
func (l *Lab) startSwitch(ctx context.Context) error {
	sw := l.state.Switch.PID
	if err := ip(ctx, 0,
		fmt.Sprintf("link add %s type veth peer name uplink netns %d", uplink(l.ID), sw),
		fmt.Sprintf("addr add %s/24 dev %s", l.Gateway, uplink(l.ID)),
		fmt.Sprintf("link set %s up", uplink(l.ID)),
	); err != nil {
		return err
	}
	return ip(ctx, sw,
		"link add br0 type bridge stp_state 0 forward_delay 0",
		"link set uplink master br0",
		"link set uplink up",
		"link set br0 up",
	)
}

// plug connects host n to the switch.
func (l *Lab) plug(ctx context.Context, n int, node *Node) error {
	if err := ip(ctx, l.state.Switch.PID,
		fmt.Sprintf("link add p%d type veth peer name eth0 netns %d", n, node.PID),
		fmt.Sprintf("link set p%d master br0", n),
		fmt.Sprintf("link set p%d up", n),
	); err != nil {
		return err
	}
	return ip(ctx, node.PID,
		fmt.Sprintf("addr add %s/24 dev eth0", node.Address),
		"link set eth0 up",
	)
}

// Partition cuts node i off from the other hosts and from this machine, as if
// somebody pulled its cable. Its engine runs on and answers on its socket.
func (l *Lab) Partition(ctx context.Context, i int) error {
	return ip(ctx, l.state.Switch.PID, fmt.Sprintf("link set p%d down", i+1))
}

// Heal puts the cable of Partition back.
func (l *Lab) Heal(ctx context.Context, i int) error {
	return ip(ctx, l.state.Switch.PID, fmt.Sprintf("link set p%d up", i+1))
}

// ip runs ip commands in the network of a process, or of this machine where pid
// is 0.
func ip(ctx context.Context, pid int, lines ...string) error {
	argv := []string{"ip", "-batch", "-"}
	var cmd *exec.Cmd
	if pid == 0 {
		cmd = exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Env = []string{"PATH=" + systemPath}
		cmd.Path, cmd.Err = lookPath("ip")
	} else {
		cmd = enter(ctx, pid, []string{"--net"}, argv...)
	}
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if _, err := output(cmd); err != nil {
		return fmt.Errorf("set up the lab's network: %w", err)
	}
	return nil
}

// removeLink removes this machine's interface to a lab. The kernel does so too,
// some time after the switch ended; then there is nothing to remove.
func removeLink(id string) error {
	if _, err := net.InterfaceByName(uplink(id)); err != nil {
		return nil
	}
	err := ip(context.Background(), 0, "link del "+uplink(id))
	if _, gone := net.InterfaceByName(uplink(id)); gone != nil {
		return nil
	}
	return err
}
