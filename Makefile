# `make demo` and `make test` set everything up by themselves, with pip: this package in .venv, vLLM in
# the private environment of `qwen3-reranker install-engine`, other servers in environments of their own.

PYTHON ?= python3
BIN = .venv/bin
LOW = .venv-lowest/bin
SGLANG = .venv-sglang/bin
LITELLM = .venv-litellm/bin
INFINITY = .venv-infinity/bin
LLAMA_CPP = .venv-llama-cpp/bin
CLIENTS = .venv-clients/bin
XINFERENCE = .venv-xinference/bin
# Where pip finds a CPU build of torch if its own indexes have none.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
# With its local version, because "torch" alone would install gigabytes of CUDA.
TORCH_CPU = torch==2.13.0+cpu

# $(call venv,FOLDER): a virtual environment with a recent pip.
venv = $(PYTHON) -m venv $(1) && $(1)/bin/pip install --quiet --upgrade "pip>=25.1"
# $(call torch,FOLDER): the CPU build of torch in it.
torch = $(1)/bin/pip install --quiet "$(TORCH_CPU)" || \
	$(1)/bin/pip install --quiet "$(TORCH_CPU)" --extra-index-url $(TORCH_CPU_INDEX)
# $(call own_engine,FOLDER): a variable that makes FOLDER the place where `install-engine` creates its
# environment and where the package looks for it.
own_engine = XDG_DATA_HOME="$(CURDIR)/$(1)"

# Engines take seconds to start, on one core each. tests/conftest.py says which tests stay together.
TWO = --numprocesses 2 --dist loadscope --no-loadscope-reorder

# With fewer examples of property tests than `make test`.
FAST = --hypothesis-profile fast -m "not engine and not servers and not slow" tests/unit

.DEFAULT_GOAL = help
.PHONY: help demo notebooks screenshots test test-fast test-python check docs setup engine servers platforms bench load-gateway dist test-install test-lowest test-ray test-xinference soak fuzz clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z][a-z%-]*:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: engine ## Ask Python's standard library through both frameworks
	$(BIN)/python examples/demo.py

notebooks: .venv/ready engine ## Execute examples/notebooks and save what they show
	PYTHONPATH=tests $(BIN)/python -m support.notebooks

screenshots: .venv/ready ## Take the screenshots of docs/how-to/playground.md and evaluate.md, with Debian's package chromium
	PYTHONPATH=tests $(BIN)/python -m support.playground_screenshots
	PYTHONPATH=tests $(BIN)/python -m support.report_picture

test: check setup ## Run the checks and all tests, with real engines and servers
	$(BIN)/python -m pytest $(TWO)

test-fast: .venv/ready ## Run the quick tests, without engines and servers
	$(BIN)/python -m pytest $(TWO) $(FAST)

# For another interpreter, such as PYTHON=python3.13. Where there is no CPU build of torch for it, the usual one
# is installed.
test-python: .venv-$(notdir $(PYTHON))/ready ## Run test-fast with another Python: make test-python PYTHON=python3.13
	.venv-$(notdir $(PYTHON))/bin/python -m pytest $(TWO) $(FAST)

.venv-$(notdir $(PYTHON))/ready: pyproject.toml
	$(call venv,.venv-$(notdir $(PYTHON)))
	$(call torch,.venv-$(notdir $(PYTHON))) || .venv-$(notdir $(PYTHON))/bin/pip install --quiet "$(TORCH_CPU:+cpu=)"
	.venv-$(notdir $(PYTHON))/bin/pip install --quiet -e ".[cli,evaluation,gateway,langchain,llama-index,playground,ray,transformers]" --group dev
	touch $@

check: .venv/ready docs ## Run ruff and mypy, and build the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# mkdocs reads the source without importing it.
docs: .venv-docs/ready ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

.venv-docs/ready: pyproject.toml
	$(call venv,.venv-docs)
	.venv-docs/bin/pip install --quiet --group docs
	touch $@

setup: .venv/ready engine servers ## Create all environments

# If vLLM is installed already, this prints where.
engine: .venv/ready-demo ## Install vLLM into its private environment
	$(BIN)/qwen3-reranker install-engine

