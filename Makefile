# Two commands on a fresh machine with Python 3.11: `make demo` and `make test`.

PYTHON ?= python3.11
CORES ?= $(shell nproc)
BENCH_FILES ?= results/bench
CORRELATION ?= 1.0
VIDEO_WEIGHTS ?= random
RESULTS ?= results/demo$(if $(filter-out 1 1.0,$(CORRELATION)),-correlation-$(CORRELATION))$(if $(filter-out random,$(VIDEO_WEIGHTS)),-real)

.PHONY: help demo study explore results-there check test lint docs bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/ready ## Render music videos and run the whole workflow on them (CORES, CORRELATION, VIDEO_WEIGHTS, RESULTS)
	.venv/bin/snakemake --cores $(CORES) --configfile config/demo.yaml --config results='$(RESULTS)' \
		render='{correlation: $(CORRELATION)}' backbones='{r2plus1d: {weights: "$(VIDEO_WEIGHTS)"}}'
	@echo "The report: $(RESULTS)/report/index.html"

study: .venv/ready ## Answer the paper's open questions on rendered music videos (CORES)
	.venv/bin/snakemake study --cores $(CORES) --configfile config/study_demo.yaml
	@echo "The page: results/study/report/study.html"

explore: results-there .venv/ready .venv-explore/ready ## Show a map of the videos in a browser on this machine (RESULTS, CORES)
	test -e '$(RESULTS)/report/atlas.parquet' || .venv/bin/snakemake atlas --cores $(CORES) \
		--configfile '$(RESULTS)/config.json' --config results='$(RESULTS)'
	.venv-explore/bin/python -m eval.atlas.site '$(RESULTS)'

results-there:
	@test -e '$(RESULTS)/config.json' || { echo "error: $(RESULTS) has no results; run make demo, or name yours: make explore RESULTS=…"; exit 2; }

check: lint ## Check style and types and run the unit tests
	.venv/bin/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder -m unit

test: .venv/ready-test ## Run all tests
	.venv/bin/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

lint: .venv/ready-test ## Check style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check Snakefile config data pipeline heads eval study
	.venv/bin/codespell README.md CHANGELOG.md CONTRIBUTING.md docs bench config data eval heads pipeline study tests
	.venv/bin/mypy

docs: .venv/ready-test ## Build the documentation as a site in results/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

bench: .venv/ready-test ## Measure decoders, modes, extraction and the store (BENCH_FILES: where its 30 GB are kept)
	.venv/bin/python -m bench.media '$(BENCH_FILES)'
	.venv/bin/python -m bench.decode '$(BENCH_FILES)'
	.venv/bin/python -m bench.keyframes '$(BENCH_FILES)'
	.venv/bin/python -m bench.shards '$(BENCH_FILES)'
	.venv/bin/python -m bench.passes '$(BENCH_FILES)'
	.venv/bin/python -m bench.modes '$(BENCH_FILES)'
	.venv/bin/python -m bench.images '$(BENCH_FILES)'
	.venv/bin/python -m bench.scaling '$(BENCH_FILES)'
	.venv/bin/python -m bench.extract '$(BENCH_FILES)'
	.venv/bin/python -m bench.workflow
	test -e '$(BENCH_FILES)/cache/features.json' || .venv/bin/python -m bench.fill '$(BENCH_FILES)/cache'
	.venv/bin/python -m bench.store '$(BENCH_FILES)/cache' '$(BENCH_FILES)/copies'
	.venv/bin/python -m bench.moments '$(BENCH_FILES)/cache'
	test ! -e results/demo/features.json || .venv/bin/python -m bench.duplicates '$(BENCH_FILES)/duplicates' results/demo --cache '$(BENCH_FILES)/cache'
	test ! -e .venv-explore/ready || .venv/bin/python -m bench.atlas '$(BENCH_FILES)/atlas'
	.venv/bin/python -m bench.query size '$(BENCH_FILES)/query'
	test ! -e results/demo/heads || .venv/bin/python -m bench.query audio results/demo
	.venv/bin/python -m bench.train '$(BENCH_FILES)/cache'
	.venv/bin/python -m bench.load
	.venv/bin/python -m bench.ranks
	test ! -e results/study/report/study.html || .venv/bin/python -m bench.study results/study
	test ! -e results/study/study/paper_code.json || .venv/bin/python -m bench.paper_code results/paper_code results/study
	test ! -e results/clips/study/sources.json || .venv/bin/python -m bench.clips results/clips
	.venv/bin/python -m bench.tables

clean: ## Delete the environments (results stay)
	rm -rf .venv .venv-explore

.venv/ready: requirements.txt constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet -r requirements.txt -c constraints.txt
	touch $@

.venv/ready-test: .venv/ready requirements-test.txt
	.venv/bin/python -m pip install --quiet -r requirements-test.txt -c constraints.txt
	touch $@

.venv-explore/ready: requirements-explore.txt
	$(PYTHON) -m venv .venv-explore
	.venv-explore/bin/python -m pip install --quiet --no-deps -r requirements-explore.txt
	touch $@
