# make train   install what is needed, then train the quickstart recipe
# make test    install what is needed, then run everything CI runs
# make fuzz    odd inputs by the hundred thousand: an hour; what is found is kept in .hypothesis
# make audit   known vulnerabilities of the locked packages, by PyPI's index of them
# make proofs  the long tests that CI doesn't wait for: docs/proofs.md
# make soak    an hour of training with faults; what grows with the steps is named: soak/
PYTHON ?= python3.11
DEVICE ?= cpu
WORKERS ?= 2
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -qq
LOCK   := requirements/$(DEVICE).txt

.PHONY: install train test unit e2e fuzz proofs soak audit check doctor lock clean

install: $(VENV)/installed-$(DEVICE)

$(VENV)/installed-$(DEVICE): $(LOCK) requirements/torch-cpu.txt requirements/install.sh pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || { echo "$(PYTHON) is not Python 3.11 or 3.12; set PYTHON=…"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@requirements/install.sh $(DEVICE) $(CURDIR)/$(BIN)/python
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/installed-peers: requirements/peers.txt | install
	@$(PIP) install --no-deps --require-hashes --target $(VENV)/peers --upgrade -r requirements/peers.txt
	@touch $@

train: install
	@$(BIN)/mrpo train recipe=quickstart

# mypy takes one core for as long as the unit tests leave one free; their output comes in one piece each.
test: install $(VENV)/installed-peers
	@$(MAKE) --jobs=2 --output-sync=target check unit
	@$(MAKE) e2e

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/run requirements/install.sh tests/slurm/*.sh tests/gpu/*.sh
	$(BIN)/hadolint docker/Dockerfile

unit: install $(VENV)/installed-peers
	OMP_NUM_THREADS=1 $(BIN)/pytest -m unit --hypothesis-profile=ci -n $(WORKERS) tests/unit

e2e: install
	$(BIN)/pytest -m e2e -n $(WORKERS) --dist loadfile tests/e2e tests/slurm

fuzz: install
	FUZZ_EXAMPLES=$(or $(EXAMPLES),20000) $(BIN)/pytest -m unit tests/unit/test_fuzz.py

proofs: install
	$(BIN)/pytest -m proof tests/e2e tests/faults tests/slurm

soak: install
	$(BIN)/python -m tests.faults.soak --minutes $(or $(MINUTES),60) --out $(or $(OUT),soak)

doctor: install
	@$(BIN)/mrpo doctor

# Known vulnerabilities of what is locked. What can't be looked up fails as well: it isn't known to be sound.
audit:
	@test -x $(VENV)-audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/pip install -qq pip-audit; }
	$(VENV)-audit/bin/pip-audit --strict --progress-spinner off --disable-pip --require-hashes \
	  $(patsubst %,-r requirements/%.txt,cpu gpu peers)

# torch's CPU build has a file of its own, made by hand: requirements/torch-cpu.txt. UV_FIND_LINKS may name a folder with
# its wheel, where PyTorch's index can't be reached.
COMPILE := $(BIN)/uv pip compile --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" -q
TORCH_CPU_WHEELS := $(if $(UV_FIND_LINKS),,--find-links https://download.pytorch.org/whl/cpu/torch/)

lock: install
	$(COMPILE) pyproject.toml --extra cpu --extra dev --extra recipes --override requirements/overrides.txt \
	  $(TORCH_CPU_WHEELS) --no-emit-package torch -o requirements/cpu.txt
	$(COMPILE) pyproject.toml --extra gpu --extra dev --extra recipes -o requirements/gpu.txt
	$(COMPILE) requirements/peers.in --no-deps -o requirements/peers.txt

clean:
	rm -rf $(VENV) $(VENV)-audit runs build *.egg-info .mypy_cache .ruff_cache .pytest_cache
