# Everything sets itself up: `make run` and `make test` need Python 3.11 and the package registries.

PYTHON ?= python3.11
STUDY ?= mini
CORES ?= all
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
STUDY_CONFIG := --config study=$(STUDY)
PYTEST := pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help run dry-run why prune test test-all lint format docs clean
.DEFAULT_GOAL := help

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $(READY)

run: $(READY)  ## Run a study from nothing to its report (STUDY=mini, CORES=all)
	. $(BIN)/activate && snakemake --cores $(CORES) $(STUDY_CONFIG)

dry-run: $(READY)  ## Show what would run and why
	. $(BIN)/activate && snakemake --cores $(CORES) $(STUDY_CONFIG) --dry-run

why: $(READY)  ## Say for every job that would run what changed since its last run
	@. $(BIN)/activate && why=$$(mktemp) && said=$$(LAYERSIGHT_WHY=$$why snakemake $(STUDY_CONFIG) \
	--dry-run --quiet all 2>&1) || { echo "$$said"; exit 1; }; \
	if [ -s $$why ]; then cat $$why; else echo "Nothing would run."; fi; rm -f $$why

prune: $(READY)  ## List results that the study no longer names (DELETE=1 removes them)
	. $(BIN)/activate && snakemake $(STUDY_CONFIG) --summary 2>/dev/null \
	| python -m layersight.prune results/$(STUDY) $(if $(DELETE),--delete)

test: $(READY)  ## Run the tests (WORKERS=2 processes)
	. $(BIN)/activate && $(PYTEST)

test-all: $(READY)  ## Run all tests, the slow ones too
	. $(BIN)/activate && $(PYTEST) -m ''

lint: $(READY)  ## Check style, types and rules
	. $(BIN)/activate && ruff check . && ruff format --check . && snakefmt --check Snakefile workflow/rules \
	&& mypy && snakemake --lint $(STUDY_CONFIG)

format: $(READY)  ## Lay out the code
	. $(BIN)/activate && ruff check --fix . && ruff format . && snakefmt Snakefile workflow/rules

docs: $(READY)  ## Write the study's JSON schema and reference page again
	. $(BIN)/activate && python -m layersight.reference

clean:  ## Remove the results of the study; the asset cache stays
	rm -rf results/$(STUDY)
