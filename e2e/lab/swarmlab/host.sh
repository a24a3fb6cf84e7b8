# The first process of a host in the lab. $1 is the host's name; $2 its directory,
# empty for the switch, which runs no engine. It has namespaces of its own for
# processes, network, mounts and host name.
set -eu
mount --make-rprivate /
hostname "$1"
mount -t proc proc /proc
ip link set lo up

if [ -n "$2" ]; then
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/lock
    # The engine keeps its identity here, and would share it with its neighbours.
    mkdir -p /etc/docker
    mount -t tmpfs -o mode=755 tmpfs /etc/docker
    # No name server: a name that Swarm does not know fails at once.
    if [ -e /etc/resolv.conf ]; then
        mount --bind "$2/resolv.conf" /etc/resolv.conf
    fi
fi

# Until the owner says keep, the host ends with its owner, whose end closes stdin.
# This shell waits for a child, as only then it reaps what engines orphan.
exec 3<&0 # what runs in the background has no stdin of its own
sh -c 'read -r word && [ "$word" = keep ] && exec sleep infinity' <&3 >/dev/null &
echo "ready $!"
wait "$!" || true
