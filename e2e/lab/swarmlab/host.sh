# The first process of a host in the lab. $1 is the host's name; $2 its directory,
# empty for the switch, which runs no engine; $3 a directory with the programs of
# another Debian suite, or empty. It has namespaces of its own for processes,
# network, mounts and host name.
set -eu
mount --make-rprivate /

# Under the names of this machine's own, so that all else is still this machine's:
# files, devices, cgroups.
if [ -n "$3" ]; then
    for dir in etc usr; do
        mount --bind "$3/$dir" "/$dir"
        mount -o remount,bind,ro "/$dir"
    done
fi
hostname "$1"
mount -t proc proc /proc
ip link set lo up

if [ -n "$2" ]; then
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/lock
    # The engine keeps its identity here, and would share it with its neighbours.
    [ -d /etc/docker ] || mkdir -p /etc/docker
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
