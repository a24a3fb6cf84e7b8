// Package swarmlab brings up a real Swarm of several managers on one Linux
// machine, for tests and for a look by hand, and takes every trace of it away
// again.
//
// # How a lab is made
//
// Each host is a process, its holder, that is the first one of a PID namespace
// and has network, mount and host name of its own. The host's dockerd and all
// that it starts live inside. One more holder, the switch, has the bridge that
// the hosts are plugged into, and a veth pair leads from the bridge to this
// machine, which is the gateway's address in the lab's subnet:
//
//	this machine            switch                  node1, node2, node3
//	sk<id> 198.18.N.1 ─ uplink ─ br0 ┬─ p1 ──────── eth0 198.18.N.11
//	                                 ├─ p2 ──────── eth0 198.18.N.12
//	                                 └─ p3 ──────── eth0 198.18.N.13
//
// So the machine can reach the hosts and the hosts the machine, and as they have
// no default route, nothing leaves it. On the machine itself there is one
// interface, one directory, one cgroup and nothing else: no bridge, no iptables
// rule, no mount, no named namespace.
//
// # How it goes away
//
// The kernel kills all of a PID namespace with its first process. A holder reads
// from a pipe that the process which called Up holds open, and ends when that
// closes: however the owner dies, its engines and containers die with it. The
// directory and the empty cgroups that stay behind then are removed by the next
// Up, or by `go run ./e2e/lab reap`. No process is ever looked for by its name.
//
// # What it cannot do
//
// A kernel without IPVS accepts virtual IPs and the ingress mesh, but they carry
// no traffic: reach tasks through host-mode ports, tasks.<service>, or from within
// a container's network (see Lab.Probe). Without a way out no image can be pulled:
// make images with LoadImage, or serve them with Registry.
package swarmlab
