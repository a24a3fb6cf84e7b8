#!/bin/sh
# Installs what serves git in the end-to-end tests, on Debian and its kin, where it is
# missing: git with its http backend, Apache's httpd, sshd, and what a hook of a
# repository is written with (curl, openssl). The tests start programs of their own with
# configurations of their own. Nothing runs of what is installed here, nor when the
# machine starts: of httpd it is the package without the service, and sshd's is turned off.
set -eu
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# missing prints the packages whose programs are not there, and fails where all are.
missing() {
    packages=
    for both in git:git apache2:apache2-bin sshd:openssh-server ssh-keygen:openssh-client curl:curl openssl:openssl; do
        command -v "${both%%:*}" >/dev/null || packages="$packages ${both#*:}"
    done
    [ -n "$packages" ] && echo "$packages"
}

packages=$(missing) || exit 0
if ! command -v apt-get >/dev/null; then
    echo "install-git:$packages missing, and there is no apt-get: install Apache's httpd, OpenSSH's sshd, git, curl and openssl yourself" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "install-git:$packages missing, and installing needs root: run make as root once" >&2
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

apt update
# shellcheck disable=SC2086 # a list
apt install --no-install-recommends $packages

case $packages in
*openssh-server*) # nobody asked for a way into this machine
    if command -v systemctl >/dev/null; then
        systemctl disable ssh.service ssh.socket || true # a suite has the one or both
    fi
    command -v update-rc.d >/dev/null && update-rc.d ssh disable || true
    ;;
esac

if packages=$(missing); then
    echo "install-git: installed, but of$packages something is still not to be found" >&2
    exit 1
fi
