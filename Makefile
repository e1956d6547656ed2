# Two commands matter: `make dev` runs everything on this machine, `make test`
# proves it. Both set up what they need by themselves.

GO      ?= go
CACHE   ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/bailiwick
CONSUL_VERSION := $(shell sed -n "s|^.github.com/hashicorp/consul v\([0-9.]*\).*|\1|p" tools/consul/go.mod)
CONSUL  := $(CACHE)/consul-$(CONSUL_VERSION)/consul
PEBBLE_VERSION := $(shell sed -n "s|.*github.com/letsencrypt/pebble/v2 v\([0-9.]*\).*|\1|p" tools/pebble/go.mod)
PEBBLE  := $(CACHE)/pebble-$(PEBBLE_VERSION)/pebble
LIVEKIT_VERSION := $(shell sed -n "s|.*github.com/livekit/livekit-server v\([0-9.]*\).*|\1|p" tools/livekit/go.mod)
LIVEKIT := $(CACHE)/livekit-$(LIVEKIT_VERSION)/livekit
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# Each fuzz target runs this long in `make test`; the corpus itself always runs.
FUZZTIME ?= 2s

.PHONY: build dev test setup vet unit fuzz web consul pebble livekit sim bench bench-dns bench-control bench-sfu bench-quality clean help

help:
	@echo "make dev    build, then run DNS, ten edges, console and API on loopback"
	@echo "make test   install what tests need, then run every test"
	@echo "make sim    break the control plane by chance; SIMTIME=8h for a night of it"
	@echo "make bench  print the benchmarks"
	@echo "make bench-dns  measure the DNS server beside gdnsd, Knot and NSD"
	@echo "make bench-control  measure a full edge, and what it asks of Consul; CONTROL=--json"
	@echo "make bench-quality  what people hear and see on bad networks, beside LiveKit; QUALITY='-scripts dip'"
	@echo "make bench-sfu  measure the SFU beside LiveKit and Janus; SFU='-json', SFU='-soak 1h'"

build: bin/bailiwick

bin/bailiwick: FORCE
	@[ -e $@ ] || echo "building $@: the first time takes a minute or two"
	@$(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o $@ ./cmd/bailiwick
FORCE:

dev: build
	@exec ./bin/bailiwick dev

test: setup vet web unit fuzz
	@tools/setup summary

setup:
	@tools/setup install

vet:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "gofmt these:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...

# The real Consul, built once a version into a cache outside the tree; the path
# holds the version, so nothing else makes it stale.
consul: $(CONSUL)
$(CONSUL):
	@echo "building Consul $(CONSUL_VERSION) into $(CACHE) (about 12 minutes on two cores, once)"
	@mkdir -p $(dir $@)
	cd tools/consul && $(GO) build -o $@.tmp github.com/hashicorp/consul
	mv $@.tmp $@

# A real ACME server, the same way.
pebble: $(PEBBLE)
$(PEBBLE):
	@echo "building Pebble $(PEBBLE_VERSION) into $(CACHE)"
	@mkdir -p $(dir $@)
	cd tools/pebble && $(GO) build -o $@.tmp github.com/letsencrypt/pebble/v2/cmd/pebble
	mv $@.tmp $@

# The SFU's peer, the same way, for bench-sfu alone.
livekit: $(LIVEKIT)
$(LIVEKIT):
	@echo "building LiveKit $(LIVEKIT_VERSION) into $(CACHE) (about 3 minutes, once)"
	@mkdir -p $(dir $@)
	cd tools/livekit && $(GO) build -o $@.tmp github.com/livekit/livekit-server/cmd/server
	mv $@.tmp $@

unit: consul pebble
	BAILIWICK_CONSUL=$(CONSUL) BAILIWICK_PEBBLE=$(PEBBLE) $(GO) test -race -timeout 20m ./...

fuzz:
	@tools/fuzz $(FUZZTIME)

web:
	npm --prefix tools/web ci --no-audit --no-fund
	npm --prefix tools/web run check
	npm --prefix tools/web test

# One seed is one run: SIMSEED says where to begin, the output where it left off.
SIMTIME ?= 10m
sim:
	@SIMTIME=$(SIMTIME) $(GO) test -count 1 -timeout 0 -v -run TestSimulation ./sim

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./steer ./residency ./geodns/... ./edge/sfu/...

# With Consul (`make consul`) it measures mode changes too; without, it says so.
bench-dns: build
	@$(GO) build -o bin/bench-dns ./bench/dns
	@BAILIWICK_CONSUL=$(CONSUL) ./bin/bench-dns

# The report alone is on stdout. CONTROL=--json for JSON, -test.run 'TestControl/folds' for
# one part.
bench-control: consul
	@mkdir -p bin && $(GO) test -c -o bin/bench-control ./bench/control
	@cd bench/control && BAILIWICK_CONSUL=$(CONSUL) ../../bin/bench-control -measure -test.timeout 20m $(CONTROL)

# The report alone is on stdout. Without LiveKit its rows say so.
bench-sfu:
	-@$(MAKE) -s --no-print-directory livekit >&2
	@mkdir -p bin && $(GO) test -c -o bin/bench-sfu ./bench/sfu
	@cd bench/sfu && BAILIWICK_LIVEKIT=$(LIVEKIT) ../../bin/bench-sfu -measure -test.timeout 0 -test.run 'TestSFU|TestSoak' $(SFU)

# The report alone is on stdout. Chromiums in network namespaces: it needs root, or user namespaces.
bench-quality: consul
	-@$(MAKE) -s --no-print-directory livekit >&2
	@npm --prefix bench/quality ci --ignore-scripts --no-audit --no-fund >&2
	@mkdir -p bin && $(GO) test -c -o bin/bench-quality ./bench/quality
	@cd bench/quality && BAILIWICK_CONSUL=$(CONSUL) BAILIWICK_LIVEKIT=$(LIVEKIT) ../../bin/bench-quality -measure -test.timeout 0 $(QUALITY)

clean:
	rm -rf bin
