# make help    these lines
# make study   a real study on the embedded task, from nothing
# make check   lint, types and the faster tests, while you work
# make test    lint, types and all tests but those of clusters, from nothing
# make cluster-test   clusters from `ray up` to `ray down`, on machines in namespaces (root, Linux)
# make lint    style and types
# make bench   the figures of BENCHMARKS.md
# ARGS="…" goes to the study, or to pytest.
PYTHON ?= python3
PIP = .venv/bin/pip --disable-pip-version-check install --quiet --constraint constraints.txt

CLUSTER_TESTS = tests/cluster tests/cluster_e2e tests/study/jobs/test_submit.py

.PHONY: help study check test cluster-test lint bench

help:
	@sed -n '/^#/!q; s/^# //p' Makefile

study: .venv/installed
	.venv/bin/python -m study.run --space digits $(ARGS)

# Two processes; tests/conftest.py says which tests go together.
PYTEST = .venv/bin/python -m pytest -n 2

check: .venv/installed-test lint
	$(PYTEST) -m "not slow and not cluster" $(ARGS)

test: .venv/installed-test lint
	$(PYTEST) $(ARGS)

cluster-test: .venv/installed-test
	.venv/bin/python -m pytest -m cluster -rs $(CLUSTER_TESTS) $(ARGS)

lint: .venv/installed-test
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

bench: .venv/installed
	.venv/bin/python -m benchmarks.overhead
	.venv/bin/python -m benchmarks.start

.venv/installed: setup.cfg constraints.txt
	@echo "Installing into .venv (once; torch alone is some gigabytes) …"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) --editable .
	@touch $@

.venv/installed-test: .venv/installed
	@echo "Installing what the tests need …"
	$(PIP) --editable '.[test]'
	@touch $@
