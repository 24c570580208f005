# Set-up, the demo, tests, lint and benchmarks. Needs Python 3.11+, a C compiler and make; the rest is installed
# into .venv by whichever target comes first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FUZZ_SECONDS ?= 120
SOURCES := pyproject.toml setup.py $(foreach kind,pyx pxd h,$(wildcard src/fastbars/*.$(kind) src/fastbars/*/*.$(kind)))
COMPILED := $(subst /,.,$(patsubst src/%.pyx,%,$(wildcard src/fastbars/*.pyx src/fastbars/*/*.pyx)))

.PHONY: demo test coverage lint fuzz docs soak bench bench-bounds bench-smoke bench-check bench-instructions bench-baseline bench-peers wheel clean

demo: $(VENV)/.installed
	$(BIN)/fastbars demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal

# The same, and which lines it reaches; a fifth slower.
coverage: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal --cov --cov-report=term --cov-fail-under=90

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --allowlist tests/stubtest-allowlist.txt $(COMPILED)
	$(BIN)/zizmor --offline --quiet --persona pedantic .github
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

fuzz: $(VENV)/.fuzz
	$(BIN)/python tools/run_fuzzers.py --seconds $(FUZZ_SECONDS)

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -E -b html docs build/docs

# The client against eight simulated exchanges and a fault every second.
SOAK_SECONDS ?= 600
soak: $(VENV)/.installed
	$(BIN)/python tools/soak.py --seconds $(SOAK_SECONDS)

bench: $(VENV)/.installed
	$(BIN)/python -m pytest benchmarks -p no:cacheprovider --full --timeout=900 \
		--benchmark-columns=min,median,stddev,rounds

# The kernel beside plain C, DuckDB, polars and numba at every density of trades; writes its table into the documentation.
bench-kernel: $(VENV)/.installed
	$(BIN)/python -m benchmarks.kernel --specs --write

# Every bound that docs/performance.md states, in the long form: for a machine that is left alone.
bench-bounds: $(VENV)/.installed
	$(BIN)/python -m benchmarks.kernel --check
	$(BIN)/python -m pytest benchmarks -p no:cacheprovider --full --timeout=900 --benchmark-skip

bench-smoke: $(VENV)/.installed
	$(BIN)/python -m pytest benchmarks -p no:cacheprovider --benchmark-disable-gc --benchmark-min-rounds=3 \
		--benchmark-max-time=0.2 --benchmark-columns=min,median,rounds

# Ratios to the references and instruction counts against benchmarks/baseline.json, or against BEFORE, the baseline of
# another checkout on this machine; bench-baseline writes it anew.
bench-check bench-baseline: $(VENV)/.installed
	mkdir -p build
	$(BIN)/python -m pytest benchmarks -q -p no:cacheprovider --benchmark-disable-gc --benchmark-json=build/bench.json
	$(BIN)/python -m benchmarks.check build/bench.json $(if $(filter bench-baseline,$@),--update,$(if $(BEFORE),--before $(BEFORE)))

# The part of bench-check that no busy neighbour disturbs.
bench-instructions: $(VENV)/.installed
	$(BIN)/python -m benchmarks.check

# Installs each peer into an environment of its own under build/peers; a first run takes minutes.
bench-peers: $(VENV)/.installed
	$(BIN)/python -m benchmarks.peers

wheel: $(VENV)/.wheel
	$(BIN)/python tools/build_wheel.py

# These add to what is installed; nothing is compiled again for them.
$(VENV)/.fuzz: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet "fastbars[fuzz]"
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet "fastbars[docs]"
	touch $@

$(VENV)/.wheel: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet "fastbars[wheel]"
	touch $@

$(VENV)/.installed: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[lint]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info src/fastbars/*.c src/fastbars/*.so src/fastbars/*/*.c src/fastbars/*/*.so
