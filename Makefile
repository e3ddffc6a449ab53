# make train   install what is needed, then train the quickstart recipe
# make test    install what is needed, then run everything CI runs
# make fuzz    odd inputs by the hundred thousand: an hour; what is found is kept in .hypothesis
# make proofs  the long tests that CI doesn't wait for: docs/proofs.md
# make soak    an hour of training with faults; what grows with the steps is named: soak/
PYTHON ?= python3.11
DEVICE ?= cpu
WORKERS ?= 2
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -qq
LOCK   := requirements/$(DEVICE).txt
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: install train test unit e2e fuzz proofs soak check doctor lock clean

install: $(VENV)/installed-$(DEVICE)

# Torch comes first and alone: its CPU build from wherever pip finds it, else from PyTorch's index, which then isn't
# asked for each of the other packages.
$(VENV)/installed-$(DEVICE): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || { echo "$(PYTHON) is not Python 3.11 or 3.12; set PYTHON=…"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing torch …"
	@torch=$$(grep '^torch==' $(LOCK)); \
	  if test $(DEVICE) = gpu; then $(PIP) install --no-deps "$$torch"; \
	  else $(PIP) install --no-deps "$$torch" 2>/dev/null || $(PIP) install --no-deps --index-url $(TORCH_CPU_INDEX) "$$torch"; fi
	@echo "installing $$(grep -c == $(LOCK)) pinned packages, a minute or two …"
	@grep -v -e '^torch==' -e '^flash-attn==' $(LOCK) > $(VENV)/lock.txt
	@$(PIP) install --no-deps -r $(VENV)/lock.txt
	@flash=$$(grep '^flash-attn==' $(LOCK)); test -z "$$flash" || $(PIP) install --no-deps --no-build-isolation "$$flash"
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/installed-peers: requirements/peers.txt | install
	@$(PIP) install --no-deps --target $(VENV)/peers --upgrade -r requirements/peers.txt
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
	$(BIN)/shellcheck .ci/run tests/slurm/*.sh
	$(BIN)/hadolint docker/Dockerfile

unit: install $(VENV)/installed-peers
	$(BIN)/pytest -m unit --hypothesis-profile=ci -n $(WORKERS) tests/unit

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

lock: install
	$(BIN)/python -m pip install -qq uv
	$(BIN)/uv pip compile pyproject.toml --extra cpu --extra dev --extra recipes --override requirements/overrides.txt \
	  --python-version 3.11 --no-annotate --custom-compile-command "make lock" -q -o requirements/cpu.txt
	$(BIN)/uv pip compile pyproject.toml --extra gpu --extra dev --extra recipes \
	  --python-version 3.11 --no-annotate --custom-compile-command "make lock" -q -o requirements/gpu.txt

clean:
	rm -rf $(VENV) runs build *.egg-info .mypy_cache .ruff_cache .pytest_cache
