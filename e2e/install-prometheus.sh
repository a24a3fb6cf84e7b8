#!/bin/sh
# Puts prometheus and promtool, for the tests, where the tests look: below
# ~/.cache/skep-lab, out of Debian's package. Nothing is installed: the package would
# bring a service that starts with the machine. Where both are in PATH nothing is done.
set -eu

missing() {
    for tool in prometheus promtool; do
        [ -x "$dir/$tool" ] || command -v "$tool" >/dev/null || return 0
    done
    return 1
}

dir=${XDG_CACHE_HOME:-$HOME/.cache}/skep-lab/prometheus
missing || exit 0
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "install-prometheus: prometheus and promtool are missing, and there is no apt-get: put those of Prometheus 2.42 or newer into PATH" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
cd "$work"
mkdir root
# Who is not root may download, and cannot update the lists.
download() { apt-get -q -o Acquire::Retries=3 -o APT::Sandbox::User=root download prometheus; }
if ! download; then
    [ "$(id -u)" = 0 ] && apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 update
    download
fi
dpkg-deb -x prometheus_*.deb root
mkdir -p "$dir"
for tool in prometheus promtool; do
    cp "root/usr/bin/$tool" "$dir/$tool.$$"
    mv "$dir/$tool.$$" "$dir/$tool" # another make may be at it too
done
