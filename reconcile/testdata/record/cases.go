package main

import (
	"os"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

func ptr[T any](v T) *T { return &v }

const digest = "sha256:9ae97d36d26566ff84e8893c64a6dc4fe8ca6d1144bf5b87b2b85a32def253c7"

// nowhere keeps tasks of global services and jobs from being made.
var nowhere = &swarm.Placement{Constraints: []string{"node.labels.nowhere==true"}}

// cases are stacks of one service that together use every field which a compose
// file can say, in the shapes in which it can be said.
func cases() []*reconcile.Desired {
	return []*reconcile.Desired{
		service("minimal", nil),
		service("untagged", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Image = "nginx"
			s.Labels[spec.LabelImage] = "nginx"
		}),
		service("pinned", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Image = "nginx:1.27@" + digest
			s.Labels[spec.LabelImage] = "nginx:1.27"
			s.TaskTemplate.Placement = &swarm.Placement{Platforms: []swarm.Platform{{Architecture: "amd64", OS: "linux"}, {OS: "linux"}}}
		}),
		service("digest-only", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Image = "registry.example:5000/team/app@" + digest
			s.Labels[spec.LabelImage] = s.TaskTemplate.ContainerSpec.Image
		}),
		service("one-replica-by-silence", func(s *swarm.ServiceSpec) {
			s.Mode = swarm.ServiceMode{}
			s.TaskTemplate.Placement = nowhere
		}),
		service("spelled-out-defaults", spelledOut),
		service("empty-parts", func(s *swarm.ServiceSpec) {
			c := s.TaskTemplate.ContainerSpec
			c.DNSConfig, c.Healthcheck, c.Privileges = &swarm.DNSConfig{}, &container.HealthConfig{}, &swarm.Privileges{}
			c.Env, c.Args, c.Command, c.Hosts = []string{}, []string{}, []string{}, []string{}
			c.Labels, c.Sysctls = map[string]string{}, map[string]string{}
			c.Mounts, c.Configs, c.Secrets = []mount.Mount{}, []*swarm.ConfigReference{}, []*swarm.SecretReference{}
			s.TaskTemplate.Resources = &swarm.ResourceRequirements{Limits: &swarm.Limit{}, Reservations: &swarm.Resources{}}
			s.TaskTemplate.RestartPolicy = &swarm.RestartPolicy{}
			s.TaskTemplate.LogDriver = &swarm.Driver{}
			s.EndpointSpec = &swarm.EndpointSpec{}
		}),
		service("process", func(s *swarm.ServiceSpec) {
			c := s.TaskTemplate.ContainerSpec
			c.Command = []string{"/bin/sh", "-c"}
			c.Args = []string{"echo \"$HOME\"; sleep 1d", ""}
			c.Env = []string{"BARE", "EMPTY=", "EQ=a=b=c", "LINES=a\nb", "UMLAUT=Grüße", "Z=1"}
			c.Dir, c.User = "/srv", "1000:1000"
			c.Hostname = "{{.Node.Hostname}}-{{.Task.Slot}}"
			c.TTY, c.OpenStdin, c.ReadOnly = true, true, true
			c.Init, c.StopSignal, c.StopGracePeriod = ptr(false), "SIGQUIT", ptr(90*time.Second)
			c.Labels = labels("process", "com.example.empty=", "traefik.http.routers.x.rule=Host(`x`)")
		}),
		service("kernel", func(s *swarm.ServiceSpec) {
			c := s.TaskTemplate.ContainerSpec
			c.Init = ptr(true)
			c.Sysctls = map[string]string{"net.core.somaxconn": "1024", "net.ipv4.ip_forward": "1"}
			c.CapabilityAdd, c.CapabilityDrop = []string{"CAP_NET_ADMIN", "CAP_SYS_TIME"}, []string{"ALL"}
			c.Ulimits = []*container.Ulimit{{Name: "nofile", Soft: 1024, Hard: 2048}, {Name: "nproc", Soft: 65535, Hard: 65535}}
			c.Isolation = "default"
		}),
		service("names", func(s *swarm.ServiceSpec) {
			c := s.TaskTemplate.ContainerSpec
			c.Hosts = []string{"10.0.0.2 b", "10.0.0.1 a", "::1 six"}
			c.DNSConfig = &swarm.DNSConfig{Nameservers: []string{"9.9.9.9", "1.1.1.1"}, Search: []string{"b.example", "a.example"}}
		}),
		service("groups-and-resolver", func(s *swarm.ServiceSpec) {
			c := s.TaskTemplate.ContainerSpec
			c.Groups = []string{"audio", "1001"}
			c.DNSConfig = &swarm.DNSConfig{Options: []string{"ndots:2", "use-vc"}}
		}),
		service("oom-score", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.OomScoreAdj = -500 }),
		service("health", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Healthcheck = &container.HealthConfig{
				Test: []string{"CMD-SHELL", "curl -f http://localhost/ || exit 1"}, Interval: 90 * time.Second,
				Timeout: 1500 * time.Millisecond, Retries: 3, StartPeriod: 40 * time.Second,
			}
		}),
		service("health-off", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
		}),
		service("health-start-interval", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "true"}, StartInterval: time.Second}
		}),
		service("mounts", mounts),
		service("mount-subpath", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Mounts = []mount.Mount{{
				Type: mount.TypeVolume, Source: "data", Target: "/data",
				VolumeOptions: &mount.VolumeOptions{Subpath: "a/b", Labels: labels("mount-subpath")},
			}}
		}),
		service("mount-tmpfs-options", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Mounts = []mount.Mount{{
				Type: mount.TypeTmpfs, Target: "/run",
				TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 1 << 20, Options: [][]string{{"noexec"}, {"uid", "1000"}}},
			}}
		}),
		service("mount-tmpfs-exec", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Mounts = []mount.Mount{
				{Type: mount.TypeTmpfs, Target: "/tmp", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 64 << 20, Mode: os.FileMode(0o1777)}},
				{Type: mount.TypeTmpfs, Target: "/run/tools", ReadOnly: true, TmpfsOptions: &mount.TmpfsOptions{Options: [][]string{{"exec"}}}},
			}
		}),
		service("mount-recursive", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Mounts = []mount.Mount{
				{Type: mount.TypeBind, Source: "/a", Target: "/a", BindOptions: &mount.BindOptions{NonRecursive: true, Propagation: mount.PropagationRSlave}},
				{Type: mount.TypeBind, Source: "/b", Target: "/b", ReadOnly: true, BindOptions: &mount.BindOptions{ReadOnlyNonRecursive: true}},
				{Type: mount.TypeBind, Source: "/c", Target: "/c", ReadOnly: true, BindOptions: &mount.BindOptions{ReadOnlyForceRecursive: true, Propagation: mount.PropagationRPrivate}},
				{Type: mount.TypeVolume, Target: "/d", VolumeOptions: &mount.VolumeOptions{NoCopy: true, Labels: map[string]string{"k": "v"}}},
				{Type: mount.TypeNamedPipe, Source: `\\.\pipe\x`, Target: `\\.\pipe\x`},
			}
		}),
		service("port-name", func(s *swarm.ServiceSpec) {
			s.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{{Name: "web", Protocol: "tcp", TargetPort: 80, PublishedPort: 8090, PublishMode: "ingress"}}}
		}),
		service("ports", func(s *swarm.ServiceSpec) {
			s.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{
				{Protocol: "tcp", TargetPort: 9000, PublishMode: "ingress"},
				{Protocol: "udp", TargetPort: 53, PublishedPort: 5353, PublishMode: "ingress"},
				{Protocol: "tcp", TargetPort: 80, PublishedPort: 8080, PublishMode: "host"},
				{TargetPort: 80, PublishedPort: 8081},
				{TargetPort: 80, PublishedPort: 8082},
			}}
		}),
		service("dnsrr", func(s *swarm.ServiceSpec) {
			s.EndpointSpec = &swarm.EndpointSpec{Mode: swarm.ResolutionModeDNSRR}
		}),
		withNetworks(),
		withNetworkOfIPv6(),
		withAddresses(),
		withIPv6Enabled(),
		withHostNetwork(),
		withFiles(),
		withCredentialSpec(),
		service("resources", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Resources = &swarm.ResourceRequirements{
				Limits: &swarm.Limit{NanoCPUs: 500_000_000, MemoryBytes: 50 << 20, Pids: 100},
				Reservations: &swarm.Resources{
					NanoCPUs: 123_456_789, MemoryBytes: 20_000_001,
					GenericResources: []swarm.GenericResource{
						{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: "gpu", Value: 2}},
						{NamedResourceSpec: &swarm.NamedGenericResource{Kind: "ssd", Value: "a"}},
					},
				},
			}
		}),
		service("limit-of-pids-only", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Resources = &swarm.ResourceRequirements{Limits: &swarm.Limit{Pids: 5}}
		}),
		service("restart", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.RestartPolicy = &swarm.RestartPolicy{
				Condition: swarm.RestartPolicyConditionOnFailure, Delay: ptr(time.Duration(0)), MaxAttempts: ptr(uint64(3)), Window: ptr(2 * time.Minute),
			}
		}),
		service("rollouts", func(s *swarm.ServiceSpec) {
			s.UpdateConfig = &swarm.UpdateConfig{Parallelism: 0, Delay: 10 * time.Second, FailureAction: "rollback", Monitor: time.Minute, MaxFailureRatio: 0.3, Order: "start-first"}
			s.RollbackConfig = &swarm.UpdateConfig{Parallelism: 2, FailureAction: "continue", Order: "stop-first"}
		}),
		service("placement", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Placement = &swarm.Placement{
				Constraints: []string{"node.role == manager", "node.labels.disk!=slow"},
				Preferences: []swarm.PlacementPreference{{Spread: &swarm.SpreadOver{SpreadDescriptor: "node.labels.zone"}}, {Spread: &swarm.SpreadOver{SpreadDescriptor: "node.labels.rack"}}},
				MaxReplicas: 2,
			}
		}),
		service("logging", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.LogDriver = &swarm.Driver{Name: "json-file", Options: map[string]string{"max-size": "10m", "max-file": "3"}}
		}),
		service("global", func(s *swarm.ServiceSpec) {
			s.Mode, s.TaskTemplate.Placement = swarm.ServiceMode{Global: &swarm.GlobalService{}}, nowhere
		}),
		service("replicated-job", func(s *swarm.ServiceSpec) {
			s.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: ptr(uint64(2)), TotalCompletions: ptr(uint64(2))}}
			s.TaskTemplate.Placement = nowhere
			s.TaskTemplate.RestartPolicy = &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionNone}
		}),
		service("global-job", func(s *swarm.ServiceSpec) {
			s.Mode, s.TaskTemplate.Placement = swarm.ServiceMode{GlobalJob: &swarm.GlobalJob{}}, nowhere
			s.TaskTemplate.RestartPolicy = &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionOnFailure}
		}),
	}
}

