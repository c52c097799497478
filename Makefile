# Thin over meson: what to type. scripts/setup installs what a target needs, and is quiet when nothing is missing.
#
# PREFIX and DESTDIR are for `make install`; BENCH_OPTIONS go to the benchmark; ALL=1 lets `make tidy` look at every
# file, not the changed ones.

PREFIX ?= /usr/local
BUILD := build

# Node, where the machine had none that is recent enough.
export PATH := $(CURDIR)/.tools/bin:$(PATH)

C_FILES = $(shell find src tests fuzz bench -name node_modules -prune -o \( -name '*.[ch]' -o -name '*.cpp' \) -print)
CHANGED = $(shell { git diff --name-only HEAD 2>/dev/null; git ls-files -o --exclude-standard; } | grep '^src/.*\.c$$' | sort -u)
TIDY_FILES = $(if $(ALL),$(filter src/%.c,$(C_FILES)),$(wildcard $(CHANGED)))

.PHONY: all test demo demo-stop bench bench-codec bench-deploy format tidy install clean help

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@scripts/setup build
	@meson setup -Dtests=false $(BUILD)

test:
	@scripts/setup test
	@tools/run-tests

demo:
	@scripts/setup demo
	@$(MAKE) --no-print-directory all
	@scripts/demo

demo-stop:
	@scripts/demo stop

bench: bench-deploy bench-codec bench-metrics bench-crash

bench-codec: $(BUILD)-release
	@ninja -C $(BUILD)-release bench/bench-codec
	@$(BUILD)-release/bench/bench-codec

bench-deploy: $(BUILD)-release
	@HOLDFAST=$(CURDIR)/$(BUILD)-release/src/holdfast node bench/deploy.js $(BENCH_OPTIONS)

# Beside VictoriaMetrics and Prometheus, on the same remote-write bodies.
.PHONY: bench-metrics
bench-metrics: $(BUILD)-release
	@ninja -C $(BUILD)-release bench/bench-write-load
	@HOLDFAST=$(CURDIR)/$(BUILD)-release/src/holdfast WRITE_LOAD=$(CURDIR)/$(BUILD)-release/bench/bench-write-load \
		node bench/metrics.js $(BENCH_OPTIONS)

# 1,000 times kill -9 under load: nothing that was acknowledged may be lost.
.PHONY: bench-crash
bench-crash: $(BUILD)-release
	@ninja -C $(BUILD)-release bench/bench-crash
	@$(BUILD)-release/bench/bench-crash $(BENCH_OPTIONS)

# Optimized as a package would be, and without the tests.
.PHONY: $(BUILD)-release
$(BUILD)-release:
	@scripts/setup bench
	@[ -e $@/build.ninja ] || meson setup -Dtests=false --buildtype=release $@
	@ninja -C $@

format:
	@scripts/setup format
	@clang-format -i $(C_FILES)

tidy: $(BUILD)/build.ninja
	@scripts/setup format
	@tools/tidy
	@$(if $(TIDY_FILES),printf '%s\n' $(TIDY_FILES) | xargs -n 1 -P 2 clang-tidy --quiet -p $(BUILD),:)

install: all
	@meson configure $(BUILD) -Dprefix=$(abspath $(PREFIX))
	@meson install -C $(BUILD) --strip $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

clean:
	@rm -rf build build-release build-asan build-tsan

help:
	@echo 'make               build holdfast in $(BUILD)/'
	@echo 'make test          every test; ends with "N passed, N failed" (tools/run-tests PHASE runs a part)'
	@echo 'make demo          build and deploy the example application, on this machine'
	@echo 'make demo-stop     stop it again'
	@echo 'make bench         every benchmark; make bench-deploy: of deploys under load;'
	@echo '                   bench-codec: of the vectors that samples are stored in;'
	@echo '                   bench-metrics: of the metrics engine beside its peers; bench-crash: 1,000 times kill -9'
	@echo 'make format        clang-format all C files'
	@echo 'make tidy          our rules, then clang-tidy on the changed files (ALL=1: on all)'
	@echo 'make install       to PREFIX=$(PREFIX), below DESTDIR when given'
	@echo 'make clean         remove the build folders'
