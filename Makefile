# Two commands do everything: `make chat` talks with friend, `make test` tests it.
# Both set up .venv themselves; all they need is Python 3.11+, make and a C++ compiler.

VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$python" && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := pyproject.toml constraints.txt
PYTEST := $(BIN)/pytest

.PHONY: help chat serve test lint check-native image image-test faults bench-peers finetune-smoke format \
	bench-cost docs notebooks clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 18

chat: $(VENV)/.ready ## Talk with friend in the terminal
	@$(BIN)/friend chat

serve: $(VENV)/.ready ## Run the model server on this machine
	@$(BIN)/friend serve

test: $(VENV)/.ready-dev ## Run every test
	$(PYTEST) -q --numprocesses 4 --dist worksteal

lint: $(VENV)/.ready-dev ## Style, types, import borders, dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

check-native: $(VENV)/.ready-dev ## The engine under sanitizers, and its ARM kernels under qemu
	PYTHON=$(BIN)/python tests/lambda_inference/native/run_sanitizers.sh build/sanitizers
	tests/lambda_inference/native/run_qemu.sh build/qemu

image: ## Build the images bot and lambda; IMAGES, BASE_IMAGE, MODEL_FILE, PLATFORM choose
	@$(PYTHON) -m deploy.image $(IMAGES) $(if $(BASE_IMAGE),--base-image $(BASE_IMAGE)) \
		$(if $(MODEL_FILE),--model $(MODEL_FILE)) $(if $(PLATFORM),--platform $(PLATFORM))

image-test: $(VENV)/.ready-dev ## Build both images and run them as Lambda and compose do
	FRIEND_IMAGE_TEST=1 IMAGE_BASE=$(BASE_IMAGE) IMAGE_MODEL=$(MODEL_FILE) \
		$(BIN)/python -m pytest -v -s --durations=5 tests/deploy/test_image.py

faults: $(VENV)/.ready-dev ## A long campaign of random faults: FRIEND_FAULT_SEEDS x FRIEND_FAULTS
	FRIEND_FAULTS=$(or $(FRIEND_FAULTS),300) FRIEND_FAULT_SEEDS=$(or $(FRIEND_FAULT_SEEDS),10) \
		$(PYTEST) -q --numprocesses 2 tests/e2e/faults

bench-peers: $(VENV)/.ready-dev ## The engine beside llama.cpp and the rwkv package, in one run
	test -x build/peers/bin/python || $(PYTHON) -m venv build/peers
	build/peers/bin/python -m pip --disable-pip-version-check install --quiet llama-cpp-python
	$(BIN)/friend bench engine --peer-python build/peers/bin/python

finetune-smoke: $(VENV)/.ready-dev ## Fine-tuning in small: train, be killed, go on, export, chat
	$(BIN)/python -m tests.finetuning.smoke

bench-cost: $(VENV)/.ready-dev ## Measure what a reply costs anew, into docs/cost.md
	$(BIN)/python -m benchmarks.cost_page

format: $(VENV)/.ready-dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.ready-dev ## Write the generated parts: .env.example, the settings table
	$(BIN)/python -m friend.reference

notebooks: $(VENV)/.ready-dev ## Bring the notebooks' .py and .ipynb in step
	$(BIN)/jupytext --sync finetuning/notebooks/*.ipynb

clean: ## Remove what was built
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "friend needs Python 3.11 or newer; none was found." >&2; exit 1; }
	@echo "Setting up friend in $(VENV), once; this takes a minute or two." >&2
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: $(VENV)/bin/python $(SOURCES)
	@$(PIP) install --constraint constraints.txt --editable . </dev/null >&2
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	@$(PIP) install --constraint constraints.txt --editable ".[dev]" </dev/null >&2
	@touch $@