// service is a stack with one service, called app, that has no tasks.
func service(stack string, change func(*swarm.ServiceSpec)) *reconcile.Desired {
	name := stack + "_app"
	s := swarm.ServiceSpec{
		Annotations:  swarm.Annotations{Name: name, Labels: labels(stack, spec.LabelImage+"=busybox:1.36")},
		TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: "busybox:1.36", Labels: labels(stack)}, Placement: &swarm.Placement{}},
		Mode:         swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: ptr(uint64(0))}},
	}
	if change != nil {
		change(&s)
	}
	return &reconcile.Desired{Stack: stack, Services: []reconcile.DesiredService{{Key: "app", Name: name, Spec: s, Written: s.Labels[spec.LabelImage]}}}
}

func spelledOut(s *swarm.ServiceSpec) {
	c := s.TaskTemplate.ContainerSpec
	c.StopGracePeriod, c.Isolation = ptr(10*time.Second), "default"
	c.DNSConfig = &swarm.DNSConfig{}
	s.TaskTemplate.Runtime = swarm.RuntimeContainer
	s.TaskTemplate.RestartPolicy = &swarm.RestartPolicy{Condition: "any", Delay: ptr(5 * time.Second), MaxAttempts: ptr(uint64(0)), Window: ptr(time.Duration(0))}
	u := swarm.UpdateConfig{Parallelism: 1, FailureAction: "pause", Monitor: 5 * time.Second, Order: "stop-first"}
	s.UpdateConfig, s.RollbackConfig = &u, &u
	s.EndpointSpec = &swarm.EndpointSpec{Mode: swarm.ResolutionModeVIP}
}

