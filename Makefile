# Needs the Go toolchain and nothing else.
GO       ?= go
TOOLS    := $(GO) tool -modfile=tools/go.mod
BIN      := bin/dynamo
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT   ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
FUZZTIME ?= 3s
MINUTES  ?= 60
RUNS     ?= 20
SEED     ?= 1
SECONDS  ?= 60
NETWORK  ?= auto
CLANG    ?= clang
SIMULATOR := node/sim/host/module/sim.wasm.gz

.PHONY: all build demo test lint unit storm fuzz fuzz-short soak mutants simulate chaos scenarios bench examples guests plugins plugins-check clean

all: build

build: $(SIMULATOR) ## the binary, with the simulator in it
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/dynamo

# The simulator takes a minute to build at first, and the demo can do without.
demo: ## two clients write one cart on both sides of a cut
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/dynamo
	$(GO) run ./examples/cart-merge demo --dynamo $(BIN) --config configs/local.yaml

$(SIMULATOR): go.mod go.sum tools/sim/build.sh $(shell find node resolver plugins tools/sim -name '*.go' -not -name '*_test.go' -o -path 'plugins/wasm/*.wasm')
	GO='$(GO)' ./tools/sim/build.sh $(@:.gz=)
	gzip -9 -n -f $(@:.gz=)

test: lint plugins-check $(SIMULATOR) simulate unit storm fuzz-short ## everything CI runs

lint: ## formatting, vet, staticcheck, modernisers
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt: $$out"; exit 1; fi
	@out=$$($(TOOLS) gofumpt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofumpt: $$out"; exit 1; fi
	$(GO) vet ./...
	GOOS=wasip1 GOARCH=wasm $(GO) vet ./resolver/guest ./examples/cart-merge/guest ./examples/guests/go ./examples/guests/go-parser ./examples/guests/command-go
	$(TOOLS) staticcheck ./...
	$(GO) fix -diff ./...

unit: ## all tests under the race detector, the simulated and the real cluster among them; storm has its own
	$(GO) test -race -timeout 10m $$($(GO) list ./... | grep -v /tests/chaos)

fuzz-short: FUZZTIME = 1s
fuzz-short: fuzz ## every fuzz target for a moment

fuzz: ## every fuzz target for FUZZTIME
	GO='$(GO)' FUZZTIME='$(FUZZTIME)' ./tools/fuzz.sh

simulate: ## 200 short seeds of simulated clusters on this machine's scheduler, and a few to the byte
	$(GO) test -count 1 ./node/sim/storm -run '^TestStorm$$' -storm.seeds 200 -storm.length 8s
	$(GO) run ./cmd/dynamo sim --seeds 8 --seconds 8

soak: build ## simulated clusters under faults on all cores for MINUTES, from SEED on
	$(BIN) sim --for $(MINUTES)m --seed $(SEED) --seconds 10

mutants: ## the simulator must catch every deliberately broken node
	./tools/sim/mutants.sh

storm: ## one minute of kills, stops, wipes and cuts against five real processes
	$(GO) test -count 1 ./tests/chaos -chaos.seconds 60

chaos: ## RUNS such storms of SECONDS each, from SEED on
	$(GO) test -count 1 -timeout 3h -v ./tests/chaos -run TestStorm -chaos.seed $(SEED) -chaos.runs $(RUNS) -chaos.seconds $(SECONDS) -chaos.network $(NETWORK)

scenarios: ## two nodes away, and one disk lost, under 100000 keys
	$(GO) test -count 1 -timeout 30m -v ./tests/chaos -run TestScenarios -chaos.scenarios

bench: ## benchmarks, in a form that benchstat reads; BenchmarkGuests has native Go beside the guests
	$(GO) test -run '^$$' -bench . -benchmem -count 6 ./node/... ./resolver/... ./examples/guests

examples: ## rebuild the committed guest modules
	cd examples/cart-merge && GOOS=wasip1 GOARCH=wasm $(GO) build -buildmode=c-shared -trimpath -buildvcs=false -ldflags='-s -w -buildid=' -o cart.wasm ./guest
	$(GO) run ./examples/cart-merge/embed examples/cart-merge/cart.wasm examples/cart-merge/samples/*.json

guests: ## rebuild the example guests of all languages that this machine can compile
	GO='$(GO)' ./examples/guests/build.sh

plugins: ## recompile the ready-made resolvers; needs clang and wasm-ld
	rm -f plugins/wasm/*.wasm
	./plugins/build.sh "$(CURDIR)/plugins/wasm" $(CLANG)
	chmod 644 plugins/wasm/*.wasm
	./plugins/build.sh --version $(CLANG) >plugins/COMPILER
	$(GO) run ./plugins/seal -sums plugins plugins/wasm

plugins-check: ## the same bytes come out again, where the compiler is the one that was used
	GO='$(GO)' ./plugins/check.sh $(CLANG)

clean:
	rm -rf bin dynamo-data data
