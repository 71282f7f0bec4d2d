# Every target sets up what it needs: .venv with the hash-pinned packages of the lock file.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
TEXT ?=
MIRROR ?=
VERSION ?=
FORCE ?=
IN ?= -
FILE ?= kaznews.npz
HOST ?= 127.0.0.1
PORT ?=
WORKERS ?= 1
SEARCH ?= default
MODEL ?= models:/kaznews@champion
OPEN ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help train test lint ui predict export evaluate sweep search data audit suggest promote rollback
.PHONY: serve soak language results bench lock clean encoder distil test-ray test-encoder
.PHONY: test-browser screenshots

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

train: $(VENV)/.train $(if $(findstring parallel=ray,$(ARGS)),$(VENV)/.ray) ## train, evaluate, log and register; ARGS="task=topic classifier=sgd"
	@$(BIN)/python -m kaznews.train $(ARGS)

test: $(VENV)/.test lint ## lint, types and all tests; ARGS="-k text" for some
	@$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

test-encoder: $(VENV)/.test $(VENV)/.encoder ## the tests of the real encoder alone
	@$(BIN)/python -m pytest -n 0 tests/encoder $(ARGS)

test-ray: $(VENV)/.test $(VENV)/.ray ## install Ray and test on a cluster of two nodes, one of them killed
	@$(BIN)/python -m pytest tests/ray $(ARGS)

test-browser: $(VENV)/.browser ## MLflow's pages in a real browser (Chromium in PATH, or CHROMIUM=…)
	@$(BIN)/python -m pytest tests/browser $(ARGS)

screenshots: $(VENV)/.browser ## take README's pictures of MLflow anew, from the same tests
	@KAZNEWS_SCREENSHOTS=docs $(BIN)/python -m pytest tests/browser $(ARGS)

lint: $(VENV)/.test ## ruff, mypy and hadolint alone
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	@$(BIN)/hadolint Dockerfile

ui: $(VENV)/.train ## MLflow on 127.0.0.1:PORT over what has been trained; OPEN=1 opens it
	@$(BIN)/kaznews ui --port $(or $(PORT),5000) $(if $(OPEN),--open)

serve: $(VENV)/.train ## answer over HTTP on HOST:PORT; WORKERS=2 MODEL=kaznews.npz
	@$(BIN)/kaznews serve --host $(HOST) --port $(or $(PORT),5001) --workers $(WORKERS) \
	  --model "$(MODEL)" $(ARGS)

encoder: $(VENV)/.train $(VENV)/.encoder ## install the encoder of features=encoder
	@echo "the encoder is installed: make train ARGS=features=encoder_char_wb"

distil: $(VENV)/.train $(VENV)/.encoder ## train fast models on labels and on what a teacher says
	@$(BIN)/python -m kaznews.train data=gold distil=default $(ARGS)

predict: export KAZNEWS_TEXT := $(value TEXT)
predict: $(VENV)/.train ## label one sentence with the champion; TEXT="…"
	@$(BIN)/kaznews predict $(ARGS) -- "$$KAZNEWS_TEXT"

export: $(VENV)/.train ## the champion as one file that needs NumPy alone; FILE=kaznews.npz
	@$(BIN)/kaznews export $(ARGS) -- "$(FILE)"

evaluate: $(VENV)/.train ## score a model; ARGS="--data FILE.jsonl --json OUT"
	@$(BIN)/kaznews evaluate $(ARGS)

sweep: $(VENV)/.train $(if $(findstring ray,$(ARGS)),$(VENV)/.ray) ## try all combinations; ARGS="features=word,char_wb classifier=sgd,linear_svc"
	@$(BIN)/python -m kaznews.train --multirun register=false \
	  $(if $(findstring hydra/launcher=,$(ARGS)),,hydra/launcher=joblib) $(ARGS)

search: $(VENV)/.train ## cross-validate the recipes of conf/search on train, recommend a preset a task; SEARCH=encoder
	@$(BIN)/python -m kaznews.train command=search search=$(SEARCH) data=both \
	  $(if $(filter default,$(SEARCH)),distil=best) $(ARGS)

data: $(VENV)/.train ## fetch the public files of data=gold; MIRROR=dir reads a local copy
	@$(BIN)/kaznews data $(if $(MIRROR),--mirror "$(MIRROR)")

audit: $(VENV)/.train ## likely label errors, near-duplicates, leaks; ARGS="data=gold"
	@$(BIN)/python -m kaznews.train command=audit $(ARGS)