func mounts(s *swarm.ServiceSpec) {
	s.TaskTemplate.ContainerSpec.Mounts = []mount.Mount{
		{Type: mount.TypeVolume, Source: "mounts_data", Target: "/z/", VolumeOptions: &mount.VolumeOptions{
			NoCopy: true, Labels: labels("mounts", "a=b"), DriverConfig: &mount.Driver{Name: "local", Options: map[string]string{"type": "nfs", "o": "addr=10.0.0.1"}},
		}},
		{Type: mount.TypeVolume, Source: "outside", Target: "/outside", VolumeOptions: &mount.VolumeOptions{}},
		{Type: mount.TypeVolume, Target: "/anonymous"},
		{Type: mount.TypeBind, Source: "/etc/hostname", Target: "/etc/h", ReadOnly: true, Consistency: mount.ConsistencyCached},
		{Type: mount.TypeBind, Source: "/mnt", Target: "/mnt", BindOptions: &mount.BindOptions{Propagation: mount.PropagationRSlave}},
		{Type: mount.TypeBind, Source: "/opt", Target: "/opt", BindOptions: &mount.BindOptions{NonRecursive: true}},
		{Type: mount.TypeBind, Source: "/srv", Target: "/srv", BindOptions: &mount.BindOptions{CreateMountpoint: true}},
		{Type: mount.TypeTmpfs, Target: "/run", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 1 << 20}},
		{Type: mount.TypeTmpfs, Target: "/tmp"},
		{Type: mount.TypeTmpfs, Target: "/var/tmp", TmpfsOptions: &mount.TmpfsOptions{Mode: os.FileMode(0o700)}},
	}
}

