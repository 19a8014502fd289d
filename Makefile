# Every target sets up what it needs, in .venv and nowhere else. `make` alone lists the targets.
#   make lab PYTHON=python3.12          another Python, 3.11 or newer
#   make lab TORCH_INDEX=ADDRESS        torch from an index of its own (README: a smaller, CPU-only torch)
#   make video PROMPT="a blue star moves left" OUT=star.mp4

PYTHON ?= $(or $(shell command -v python3.11 2>/dev/null),python3)
TORCH_INDEX ?=
PROMPT ?= a red circle falls
OUT ?= runs/clip.gif

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout=1800

# Jupyter, IPython and matplotlib keep their settings and caches in .venv too.
HOME_DIR := $(CURDIR)/$(VENV)/home
export JUPYTER_CONFIG_DIR := $(HOME_DIR)/jupyter
export JUPYTER_DATA_DIR := $(HOME_DIR)/jupyter/data
export JUPYTER_RUNTIME_DIR := $(HOME_DIR)/jupyter/runtime
export IPYTHONDIR := $(HOME_DIR)/ipython
export MPLCONFIGDIR := $(HOME_DIR)/matplotlib

.PHONY: help lab test video ui bench notebooks lint doctor clean
.DELETE_ON_ERROR:

help:
	@echo 'make lab                    open the lessons in JupyterLab'
	@echo 'make video PROMPT="..."     write a clip to OUT (now $(OUT)) and print its path'
	@echo 'make test                   lint, then all tests, notebooks included'
	@echo 'make ui                     run the lessons in JupyterLab in a headless Chromium, and use their controls'
	@echo 'make bench                  install the peers and time training, sampling and data against them (half an hour)'
	@echo 'make notebooks              execute and clean every notebook in place'
	@echo 'make lint                   ruff: rules and format'
	@echo 'make doctor                 report on this machine and what to mend'
	@echo 'make clean                  remove .venv and caches (runs/ stays)'

# torch first: a package that needs torch must find the pinned one and leave it alone.
$(STAMP): pyproject.toml constraints.txt
	@echo 'Setting up $(VENV) (once; a few minutes) ...' >&2
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'error: $(PYTHON) is not Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV) || \
		{ rm -rf $(VENV); echo 'error: no virtual environment; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@$(PIP) install -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@$(PIP) install -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torchvision
	@$(PIP) install -c constraints.txt -e '.[lab,dev]'
	@mkdir -p $(VENV)/home && touch $@

lab: $(STAMP)
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_FLAGS) notebooks/00_start_here.ipynb

# One thread for each of the two workers: two that share two cores wait for each other most of the time.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(NBVAL) $(PYTEST_FLAGS)

ui: $(STAMP)
	@$(BIN)/python -c 'import playwright' 2>/dev/null || $(PIP) install -c constraints.txt -e '.[ui]'
	$(BIN)/python -m pytest -rs tests/ui $(PYTEST_FLAGS)

bench: $(STAMP)
	@$(BIN)/python -c 'import diffusers, timm, video_diffusion_pytorch' 2>/dev/null || \
		$(PIP) install -c constraints.txt -e '.[bench]'
	$(BIN)/sora-edu bench $(BENCH_FLAGS)

# The prompt travels in the environment, as typed, so that no character of it means anything to make or the shell.
override PROMPT := $(value PROMPT)
export PROMPT OUT
video: $(STAMP)
	@$(BIN)/sora-edu sample --out "$$OUT" -- "$$PROMPT"

notebooks: $(STAMP)
	$(BIN)/python notebooks/sync.py
	$(BIN)/python notebooks/execute.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

doctor: $(STAMP)
	@$(BIN)/sora-edu doctor

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
