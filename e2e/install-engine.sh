#!/bin/sh
# Installs what the lab of the end-to-end tests needs, on Debian and its kin, where
# it is missing: dockerd, docker, iptables and ip; and the tools that are named as
# arguments (cc, git, debootstrap, chromium). It starts no engine: the lab runs engines of its own.
set -eu
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# missing prints the first tool that is not there, and fails where all are.
missing() {
    for tool in dockerd containerd docker iptables ip nsenter "$@"; do
        command -v "$tool" >/dev/null || { echo "$tool"; return 0; }
    done
    return 1
}

tool=$(missing "$@") || exit 0
if ! command -v apt-get >/dev/null; then
    echo "install-engine: $tool is missing, and there is no apt-get: install docker (20.10 or newer), iptables, iproute2 $* yourself" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "install-engine: $tool is missing, and installing needs root: run make as root once" >&2
    exit 1
fi

# Debian starts a service as soon as it is installed, unless this file says no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
apt() { apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"; }

packages=
for tool in "$@"; do
    case $tool in
    cc) packages="$packages gcc libc6-dev" ;;
    chromium) packages="$packages chromium fonts-dejavu-core" ;; # a page without a font is empty
    *) packages="$packages $tool" ;;
    esac
done
# An engine from elsewhere stays: Debian's would take its place.
command -v dockerd >/dev/null || packages="$packages docker.io"
apt update
# shellcheck disable=SC2086 # a list
apt install --no-install-recommends iptables iproute2 util-linux $packages
# Newer suites have the command in a package of its own.
command -v docker >/dev/null || apt install --no-install-recommends docker-cli

if tool=$(missing "$@"); then
    echo "install-engine: installed, but $tool is still not to be found" >&2
    exit 1
fi