func withNetworks() *reconcile.Desired {
	d := service("networks", func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{
			{Target: "networks_back", Aliases: []string{"db", "app"}, DriverOpts: map[string]string{"com.example": "1"}},
			{Target: "networks_front", Aliases: []string{"app"}},
		}
	})
	d.Networks = []reconcile.DesiredNetwork{
		{Key: "back", Name: "networks_back", Create: network.CreateOptions{
			Driver: "overlay", Internal: true, Labels: labels("networks"), Options: map[string]string{"encrypted": ""},
			IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: "172.28.0.0/16"}}},
		}},
		{Key: "front", Name: "networks_front", Create: network.CreateOptions{Driver: "overlay", Attachable: true, Labels: labels("networks", "a=b")}},
	}
	return d
}

// withNetworkOfIPv6 is on a network that some engines never find addresses for:
// they keep it, and tell neither its driver nor its IPAM.
func withNetworkOfIPv6() *reconcile.Desired {
	d := service("network-of-ipv6", func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: "network-of-ipv6_six"}}
	})
	d.Networks = []reconcile.DesiredNetwork{{Key: "six", Name: "network-of-ipv6_six", Create: network.CreateOptions{
		Driver: "overlay", Labels: labels("network-of-ipv6"), Options: map[string]string{"com.docker.network.driver.mtu": "1400"},
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: "172.29.0.0/16"}, {Subnet: "fd00:1::/64"}}},
	}}}
	return d
}

// withAddresses is on a network whose addresses the file chooses in full.
func withAddresses() *reconcile.Desired {
	d := service("network-addresses", func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: "network-addresses_front"}}
	})
	d.Networks = []reconcile.DesiredNetwork{{Key: "front", Name: "network-addresses_front", Create: network.CreateOptions{
		Driver: "overlay", Labels: labels("network-addresses"), EnableIPv4: ptr(true),
		IPAM: &network.IPAM{Driver: "default", Options: map[string]string{"foo": "bar"}, Config: []network.IPAMConfig{{
			Subnet: "172.27.0.0/16", IPRange: "172.27.128.0/17", Gateway: "172.27.0.9", AuxAddress: map[string]string{"router": "172.27.0.2"},
		}}},
	}}}
	return d
}

// withIPv6Enabled is on a network that asks for addresses of IPv6 itself.
func withIPv6Enabled() *reconcile.Desired {
	d := service("network-ipv6-enabled", func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: "network-ipv6-enabled_six"}}
	})
	d.Networks = []reconcile.DesiredNetwork{{Key: "six", Name: "network-ipv6-enabled_six", Create: network.CreateOptions{
		Driver: "overlay", Labels: labels("network-ipv6-enabled"), EnableIPv6: ptr(true),
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: "172.26.0.0/16"}, {Subnet: "fd00:2::/64"}}},
	}}}
	return d
}

func withHostNetwork() *reconcile.Desired {
	d := service("host-network", func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: "host"}}
	})
	d.Networks = []reconcile.DesiredNetwork{{Key: "host", Name: "host", External: true}}
	return d
}

func withFiles() *reconcile.Desired {
	d := service("files", func(s *swarm.ServiceSpec) {
		c := s.TaskTemplate.ContainerSpec
		c.Configs = []*swarm.ConfigReference{
			{ConfigName: "files_a-1f2e", File: &swarm.ConfigReferenceFileTarget{Name: "/etc/a", UID: "0", GID: "0", Mode: 0o444}},
			{ConfigName: "files_a-1f2e", File: &swarm.ConfigReferenceFileTarget{Name: "/etc/b", UID: "101", GID: "102", Mode: 0o440}},
			{ConfigName: "files_t", File: &swarm.ConfigReferenceFileTarget{Name: "t", UID: "0", GID: "0", Mode: 0o444}},
		}
		c.Secrets = []*swarm.SecretReference{
			{SecretName: "files_s", File: &swarm.SecretReferenceFileTarget{Name: "s", UID: "0", GID: "0", Mode: 0o400}},
		}
	})
	d.Configs = []reconcile.DesiredObject{
		{Key: "a", Name: "files_a-1f2e", Plain: "files_a", Labels: labels("files", "a=b")},
		{Key: "t", Name: "files_t", Plain: "files_t", Labels: labels("files"), Templating: &swarm.Driver{Name: "golang"}},
	}
	d.Secrets = []reconcile.DesiredObject{{Key: "s", Name: "files_s", Plain: "files_s", Labels: labels("files")}}
	return d
}

func withCredentialSpec() *reconcile.Desired {
	d := service("credential-spec", func(s *swarm.ServiceSpec) {
		c := s.TaskTemplate.ContainerSpec
		c.Privileges = &swarm.Privileges{CredentialSpec: &swarm.CredentialSpec{Config: "credential-spec_gmsa"}}
		c.Configs = []*swarm.ConfigReference{{ConfigName: "credential-spec_gmsa", Runtime: &swarm.ConfigReferenceRuntimeTarget{}}}
	})
	d.Configs = []reconcile.DesiredObject{{Key: "gmsa", Name: "credential-spec_gmsa", Plain: "credential-spec_gmsa", Labels: labels("credential-spec")}}
	return d
}
