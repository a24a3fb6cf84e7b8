#!/bin/sh
# What `make run` runs, with DOCKER_HOST set to the Swarm it uses: says where that
# Swarm is and how to look at it, and becomes skep on deploy/examples.
set -eu
cd "$(dirname "$0")/.."

engine=${DOCKER_HOST:-unix:///var/run/docker.sock}
node=$(docker node inspect self --format '{{.Status.Addr}}')
[ "$node" != 0.0.0.0 ] || node=127.0.0.1
nodes=$(docker node ls --quiet | wc -l)

cat >&2 <<EOF

skep now makes this Swarm be what deploy/examples says. In another terminal, here:

  export DOCKER_HOST=$engine
  bin/skep status                  # how the four stacks are, and why
  docker stack ls                  # Docker's own commands work as ever
  curl http://$node:8082/    # step 2; port 8083: step 3, 8084: step 4

Then change a file below deploy/examples and watch; each says at its top what to
try. Ctrl-C ends it${SKEP_LAB:+, and takes the Swarm down}.

EOF
if [ -z "${SKEP_LAB:-}" ]; then
    cat >&2 <<EOF
This is a Swarm that was there, of $nodes nodes, and not one made for the examples:
they stay in it, and every node needs their images (deploy/examples/README.md).

EOF
fi
exec bin/skep run --specs deploy/examples
