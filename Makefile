# What can be done here; `make` lists it. Needs Rust and Python 3.11 or newer; the rest goes into .venv.
PYTHON ?= python3
ARGS ?=

BIN := $(CURDIR)/.venv/bin
# One interpreter for every build of the binding, so that cargo does not rebuild it in turns.
export PYO3_PYTHON := $(BIN)/python
PEER_PYTHON ?= $(wildcard $(CURDIR)/.venv-peers/bin/python)
RUST := Cargo.toml Cargo.lock pyproject.toml $(shell find src -type f)
LINTED := python tests benches examples
RUN_RUST_TESTS := $(shell cargo nextest --version >/dev/null 2>&1 && echo nextest run || echo test --lib --tests)

.PHONY: help build demo test test-rust test-python check bench peers wheel smoke emulated clean

help:
	@echo "make demo      search real texts and a million rows beside numpy, all answers checked: ARGS='--rows N'"
	@echo "make test      Rust tests, then Python tests"
	@echo "make check     formatting, lints, types, and the stub against the built module"
	@echo "make build     the extension module in release, importable from .venv"
	@echo "make bench     beside other libraries: ARGS='--rows 100000', see benches/compare.py --help"
	@echo "make peers     install those libraries into .venv-peers (large)"
	@echo "make wheel     dist/*.whl, for CPython 3.11 and newer"
	@echo "make smoke     install that wheel where there is no Rust, and try it"
	@echo "make emulated  Rust tests and one Python test file on an emulated CPU without AVX (needs qemu-x86_64)"
	@echo "make clean     remove what these made"

build: .venv/.built

.venv/.tools: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet 'pip>=25.1'
	$(BIN)/pip install --quiet --group dev
	touch $@

.venv/.built: .venv/.tools $(RUST)
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin develop --release --locked --extras test
	touch $@

demo: .venv/.built
	$(BIN)/python examples/demo.py $(ARGS)

test: test-rust test-python

test-rust:
	cargo $(RUN_RUST_TESTS) --locked
	cargo test --locked --doc

test-python: .venv/.built
	$(BIN)/python -m pytest $(ARGS)

check: .venv/.built
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --features python -- -D warnings
	$(BIN)/ruff format --check $(LINTED)
	$(BIN)/ruff check $(LINTED)
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest nseekfs._core

bench: .venv/.built
	@test -n "$(PEER_PYTHON)" || echo "No peers are installed: make peers, or PEER_PYTHON=/path/to/python"
	$(BIN)/python benches/compare.py $(if $(PEER_PYTHON),--peer-python $(PEER_PYTHON)) $(ARGS)
	@echo "More: python benches/recall.py, benches/memory.py, benches/larger.py, benches/manners.py, benches/failures.py, benches/clusters.py, benches/living.py, benches/readers.py, benches/crash.py, benches/bits.py; cargo bench"

peers: .venv/.tools
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet 'pip>=25.1'
	.venv-peers/bin/pip install --quiet --group peers

wheel: .venv/.tools
	rm -f dist/*.whl
	$(BIN)/maturin build --profile wheel --locked --interpreter $(BIN)/python --out dist
	@ls -l dist

smoke: wheel
	rm -rf dist/smoke
	$(PYTHON) -m venv dist/smoke
	dist/smoke/bin/pip install --quiet dist/*.whl
	cd dist/smoke && PATH=/usr/bin:/bin bin/python ../../tests/smoke.py

# The emulator cannot map the terabyte of the one test left out.
EMULATOR := qemu-x86_64 -cpu Nehalem
emulated: .venv/.built
ifeq ($(shell command -v qemu-x86_64),)
	@echo "SKIPPED: qemu-x86_64 is not installed (Debian: qemu-user); nothing was checked"
else
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='$(EMULATOR)' NSEEKFS_TEST_KERNELS=scalar,portable PROPTEST_CASES=16 \
	  cargo test --locked --lib --tests -- --skip a_huge_sparse_file
	$(EMULATOR) $(BIN)/python -m pytest tests/python/test_filter.py
endif

clean:
	rm -rf .venv .venv-peers dist target
