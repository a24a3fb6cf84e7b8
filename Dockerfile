# skep as an image: one static binary and the certificates of the public CAs.
#
#   docker build -t skep .                                 builds the binary inside
#   docker build -t skep --target prebuilt .               takes dist/skep as it is,
#       and dist/ca-certificates.crt; pulls nothing, needs no BuildKit
#
# It runs as any user, writes nothing to its root, and needs no capability. It
# starts as root unless told otherwise, for the engine's socket belongs to root:
# any other user needs the socket's group (--user 65532:GID).
ARG BUILD_IMAGE=golang:1.26-bookworm

# What every image of skep has. The stages stand in this order because the classic
# builder runs all those before its target.
FROM scratch AS base
LABEL org.opencontainers.image.title="skep" \
      org.opencontainers.image.description="Keeps a Docker Swarm as a directory of compose files says" \
      org.opencontainers.image.licenses="Apache-2.0"
# In the environment rather than in CMD, so that health asks where run listens, and
# so that the other verbs find the same directory; which counts where nothing else
# (--specs, --sources, --git) says where stacks are.
ENV SKEP_DEFAULT_SPECS=/specs \
    SKEP_LISTEN=:9470
EXPOSE 9470
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["/skep", "health"]
ENTRYPOINT ["/skep"]
CMD ["run"]

FROM base AS prebuilt
COPY dist/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY dist/skep /skep

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY main.go ./
COPY spec ./spec
COPY reconcile ./reconcile
COPY controller ./controller
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X github.com/skep-io/skep/controller/cli.release=${VERSION}" -o /skep .

FROM base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /skep /skep
