# make demo    install into .venv, run the main job on this machine; the last line is the path of an HTML page
# make test    install what the tests need, run them all          (PYTEST_ARGS="-k spec" for some)
# make coverage   the proxy kernel's core by its own tests: every branch of it
# make lint    ruff and mypy
# make bench   the measurements of docs/explanation/performance.md: the queue's
# make bench-kernel   the proxy kernel's
# make bench-tunnel   sessions: opening one, files, a terminal's keys
# make bench-debug-job   what being ready for a debugger costs a job
# make clean   remove what these made
#
# Needs Python 3.11 or later and git, nothing else. PYTHON=/path/to/python picks the interpreter.

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# One worker a core gains nothing beyond two: many tests wait for processes of their own.
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: help demo test coverage lint bench bench-kernel bench-tunnel bench-debug-job clean peers
.SUFFIXES:

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(STAMPS)/demo
	@$(BIN)/jupyter-colab demo

test: $(STAMPS)/test peers
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# Without xdist, and without what starts processes: the core needs none.
CORE := relay gaps debugger path_mapping link_watch refusals ws_wire zmq_wire messages
coverage: $(STAMPS)/test
	$(BIN)/coverage run -m pytest --quiet $(CORE:%=tests/test_%.py)
	$(BIN)/coverage report

lint: $(STAMPS)/test
	@failed=0; set -x; \
	$(BIN)/ruff check . || failed=1; \
	$(BIN)/ruff format --check . || failed=1; \
	$(BIN)/mypy || failed=1; \
	exit $$failed

bench: $(STAMPS)/bench
	$(BIN)/python -m benchmarks.queue

bench-kernel: $(STAMPS)/bench
	$(BIN)/python -m benchmarks.kernel --into

bench-tunnel: $(STAMPS)/test
	$(BIN)/python -m benchmarks.tunnel --into

bench-debug-job: $(STAMPS)/test
	$(BIN)/python -m benchmarks.debug_job --into

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# An installation is a stamp: it is made again when pyproject.toml changed. The package itself is installed
# in place, so that a change of its code needs none.
$(STAMPS)/demo: pyproject.toml | $(STAMPS)/venv
	$(PIP_INSTALL) --editable '.[demo]'
	@touch $@

$(STAMPS)/test: pyproject.toml | $(STAMPS)/venv
	$(PIP_INSTALL) --editable '.[test,lint]'
	@touch $@

$(STAMPS)/bench: pyproject.toml | $(STAMPS)/venv
	$(PIP_INSTALL) --editable '.[bench]'
	@touch $@

# The first that is new enough and can make an environment: a pyenv shim may stand for nothing, and Debian
# packs ensurepip apart, so each is asked. python3 goes first: it is what the person chose.
$(STAMPS)/venv:
	@enough='import sys; sys.exit(sys.version_info < (3, 11))'; old=; bare=; \
	for python in $(if $(PYTHON),'$(PYTHON)',python3 python3.13 python3.12 python3.11 \
	    "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[1-9]*/bin/python); do \
	  "$$python" -c '' 2>/dev/null || continue; \
	  "$$python" -c "$$enough" || { old="$$old $$python"; continue; }; \
	  "$$python" -c 'import ensurepip, venv' 2>/dev/null || { bare="$$bare $$python"; continue; }; \
	  echo "making $(VENV) with $$python ($$("$$python" --version))"; \
	  $(BIN)/python -c '' 2>/dev/null || rm -rf $(VENV); \
	  "$$python" -m venv $(VENV) && mkdir -p $(STAMPS) && touch $@; exit; \
	done; \
	if [ -n "$$bare" ]; then \
	  echo "Cannot make $(VENV): Python ($$bare ) is here without its module ensurepip; on Debian and" \
	    "Ubuntu 'apt-get install python3-venv' brings it, or name another with 'make PYTHON=…'." >&2; \
	else \
	  echo "Cannot make $(VENV): no Python 3.11 or later was found$${old:+ (too old:$$old)}; install one," \
	    "or name it with 'make PYTHON=…'." >&2; \
	fi; exit 1

# What some tests need beside Python: the Git server over HTTP, sshd, a browser, and npm's localtunnel. Without the means to install it
# those tests are skipped, with the reason; RUNLEVEL=1 keeps Debian from starting a server for the whole machine.
peers:
	@missing() { ! PATH="$$PATH:/usr/sbin" command -v "$$1" >/dev/null; }; \
	wanted=; \
	{ missing nginx || missing fcgiwrap; } && wanted="$$wanted nginx-light fcgiwrap"; \
	missing sshd && wanted="$$wanted openssh-server"; \
	missing chromium && wanted="$$wanted chromium"; \
	{ missing node || missing npm; } && wanted="$$wanted nodejs npm"; \
	[ -n "$$wanted" ] || exit 0; \
	skipped="tests marked git_http, sshd or browser, or with localtunnel, need$$wanted"; \
	command -v apt-get >/dev/null || { echo "no apt-get here: $$skipped"; exit 0; }; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo='sudo -n'; \
	$$sudo true 2>/dev/null || { echo "not root: $$skipped"; exit 0; }; \
	echo "installing$$wanted"; \
	{ $$sudo apt-get update -qq && \
	  $$sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
	    apt-get install -qq -y --no-install-recommends $$wanted; } >/dev/null </dev/null \
	  || echo "apt-get could not install$$wanted: $$skipped"
