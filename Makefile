# Every command of the project. Needs Python 3.11 or newer and make; the rest is installed into .venv.
#
#   make demo                           torch as pip chooses it (on Linux: a CUDA build)
#   make test TORCH=torch==2.13.0       a given torch, for instance a CPU build that pip finds locally
#   make test ARGS="-k geometry"        ARGS go to the command that the target runs
#   make test-in-krita6                 the tests in one of the real editors, see tests/hosts/chroots.py

TORCH  ?= torch
PYTHON ?= python3
CONFIG ?= clipart
ARGS   ?=

HOSTS  ?= krita51 krita52 krita6 gimp30 gimp32

BIN    := .venv/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
SAMPLE := core/lazydiffusion/assets/sample

.PHONY: help demo plugins test test-small test-hosts $(HOSTS:%=test-in-%) check format train bench bench-service clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A stamp tells what is installed; it is older than pyproject.toml when that has changed since.
# torch comes first and by its own name, so that no later line makes pip choose a second one.
.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("LazyDiffusion needs Python 3.11 or \
	newer and this is %d.%d. Name another: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(PIP) install "$(TORCH)"
	$(PIP) install --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) install --editable '.[dev]'
	@touch $@

demo: .venv/installed ## fill a hole in the sample canvas: demo/before.png, after.png, layer.png
	@mkdir -p demo
	cp $(SAMPLE)/canvas.png demo/before.png
	$(BIN)/lazydiffusion fill $(SAMPLE)/canvas.png --mask $(SAMPLE)/mask.png \
	    --prompt "$$(cat $(SAMPLE)/prompt.txt)" --out demo/after.png --layer demo/layer.png $(ARGS)

plugins: .venv/installed ## the zips for Krita and GIMP, in dist/; ARGS="--install krita" or "--install gimp" installs one
	$(BIN)/python build_plugins.py $(ARGS)

test: .venv/installed-dev ## install what the tests need and run them
	$(BIN)/pytest $(ARGS)

test-hosts: .venv/installed-dev ## run the tests in real editors, as root; the first time builds Debian chroots for them
	$(BIN)/python -m tests.hosts.chroots
	+$(MAKE) --no-print-directory --jobs=2 --output-sync=target --keep-going $(HOSTS:%=test-in-%)

$(HOSTS:%=test-in-%): test-in-%: .venv/installed-dev
	@mkdir -p build
	$(BIN)/pytest --hosts tests/hosts --host $* --junitxml=build/test-in-$*.xml $(ARGS)

test-small: .venv/installed-dev ## run the tests of weights in eight bits, with a torchao that nothing else sees
	$(BIN)/pip install --quiet --upgrade --no-deps --target build/small "torchao>=0.15"
	PYTHONPATH=build/small $(BIN)/python -c "import torchao.quantization"
	PYTHONPATH=build/small $(BIN)/pytest tests/engines/test_flux2_weights.py $(ARGS)

check: .venv/installed-dev ## lint, formatting, types, and who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev ## put the code into its format
	$(BIN)/ruff check --select I --fix
	$(BIN)/ruff format

train: .venv/installed-dev ## train the model that CONFIG (a name or a file) describes
	$(BIN)/lazydiffusion train $(CONFIG) $(ARGS)

bench: .venv/installed-dev ## time, memory and operations of the engines on this machine: build/bench
	$(BIN)/lazydiffusion bench --out build/bench $(ARGS)

bench-service: .venv/installed-dev ## time what the resident core adds to an edit on this machine
	$(BIN)/python -m lazydiffusion.evaluation.service_timing $(ARGS)

clean: ## remove what these commands made, but for .venv and runs/
	rm -rf build demo dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find core gimp_plugin krita_plugin tests -name __pycache__ -type d -prune -exec rm -rf {} +
