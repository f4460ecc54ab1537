# mien: `make demo`, `make test`, `make check`. Run `make help` for the list.

PYTHON ?= python3
# The development pin. pip takes whatever build of it your index has; a CPU build is enough.
TORCH ?= torch==2.13.0
VENV ?= .venv
DEMO_VENV ?= .venv/demo
DEV_VENV ?= .venv/dev
SITE_VENV ?= .venv/site
PIP_FLAGS ?= --disable-pip-version-check --quiet
# One process a core, at most four: each holds torch. PYTEST_FLAGS= runs one test after another.
PYTEST_FLAGS ?= -n logical --maxprocesses 4 --dist loadfile
# Lines that the tests reach. Nearly free from Python 3.12 on (sys.monitoring); before that it doubles
# the time in Python, so it has to be asked for: make test COVERAGE=--cov=mien
export COVERAGE_CORE ?= $(shell $(PYTHON) -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")')
COVERAGE ?= $(if $(filter sysmon,$(COVERAGE_CORE)),--cov=mien --cov-report=term:skip-covered)

SOURCES := pyproject.toml $(shell find mien -name '*.py' -o -name '*.onnx' -o -name '*.json' -o -name '*.jpg' -o -path '*/static/*')
.DEFAULT_GOAL := help
.PHONY: bench-install fuzz hostile mutants help demo test browser check format docs site clean FORCE

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 16

demo: $(DEMO_VENV)/.stamp ## install mien alone and analyse the bundled photo, offline
	@$(DEMO_VENV)/bin/mien demo --output out/demo.png

bench-install: ## the size of a fresh base install
	@rm -rf build out/size && $(PYTHON) -m venv out/size && out/size/bin/python -m pip install $(PIP_FLAGS) .
	@out/size/bin/python -P -c "import mien.bench as b; print(f'{b.base_environment_bytes() / 1e6:.1f} MB')"
	@rm -rf out/size

test: $(DEV_VENV)/.stamp ## run the tests (MIEN_DATA names the folder of the datasets, if you have them)
	@$(MAKE) --no-print-directory browser || echo "Chromium was not installed: the page's tests are skipped."
	$(DEV_VENV)/bin/python -m pytest $(COVERAGE) $(PYTEST_FLAGS)

browser: ## install Debian's Chromium for the tests of the web page (needs root and apt-get)
	@if command -v chromium || command -v chromium-browser; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; \
	else echo "No Chromium, and no root to install it: the page's tests are skipped." >&2; fi >/dev/null

check: $(DEV_VENV)/.stamp ## ruff, format and mypy --strict
	$(DEV_VENV)/bin/ruff check .
	$(DEV_VENV)/bin/ruff format --check .
	$(DEV_VENV)/bin/mypy --strict mien

format: $(DEV_VENV)/.stamp ## let ruff put the code in order
	$(DEV_VENV)/bin/ruff check --fix .
	$(DEV_VENV)/bin/ruff format .

docs: $(DEV_VENV)/.stamp ## fill the generated tables and draw the README's picture
	$(DEV_VENV)/bin/python tools/fill_docs.py
	$(DEV_VENV)/bin/python tools/fill_robustness.py
	$(DEV_VENV)/bin/python tools/model_card.py
	$(DEV_VENV)/bin/mien models --markdown > docs/models.md
	$(DEV_VENV)/bin/mien demo --output docs/images/demo.png

site: $(SITE_VENV)/.stamp ## build the pages of docs/ and the API reference into out/site
	NO_MKDOCS_2_WARNING=1 $(SITE_VENV)/bin/mkdocs build --quiet --strict

hostile: $(DEV_VENV)/.stamp ## damaged files, kills and bombs: hours on two cores (HOSTILE="images --count 500" for less)
	$(DEV_VENV)/bin/python benchmarks/hostile.py $(or $(HOSTILE),all --out out/hostile.json)

mutants: $(DEV_VENV)/.stamp ## small changes to the code that the tests must notice (MODULES="draw sinks" SAMPLE=500 MINUTES=60)
	@$(DEV_VENV)/bin/python -m pip install $(PIP_FLAGS) 'mutmut>=3.8,<4'
	$(DEV_VENV)/bin/python tools/mutants.py $(MODULES) --sample $(or $(SAMPLE),60) --minutes $(or $(MINUTES),10) --out out/mutants.json

fuzz: $(DEV_VENV)/.stamp ## coverage-guided fuzzing of what reads untrusted bytes, five minutes a target
	@$(DEV_VENV)/bin/python -m pip install $(PIP_FLAGS) 'atheris>=3,<4'
	@for target in images csv votes parquet modelinfo graph websocket; do mkdir -p out/fuzz/$$target; \
		$(DEV_VENV)/bin/python benchmarks/fuzz.py $$target -max_total_time=300 out/fuzz/$$target tests/corpus/$$target || exit 1; done

clean: ## remove make's environments, caches and the demo's picture; what you trained stays
	rm -rf $(DEMO_VENV) $(DEV_VENV) $(SITE_VENV) build out/demo.png .pytest_cache .mypy_cache .ruff_cache mien.egg-info

# A stamp is newer than what it was made from, so a second run installs nothing.
$(DEMO_VENV)/.stamp: $(SOURCES)
	@echo "Installing mien into $(DEMO_VENV) ..."
	@test -x $(DEMO_VENV)/bin/python || $(PYTHON) -m venv $(DEMO_VENV)
	@rm -rf build
	@$(DEMO_VENV)/bin/python -m pip install $(PIP_FLAGS) .
	@touch $@

# Changes only when another torch is asked for.
$(DEV_VENV)/.torch: FORCE
	@mkdir -p $(DEV_VENV)
	@echo '$(TORCH)' | cmp -s - $@ || echo '$(TORCH)' > $@

# torch is named in the same command as everything that needs it, so that only one build is fetched.
$(DEV_VENV)/.stamp: pyproject.toml $(DEV_VENV)/.torch
	@echo "Installing mien[train,transfer,web,dev] into $(DEV_VENV) ..."
	@test -x $(DEV_VENV)/bin/python || $(PYTHON) -m venv $(DEV_VENV)
	@$(DEV_VENV)/bin/python -m pip install $(PIP_FLAGS) '$(TORCH)' -e '.[train,transfer,web,dev]'
	@touch $@

$(SITE_VENV)/.stamp: Makefile
	@test -x $(SITE_VENV)/bin/python || $(PYTHON) -m venv $(SITE_VENV)
	@$(SITE_VENV)/bin/python -m pip install $(PIP_FLAGS) 'mkdocs-material>=9.5,<10' 'mkdocstrings[python]>=0.27,<2' ruff
	@touch $@

FORCE:
