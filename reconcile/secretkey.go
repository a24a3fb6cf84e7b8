package reconcile

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
)

// keyName is the one object of its kind.
const keyName = ownStart + KindKey

// secretKey returns the Swarm's key for hashes over secrets. With make it is
// created where there is none yet, else nil comes back.
func (m *memory) secretKey(ctx context.Context, mayCreate bool) ([]byte, error) {
	m.mu.Lock()
	key := m.key
	m.mu.Unlock()
	if key != nil {
		return key, nil
	}
	key, err := m.readKey(ctx)
	if err == nil && key == nil && mayCreate {
		key, err = m.makeKey(ctx)
	}
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.key = key
	m.mu.Unlock()
	return key, nil
}

func (m *memory) readKey(ctx context.Context) ([]byte, error) {
	configs, err := m.swarm.ConfigList(ctx, swarm.ConfigListOptions{Filters: filters.NewArgs(filters.Arg("name", keyName))})
	if err != nil {
		return nil, fmt.Errorf("read config %s: %w", keyName, err)
	}
	for i := range configs {
		if configs[i].Spec.Name == keyName && len(configs[i].Spec.Data) >= 32 { // the filter matches prefixes
			return configs[i].Spec.Data, nil
		}
	}
	return nil, nil
}

// makeKey creates the key; of two controllers that do so at once one is refused,
// and both read what the other one made.
func (m *memory) makeKey(ctx context.Context) ([]byte, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	_, err := m.swarm.ConfigCreate(ctx, swarm.ConfigSpec{
		Annotations: swarm.Annotations{Name: keyName, Labels: map[string]string{labelKind: KindKey}},
		Data:        key,
	})
	if err != nil && !isConflict(err) {
		return nil, fmt.Errorf("create config %s: %w", keyName, err)
	}
	key, err = m.readKey(ctx)
	if err == nil && key == nil {
		err = fmt.Errorf("read config %s: it has no key in it (remove it, and skep makes a new one)", keyName)
	}
	return key, err
}
