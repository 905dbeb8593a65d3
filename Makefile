# Both commands set up everything they need in .venv; they need Python >= 3.11 and Rust (cargo) on the machine.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile

.PHONY: demo test test-all lint bench docs clean

demo: $(STAMP)
	$(BIN)/memindex demo

test: $(STAMP) lint
	cargo test --quiet --manifest-path core/Cargo.toml
	$(PYTEST) -m "not slow and not kill and not browser"

# All tests: also those that take long, kill processes, or need a browser.
test-all: $(STAMP) lint
	cargo test --quiet --manifest-path core/Cargo.toml
	$(PYTEST)

lint: $(STAMP)
	cargo fmt --manifest-path core/Cargo.toml --check
	cargo clippy --quiet --manifest-path core/Cargo.toml --all-targets -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

# Another corpus: make bench BENCH_CORPUS=pile/ BENCH_TOKENIZER=tokenizer.json BENCH_INDEX=pile-index
BENCH_CORPUS    ?= demo/corpus/train
BENCH_TOKENIZER ?= demo/tokenizer
BENCH_INDEX     ?= demo/python

bench: $(STAMP)
	test -d demo/study || $(BIN)/memindex demo
	$(BIN)/uv pip install --quiet --python $(BIN)/python fast-gram tokengrams
	$(BIN)/python benchmarks/build.py $(BENCH_CORPUS) --tokenizer $(BENCH_TOKENIZER)
	$(BIN)/python benchmarks/repetitive.py $(BENCH_INDEX)
	$(BIN)/python benchmarks/lookups.py $(BENCH_INDEX)
	$(BIN)/python benchmarks/cold.py $(BENCH_INDEX)

docs: $(STAMP)
	$(BIN)/python docs/generate.py
	test ! -d studies/families/results || $(BIN)/python docs/study.py

$(STAMP): pyproject.toml core/Cargo.toml core/Cargo.lock $(wildcard core/src/*.rs)
	@command -v $(PYTHON) >/dev/null || { echo "memindex needs Python 3.11 or newer: https://www.python.org/downloads/"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "memindex needs Python 3.11 or newer, $(PYTHON) is older: set PYTHON=python3.11 (https://www.python.org/downloads/)"; exit 2; }
	@command -v cargo >/dev/null || { echo "memindex needs Rust (cargo): https://rustup.rs"; exit 2; }
	@command -v cc >/dev/null || { echo "memindex needs a C compiler (cc): apt install gcc, or xcode-select --install"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -e '.[models,dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) target core/target demo
