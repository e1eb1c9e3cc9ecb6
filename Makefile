# Farthing. `make up` starts it, `make test` tests it. Everything is installed into .venv from uv.lock.
PYTHON ?= python3
UV := .uv/bin/uv
export UV_PYTHON_DOWNLOADS := never
export UV_PYTHON := $(PYTHON)

.PHONY: install up test lint bench clean

install: .venv/.runtime

up: .venv/.runtime
	.venv/bin/farthing up

# On two cores, file by file: most of the time goes by in waiting for processes that start, stop and time out.
TEST_WORKERS ?= 2
# One thread for numpy: where tests share the cores, more wait for each other busily, and training takes 100 times as long.
test: .venv/.dev
	OPENBLAS_NUM_THREADS=1 .venv/bin/python -m pytest -n $(TEST_WORKERS) --dist loadfile $(ARGS)

lint: .venv/.dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: .venv/.runtime
	.venv/bin/python bench/gateway.py $(ARGS)

clean:
	rm -rf .venv .uv

$(UV):
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv

.venv/.runtime: pyproject.toml uv.lock | $(UV)
	$(UV) sync --quiet --frozen --inexact --no-dev
	touch $@

.venv/.dev: pyproject.toml uv.lock | $(UV)
	$(UV) sync --quiet --frozen --inexact
	touch $@ .venv/.runtime
