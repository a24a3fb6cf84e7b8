//go:build linux

package swarmlab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"golang.org/x/sync/errgroup"
)

const swarmPort = 2377

// form makes the engines one Swarm, the first node its first leader, and returns
// when every manager knows all the others and has the ingress network.
func (l *Lab) form(ctx context.Context) error {
	first := l.Nodes[0]
	if _, err := l.Client(0).SwarmInit(ctx, swarm.InitRequest{
		ListenAddr:    fmt.Sprintf("%s:%d", first.Address, swarmPort),
		AdvertiseAddr: first.Address.String(),
	}); err != nil {
		return fmt.Errorf("make a swarm on %s: %w", first.Name, err)
	}
	seen, err := l.Client(0).SwarmInspect(ctx)
	if err != nil {
		return fmt.Errorf("ask for the join token: %w", err)
	}
	for i := 1; i < len(l.Nodes); i++ {
		if err := l.join(ctx, i, seen.JoinTokens.Manager); err != nil {
			return err
		}
	}
	return l.Ready(ctx)
}

func (l *Lab) join(ctx context.Context, i int, token string) error {
	n := l.Nodes[i]
	err := l.Client(i).SwarmJoin(ctx, swarm.JoinRequest{
		ListenAddr:    fmt.Sprintf("%s:%d", n.Address, swarmPort),
		AdvertiseAddr: n.Address.String(),
		RemoteAddrs:   []string{fmt.Sprintf("%s:%d", l.Nodes[0].Address, swarmPort)},
		JoinToken:     token,
	})
	if err != nil {
		return fmt.Errorf("join %s to the swarm: %w", n.Name, err)
	}
	return nil
}

// Ready waits until every node, asked on its own, says that all nodes are ready,
// all managers reachable, one of them the leader, and the ingress network there.
func (l *Lab) Ready(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, n := range l.Nodes {
		g.Go(func() error {
			return wait(ctx, 2*time.Minute, n.Name+" to see the whole swarm", func() error {
				ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
				defer cancel()
				return l.sees(ctx, i)
			})
		})
	}
	return g.Wait()
}

func (l *Lab) sees(ctx context.Context, i int) error {
	nodes, err := l.Client(i).NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		return err
	}
	if len(nodes) != len(l.Nodes) {
		return fmt.Errorf("it sees %d of %d nodes", len(nodes), len(l.Nodes))
	}
	leader := false
	for _, n := range nodes {
		if n.Status.State != swarm.NodeStateReady {
			return fmt.Errorf("%s is %s", n.Description.Hostname, n.Status.State)
		}
		if n.ManagerStatus == nil || n.ManagerStatus.Reachability != swarm.ReachabilityReachable {
			return fmt.Errorf("%s is not reachable as a manager", n.Description.Hostname)
		}
		leader = leader || n.ManagerStatus.Leader
	}
	if !leader {
		return errors.New("no leader")
	}
	if _, err := l.Client(i).NetworkInspect(ctx, "ingress", network.InspectOptions{}); err != nil {
		return err
	}
	return nil
}