# The servers that the tests use, and published clients. Each pins versions of its own, so each has its own
# environment.
servers: .venv-sglang/ready .venv-litellm/ready .venv-infinity/ready .venv-llama-cpp/ready .venv-clients/ready ## Create the environments of other servers and of published clients

.venv/ready-demo: pyproject.toml
	$(call venv,.venv)
	$(BIN)/pip install --quiet -e ".[cli,langchain,llama-index]" --group demo
	touch $@

# torch runs the model card's recipe, the reference for scores.
.venv/ready: .venv/ready-demo
	$(call torch,.venv)
	$(BIN)/pip install --quiet -e ".[evaluation,gateway,otel,playground,ray,transformers]" --group dev --group notebooks
	touch $@

.venv-sglang/ready: tests/environments/sglang.txt
	$(call venv,.venv-sglang)
	$(call torch,.venv-sglang)
	$(SGLANG)/pip install --quiet --requirement $<
	$(SGLANG)/pip install --quiet --no-deps sglang==0.5.23
	touch $@

.venv-litellm/ready: tests/environments/litellm.txt
	$(call venv,.venv-litellm)
	$(LITELLM)/pip install --quiet --requirement $<
	touch $@

.venv-infinity/ready: tests/environments/infinity.txt
	$(call venv,.venv-infinity)
	$(call torch,.venv-infinity)
	$(INFINITY)/pip install --quiet --requirement $<
	touch $@

.venv-llama-cpp/ready: tests/environments/llama-cpp.txt
	$(call venv,.venv-llama-cpp)
	$(LLAMA_CPP)/pip install --quiet --requirement $<
	touch $@

# The major versions of cohere's client exclude each other. The other frameworks need 5; 4 and 7 go into
# folders of their own, with the dependencies that are there already.
.venv-clients/ready: tests/environments/clients.txt
	$(call venv,.venv-clients)
	$(CLIENTS)/pip install --quiet --requirement $<
	$(CLIENTS)/pip install --quiet --no-deps --upgrade --target .venv-clients/cohere-4 cohere==4.57
	$(CLIENTS)/pip install --quiet --no-deps --upgrade --target .venv-clients/cohere-7 cohere==7.3.1
	touch $@

platforms: setup ## Run all platforms' requests and clients, and write docs/reference/platforms.md
	PYTHONPATH=tests:src $(BIN)/python -m support.platform_results

# Xinference takes long to install and to start, so CI does not run it; docs/how-to/servers.md has the last
# result. Its own requirements include CUDA, so the list here is complete and installed without dependencies.
test-xinference: setup .venv-xinference/ready ## Compare Xinference's engines with the reference
	$(BIN)/python -m pytest tests/servers/check_xinference.py

.venv-xinference/ready: tests/environments/xinference.txt
	$(call venv,.venv-xinference)
	$(call torch,.venv-xinference)
	$(XINFERENCE)/pip install --quiet --no-deps --requirement $<
	touch $@

# docs/explanation/reliability.md has the last results of both.
MINUTES ?= 10
soak: setup ## Kill and spoil what 200 callers use, and compare every answer: make soak MINUTES=10
	PYTHONPATH=tests:examples $(BIN)/python -m reliability.soak --minutes $(MINUTES)

fuzz: .venv/ready ## Try damaged answers, addresses, prompts, models and requests: make fuzz MINUTES=10
	PYTHONPATH=tests $(BIN)/python -m fuzz.run --minutes $(MINUTES)

# The tests of bulk reranking alone, with a Ray cluster of two nodes whose processes are killed.
test-ray: .venv/ready engine ## Run the tests of bulk reranking, on a Ray cluster of two nodes
	$(BIN)/python -m pytest tests/unit/bulk tests/unit/cli/test_bulk.py tests/engine/test_bulk_ray.py

# All measurements of docs/explanation/performance.md; each benchmark gets the options in BENCH, such as
# BENCH="--shape 0.6B". The engine is compared with vLLM's own classes, so everything is in one environment.
bench: bench-embedded bench-transformers bench-limit bench-remote bench-gateway bench-costs bench-growth bench-levers ## Run all benchmarks and write docs/explanation/performance.md
	PYTHONPATH=tests:examples "$(BENCH_PYTHON)" -m benchmarks.report