suggest: $(VENV)/.train ## sentences worth labelling next, for Label Studio; IN=unlabelled.txt
	@$(BIN)/kaznews suggest --input "$(IN)" $(ARGS)

promote: export KAZNEWS_FORCE := $(value FORCE)
promote: $(VENV)/.train ## make the challenger champion, or VERSION=n; FORCE="why" if refused
	@$(BIN)/kaznews promote $(if $(VERSION),--version $(VERSION)) \
	  $(if $(FORCE),--force "$$KAZNEWS_FORCE")

rollback: $(VENV)/.train ## make the previous champion champion again
	@$(BIN)/kaznews rollback

language: $(VENV)/.train ## measure what tells Kazakh from other languages
	@$(BIN)/python benchmarks/language.py

results: $(VENV)/.train ## measure the tables of README anew into experiments/results, beside other tools
	@$(MAKE) --no-print-directory $(VENV)/.encoder || echo "without the encoder: its rows are left out" >&2
	@$(MAKE) --no-print-directory $(VENV)/.bench || echo "without fastText: its row is left out" >&2
	@$(BIN)/python -m benchmarks.transfer
	@$(BIN)/python -m benchmarks.peers
	@$(BIN)/python -m benchmarks.sib200
	@$(BIN)/python -m benchmarks.readme

soak: $(VENV)/.train ## garbage and 10,000 requests against a running server; speed and memory
	@$(BIN)/python -m benchmarks.serve $(ARGS)

bench: $(VENV)/.bench ## speed and memory beside scikit-learn and fastText; ARGS=--large
	@$(BIN)/python benchmarks/features.py $(ARGS)

lock: $(VENV)/.test ## resolve the lock files anew from pyproject.toml
	@$(BIN)/uv pip compile -q pyproject.toml --extra build --universal --python-version 3.11 \
	  --generate-hashes --no-header -o requirements.lock
	@$(BIN)/uv pip compile -q pyproject.toml --extra build --extra dev -c requirements.lock \
	  --universal --python-version 3.11 --generate-hashes --no-header -o requirements-dev.lock
	@$(BIN)/uv pip compile -q pyproject.toml --extra build --extra bench -c requirements.lock \
	  --universal --python-version 3.11 --generate-hashes --no-header -o requirements-bench.lock
	@$(BIN)/uv pip compile -q pyproject.toml --extra build --extra ray --extra ray-launcher \
	  -c requirements.lock --universal --python-version 3.11 --generate-hashes --no-header \
	  -o requirements-ray.lock
	@$(BIN)/uv pip compile -q pyproject.toml --extra build --extra encoder -c requirements.lock \
	  --universal --python-version 3.11 --generate-hashes --no-header -o requirements-encoder.lock
	@$(BIN)/uv pip compile -q pyproject.toml --extra build --extra browser -c requirements-dev.lock \
	  --universal --python-version 3.11 --generate-hashes --no-header -o requirements-browser.lock

clean: ## remove the environment and caches; keeps experiments
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "kaznews needs Python 3.11 or newer; name one with PYTHON=…" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)

# A stamp is written last: an interrupted installation is taken up again.
$(VENV)/.train: requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing the packages of $< into $(VENV) …"
	@$(BIN)/python -m pip install -q --require-hashes -r $<
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/.test: requirements-dev.lock $(VENV)/.train
	@echo "installing the packages of $< into $(VENV) …"
	@$(BIN)/python -m pip install -q --require-hashes -r $<
	@touch $@

$(VENV)/.bench: requirements-bench.lock $(VENV)/.train
	@echo "installing the packages of $< into $(VENV) …"
	@$(BIN)/python -m pip install -q --require-hashes -r $<
	@touch $@

# Without dependencies: the lock is complete, and pip would mind what [tool.uv] overrides.
$(VENV)/.ray: requirements-ray.lock $(VENV)/.train
	@echo "installing the packages of $< into $(VENV) …"
	@$(BIN)/python -m pip install -q --no-deps --require-hashes -r $<
	@touch $@

$(VENV)/.encoder: requirements-encoder.lock $(VENV)/.train
	@echo "installing the packages of $< into $(VENV) …"
	@$(BIN)/python -m pip install -q --require-hashes -r $<
	@touch $@

$(VENV)/.browser: requirements-browser.lock $(VENV)/.test
	@echo "installing the packages of $< into $(VENV) …"
	@$(BIN)/python -m pip install -q --require-hashes -r $<
	@touch $@
