# `make demo` and `make test` are all a fresh machine needs: either creates .venv first.

PYTHON ?= python3
BIN := .venv/bin

# vLLM itself where there is CUDA, its CPU build anywhere else.
ENGINE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo vllm || echo cpu)

NEW_ENOUGH = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo "hfsynth needs Python 3.11 or newer, and $(PYTHON) is not. Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }

.PHONY: demo page space test trainers lint docs pictures bench contract fork lock
.DELETE_ON_ERROR:

demo: $(if $(wildcard .venv/.ready),.venv/.ready,.venv/.demo)
	HF_HUB_OFFLINE=1 $(BIN)/hfsynth synthesize examples/corpus.jsonl demo-corpus --model embedded --shots 2
	@HF_HUB_OFFLINE=1 $(BIN)/python examples/show.py demo-corpus

test: .venv/.ready
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

# The page on the demo corpus, which is made where it is not there.
page: .venv/.ready
	@test -d demo-corpus || $(MAKE) --no-print-directory demo
	HF_HUB_OFFLINE=1 $(BIN)/hfsynth page demo-corpus

# The page as a Space, in an environment of its own that is made for it. About 3.5 GB.
space: .venv/.ready
	HFSYNTH_SPACE=1 $(BIN)/pytest -s tests/page/test_space_environment.py

# One script or several: make bench BENCH="scale export". With the published code: BENCH="--reference PATH".
bench: .venv/.ready
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/run.py $(BENCH)

# Whether the newest vLLM for CUDA that pyproject.toml allows still has all that is used of it. Needs no GPU.
contract: .venv/.ready
	$(BIN)/python tests/contract/newest_wheel.py $(CONTRACT)

# Whether CUDA is unspoilt where vLLM forks its engine, shown with a CUDA build of torch. Needs no GPU.
fork: .venv/.ready
	$(BIN)/python tests/contract/cuda_torch.py

# Read an export with each trainer's own loader, in an environment of its own: build/trainers. About 10 GB.
trainers: .venv/.ready
	$(BIN)/python tests/trainers/environments.py $(TRAINERS)

lint: .venv/.ready
	$(BIN)/python locks/lock.py --check
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@$(MAKE) --no-print-directory docs

# The documentation as a site, in build/docs. A link, an anchor or a name that leads nowhere fails.
docs: .venv/.ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The pictures in docs/pictures, drawn again.
pictures: .venv/.ready
	$(BIN)/python docs/pictures/draw.py

# Writes locks/ anew from pyproject.toml, with the newest versions that it allows. Needs the package index.
lock:
	@rm -rf .venv-lock
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip install -qq --disable-pip-version-check uv packaging
	@PATH="$(CURDIR)/.venv-lock/bin:$$PATH" .venv-lock/bin/python locks/lock.py
	@rm -rf .venv-lock

# One environment, which the tests' packages make larger: what it has for the tests is all that the demo needs.
.venv/.demo: pyproject.toml locks/demo.txt
	@$(NEW_ENOUGH)
	@$(PYTHON) locks/install.py demo $(ENGINE)
	@touch $@

.venv/.ready: pyproject.toml locks/test.txt
	@$(NEW_ENOUGH)
	@$(PYTHON) locks/install.py test $(ENGINE)
	@touch $@
