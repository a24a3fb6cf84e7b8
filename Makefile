# The two that everybody needs are run and test. All need Go; run, test, e2e, bench
# and engine need Linux and root, for the lab (e2e/README.md).

SHELL := /bin/bash
VERSION ?=
COUNT ?= 1
RUN ?= .
BENCH ?= .
FUZZTIME ?= 1m
TIMES ?= 0
SEED ?= 0
BUILDVCS ?= auto
BINARY ?= dist/skep
FUZZED := ./spec ./reconcile ./controller

LDFLAGS := -s -w -X github.com/skep-io/skep/controller/cli.release=$(VERSION)

.PHONY: run test conformance fuzz e2e chaos compare traces bench generate lint build image release engine tools clean

## run: skep on deploy/examples, on the Swarm that DOCKER_HOST reaches, or else on one of its own that ends with it
run: engine
	CGO_ENABLED=0 go build -o bin/skep .
	CGO_ENABLED=0 go build -o bin/lab ./e2e/lab
	@bin/lab with -unless-swarm -images -- e2e/run-examples.sh

## test: all tests: ten seconds of each fuzz target, conformance, then the rest, those on a real Swarm too
test: tools
	@$(MAKE) --no-print-directory fuzz FUZZTIME=10s RUN=.
	@$(MAKE) --no-print-directory conformance
	go test -race -timeout 40m ./...

## conformance: skep render against docker stack deploy's own code; SKEP_CORPUS=DIR on the stack files in it too
conformance:
	cd spec/conformance && go test -race -timeout 20m

## fuzz: each fuzz target for FUZZTIME=1m, one after the other, or RUN=FuzzLoad alone; what breaks one is kept in the package's testdata/fuzz
# The time may end at a moment when go test takes its own end for a failure: then it
# says that the deadline was exceeded, and names no input.
fuzz:
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	for package in $(FUZZED); do \
		all=$$(go test -list '$(RUN)' $$package) || { echo "$$all"; exit 1; }; \
		for target in $$(grep '^Fuzz' <<<"$$all"); do \
			if ! go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x -parallel 2 -timeout 0 $$package >"$$log" 2>&1 && \
				! grep -A1 -- "--- FAIL: $$target (" "$$log" | grep -qx ' *context deadline exceeded'; then \
				echo "$$target failed:"; cat "$$log"; exit 1; \
			fi; \
			printf '%-14s %s\n' "$$target" "$$(grep 'execs:' "$$log" | tail -n 1)"; \
		done; \
	done

## e2e: the tests on a real Swarm alone; COUNT=3 runs them three times, RUN=TestX only some
e2e: tools
	go test -race -count=$(COUNT) -run '$(RUN)' -timeout 120m ./e2e/...

## chaos: each fault of docs/reliability.md on a real Swarm as often as it says there, in about two hours; stopped, it goes on where it was; RUN=partition TIMES=3 three more of one row, SEED=7 for the soak
# What was done is in bin/chaos.json: without it, all begins anew.
chaos: tools
	@mkdir -p bin
	go test -race -count=1 -run '^TestChaos$$' -v -timeout 300m ./e2e -chaos -chaos-state $(CURDIR)/bin/chaos.json -chaos-run '$(RUN)' -chaos-times $(TIMES) -seed $(SEED)

## compare: what becomes of the bad versions of TestRollouts under docker stack deploy, without skep
compare: tools
	go test -count=1 -run '^TestCompare$$' -v -timeout 30m ./e2e -compare

## traces: record anew what Swarm does to the bad versions, which package reconcile's model is held to
traces: tools
	go test -count=1 -run '^TestCompare$$' -v -timeout 30m ./e2e -compare -traces $(CURDIR)/reconcile/testdata/traces

## bench: how fast it is against a real engine: a quick look; FLAGS=-full is what docs/performance.md tells, FLAGS=-h says what else
bench: engine
	go test -run '^$$' -bench '$(BENCH)' ./spec ./reconcile ./controller
	go run ./e2e/bench $(FLAGS)

## generate: write anew what is made of the code: the tables of docs/metrics.md
generate:
	go generate ./controller

## lint: what is not formatted, vet, staticcheck
lint:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not formatted (run gofmt -w):"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go build -o bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...
	cd spec/conformance && go vet ./... && ../../bin/staticcheck ./...

## build: dist/skep, static; the same commit and the same Go give the same bytes, wherever and whenever
# What a person's own go env says would be in them: BUILDVCS=false where git cannot be asked.
build:
	CGO_ENABLED=0 GOFLAGS= GOAMD64=v1 GOARM64=v8.0 go build -trimpath -buildvcs=$(BUILDVCS) -ldflags '$(LDFLAGS)' -o $(BINARY) .

## image: dist/skep as the image skep, with this machine's certificates; pulls nothing
image: build
	cp /etc/ssl/certs/ca-certificates.crt dist/ca-certificates.crt
	docker build --target prebuilt -t skep .

## release: what a release consists of, in dist/release: binaries, bills of materials, images' roots, manual page and completion, checksums; its version is the commit's tag, or VERSION=v1.2.3
release:
	@VERSION='$(VERSION)' deploy/release.sh

## engine: installs docker, iptables and iproute2 where they are missing (Debian)
engine:
	@e2e/install-engine.sh

## tools: that, what the race detector and the tests need besides, what serves git (apache2-bin, openssh-server; nothing of it is started), and Prometheus, which is only unpacked
tools:
	@e2e/install-engine.sh cc git debootstrap chromium
	@e2e/install-prometheus.sh
	@e2e/install-git.sh

clean:
	rm -rf bin dist
