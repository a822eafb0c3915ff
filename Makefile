# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NPM_CI := npm ci --prefix web --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help setup setup-browser demo test test-fast lint format check-gpu bench ui server clean
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) ## the virtual environment with everything in it
$(STAMP): pyproject.toml constraints.txt web/package-lock.json
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: pass PYTHON=..., version 3.11 to 3.13" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[lab,server,http,keras,openvino,ray,dev]'
	@# TensorFlow.js, for the page that runs a network in the browser; what needs it is skipped where npm is missing.
	@if command -v npm >/dev/null; then $(NPM_CI) || echo "npm ci failed: \`figleaf web\` will try again, its tests are skipped" >&2; \
	else echo "npm not found: \`figleaf web\` and its tests need Node.js 20" >&2; fi
	@touch $@

setup-browser: ## Chromium for the tests that look at pages, from Debian's packages
	@command -v apt-get >/dev/null || { echo "no apt-get here: install Chromium so that \`chromium\` is found" >&2; exit 2; }
	$(AS_ROOT) apt-get update --quiet
	$(AS_ROOT) apt-get install --quiet --yes --no-install-recommends chromium

demo: $(STAMP) ## train the demo study on the embedded scenes, show its table, export the winner, score a picture
	$(BIN)/figleaf study run demo --records ignore
	$(BIN)/figleaf study table demo
	$(BIN)/figleaf export run=best:demo out=export/demo
	$(BIN)/figleaf evaluate run=export/demo/model.onnx data=scenes intervals=0 > export/demo/evaluation.json
	@echo
	@echo "table and figures  experiments/demo/README.md"
	@echo "the winner         export/demo/ (model.onnx, model.safetensors, MODEL_CARD.md)"
	@echo "every run          $(BIN)/figleaf ui"
	@echo "your own images    $(BIN)/figleaf data index FOLDER   then   $(BIN)/figleaf train data=manifest data.manifest=FOLDER/manifest.csv"

test: $(STAMP) ## every test
	$(BIN)/pytest -n 2 --dist worksteal

test-fast: $(STAMP) ## the inner loop: no slow, DDP or benchmark tests
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow and not ddp and not bench"

lint: $(STAMP) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## let ruff format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check-gpu: $(STAMP) ## one JSON report on this machine's CUDA devices
	@$(BIN)/figleaf check-gpu

bench: $(STAMP) ## every benchmark; writes benchmarks/README.md
	$(BIN)/python benchmarks/run_all.py

ui: $(STAMP) ## the MLflow pages
	$(BIN)/figleaf ui

server: $(STAMP) ## a tracker for a team: MLflow with PostgreSQL behind it, on this machine
	$(BIN)/figleaf server

clean: ## caches and builds; never the runs
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