# The share of the raw engine, with no other contender in memory.
bench-limit: .venv-bench/ready
	PYTHONPATH=tests:examples "$(BENCH_PYTHON)" -m benchmarks.bench_embedded \
		--only raw ours --turns 12 --save limit $(BENCH)

# The transformers engine and CrossEncoder, with no other contender in memory.
bench-transformers: .venv-bench/ready
	PYTHONPATH=tests:examples "$(BENCH_PYTHON)" -m benchmarks.bench_embedded \
		--only cross_encoder transformers --save transformers $(BENCH)

# Ray starts the engine of `install-engine`, so this needs no environment of its own.
bench-bulk: .venv/ready engine ## Measure bulk reranking in this process and with Ray
	PYTHONPATH=tests:examples $(BIN)/python -m benchmarks.bench_bulk $(BENCH)

bench-%: .venv-bench/ready ## Run one benchmark, such as bench-remote
	PYTHONPATH=tests:examples "$(BENCH_PYTHON)" -m benchmarks.bench_$* $(BENCH)

BENCH_PYTHON = $(shell $(call own_engine,.venv-bench) $(BIN)/python -c \
	"from qwen3_reranker.embedded.environment import installed_engine; print(installed_engine().python)")

# How long: LOAD="--minutes 5". docs/explanation/performance.md has the last result.
load-gateway: .venv/ready engine ## Load a gateway while a server behind it is killed twice
	PYTHONPATH=tests:examples $(BIN)/python -m reliability.load_gateway $(LOAD)

.venv-bench/ready: .venv-bench/engine pyproject.toml
	$(BIN)/pip --python "$(BENCH_PYTHON)" install --quiet -e ".[cli,gateway,langchain,llama-index,transformers]" \
		--group dev --group bench
	touch $@

# A rule of its own, because make asks for BENCH_PYTHON before it runs the first line of a rule.
.venv-bench/engine: .venv/ready
	$(call own_engine,.venv-bench) $(BIN)/qwen3-reranker install-engine
	touch $@

# The lowest versions that pyproject.toml allows, vLLM among them.
test-lowest: .venv-lowest/ready servers ## Run all tests with the lowest supported versions
	$(call own_engine,.venv-lowest) $(LOW)/python -m pytest $(TWO)

.venv-lowest/ready: pyproject.toml tests/environments/lowest.txt
	$(call venv,.venv-lowest)
	$(call torch,.venv-lowest)
	$(LOW)/pip install --quiet --constraint tests/environments/lowest.txt \
		-e ".[cli,evaluation,gateway,langchain,llama-index,otel,playground,ray,transformers]" --group dev
	$(call own_engine,.venv-lowest) $(LOW)/qwen3-reranker install-engine --cpu --version 0.27.0
	touch $@

# The tests of scores with another vLLM: `make test-vllm-0.28.0`.
test-vllm-%: .venv/ready ## Run the tests of scores with another vLLM: make test-vllm-0.28.0
	$(call own_engine,.venv-vllm-$*) $(BIN)/qwen3-reranker install-engine --cpu --version $*
	$(call own_engine,.venv-vllm-$*) $(BIN)/python -m pytest tests/engine/test_fidelity.py tests/engine/test_reranker.py

dist: .venv-dist/ready ## Build the wheel and the source distribution into dist/
	rm -rf dist
	.venv-dist/bin/python -m build --outdir dist .

.venv-dist/ready:
	$(call venv,.venv-dist)
	.venv-dist/bin/pip install --quiet "build>=1.2"
	touch $@

# This creates three environments, so CI runs it in a job of its own. CONTRIBUTING.md has the last result.
test-install: .venv/ready engine ## Install the wheel into empty environments and run README's programs there
	$(BIN)/python -m pytest tests/install/check_wheel.py

clean: ## Remove all environments and caches
	rm -rf .venv .venv-* site .mypy_cache .ruff_cache .pytest_cache .hypothesis
