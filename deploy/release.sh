#!/bin/bash
# Makes what a release consists of, in dist/release: the binary for each platform with
# the bill of its materials, the root of an image for each, what a package adds (manual
# page, completion), and the checksums of all. The same commit, Go and certificates
# give the same bytes. `make release` is the way to call it.
set -euo pipefail
cd "$(dirname "$0")/.."

out=dist/release
certificates=${CERTIFICATES:-/etc/ssl/certs/ca-certificates.crt}
[ -r "$certificates" ] || { echo "make release: $certificates is missing: install ca-certificates, or name another file in CERTIFICATES" >&2; exit 1; }

# For this machine first: only that one can say what it is.
GOARCH= GOOS= make --no-print-directory build
skep=$PWD/dist/skep
version=$("$skep" version --format '{{.Version}}')
if ! [[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]]; then
    echo "make release: $version is no version to release: commit what is changed and tag the commit (git tag v1.2.3), or give VERSION=v1.2.3" >&2
    exit 1
fi
when=$(git log -1 --format=%ct)

# The same archive of the same files, whoever makes it and when.
pack() { tar --sort=name --mtime="@$when" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -C "$1" -c . | gzip -n9 >"$2"; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$out"
mkdir -p "$out"
for arch in amd64 arm64; do
    GOOS=linux GOARCH=$arch make --no-print-directory build BINARY="$out/skep-linux-$arch"
    "$skep" version --sbom --of "$out/skep-linux-$arch" >"$out/skep-linux-$arch.cdx.json"
    root=$work/root-$arch
    mkdir -p "$root/etc/ssl/certs"
    cp "$out/skep-linux-$arch" "$root/skep"
    cp "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"
    pack "$root" "$out/skep-linux-$arch.rootfs.tar.gz"
done

extras=$work/extras
mkdir -p "$extras/completion" "$extras/deploy"
"$skep" man >"$extras/skep.1"
"$skep" completion bash >"$extras/completion/skep"
"$skep" completion zsh >"$extras/completion/_skep"
"$skep" completion fish >"$extras/completion/skep.fish"
cp LICENSE CHANGELOG.md "$extras/"
cp -r deploy/stack.yml deploy/examples deploy/prometheus deploy/grafana "$extras/deploy/"
pack "$extras" "$out/skep-extras.tar.gz"

(cd "$out" && sha256sum skep-* >SHA256SUMS)
echo "skep $version is in $out:"
ls -l "$out"
