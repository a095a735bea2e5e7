# The one door for development; CI goes through the same targets. GNU make.
#
# Two environments share .venv: `demo` needs Python and pip only and installs what the program needs at run time;
# everything else adds the tools. Both are made again when pyproject.toml changes.

PYTHON ?= python3
WORKERS ?= 2
# Many tests wait for daemons: three at once on two cores.
TEST_WORKERS ?= 3
PREFIX ?= $(HOME)/.local
ARGS ?=

MAKEFLAGS += --no-print-directory
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check
# Tests differ a lot in length: a worker that has nothing left takes half of what the other one still has.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help venv test test-nfs test-faults simulate soak lint model mutants bench bench-nfs profile demo install uninstall wheel man clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: .venv/.dev  ## make or renew .venv, with the tools for development

test: .venv/.dev  ## run the tests (ARGS="-k words" chooses)
	$(PYTEST) -n $(TEST_WORKERS) $(ARGS)

# The small machines mostly wait, for leases and thresholds: five benches at once on two cores.
test-nfs: .venv/.dev  ## run the tests on a real NFS (Debian; as root it installs what that needs; 12 minutes)
	@bash .ci/parts nfs
	$(BIN)/python -m pytest -m nfs -n $(NFS_WORKERS) --dist loadgroup --no-loadscope-reorder tests/nfs $(ARGS)

NFS_WORKERS ?= 5

# A quarter of it is waiting, for jobs and strace: twice as many workers as cores.
test-faults: .venv/.dev  ## let every call to the file system fail in every way (9 minutes)
	$(PYTEST) -n $(FAULT_WORKERS) -m faults tests/faults tests/users $(ARGS)

FAULT_WORKERS ?= 4

simulate: .venv/.dev  ## live through 2,000 days of simulated clusters with faults (5 minutes of two cores)
	$(PYTEST) -m simulation tests/simulation $(ARGS)

SECONDS ?= 600
soak: .venv/.dev  ## the same with random seeds, for SECONDS=... (SEED=N: from this one on)
	$(BIN)/python -m tests.simulation.soak $(SECONDS) $(SEED)

lint: .venv/.dev  ## ruff, mypy, import-linter; mandoc and shellcheck where they are installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@if command -v mandoc >/dev/null; then set -x; mandoc -T lint -W warning man/*.[1-8]; \
	else echo "mandoc is not installed: the man pages are NOT checked"; fi
	@if command -v shellcheck >/dev/null; then set -x; shellcheck $(SHELL_FILES); \
	else echo "shellcheck is not installed: the shell scripts are NOT checked"; fi

SHELL_FILES = $(shell grep -rlIE -m1 '^\#!(/usr)?/bin/(env )?(ba|da)?sh( |$$)' .ci contrib spoold tests)

model: .venv/.dev  ## search the protocol's model to the last state (6 minutes of two cores, 2 GB)
	$(PYTEST) -m "" tests/model $(ARGS)

mutants: .venv/.dev  ## take away one safeguard after the other; a test must go red (ARGS="NAME ..." or --missing; an hour)
	$(BIN)/python -m tests.mutants.run $(ARGS)

# Not part of any test: nothing here passes or fails. The others' programs are installed by apt-get where we are root.
bench: .venv/.dev  ## measure it beside what people would use instead (ARGS="--only idle --json FILE"; half an hour)
	@$(BIN)/python -m tests.bench $(ARGS)

bench-nfs: .venv/.dev  ## count what jobs cost a file server, and time a queue, on a real NFS (ARGS="--whose"; 12 minutes)
	@bash .ci/parts nfs
	@$(BIN)/python -m tests.nfs.cost $(ARGS)

profile: .venv/.dev  ## write flame graphs of head, runner, starter and client under load into build/profile/
	@$(BIN)/python -m tests.bench.profile $(ARGS)

demo: .venv/.run  ## play the example jobs live on four simulated GPUs
	@$(BIN)/python -m skyspool demo $(ARGS)

# An environment of its own, since most distributions forbid pip to install beside theirs.
HOUSE := $(PREFIX)/lib/skyspool
install:  ## install for this user: skyspool and spoold in ~/.local/bin (PREFIX=DIR: elsewhere)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11; name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Installing skyspool into $(HOUSE) ..."
	@$(PYTHON) -m venv $(HOUSE) || { echo "hint: on Debian, apt-get install python3-venv" >&2; exit 1; }
	@$(HOUSE)/bin/python -m pip install -qq --disable-pip-version-check .
	@mkdir -p $(PREFIX)/bin
	@for program in skyspool spoold; do ln -sf $(HOUSE)/bin/$$program $(PREFIX)/bin/$$program; done
	@for page in $(HOUSE)/share/man/man?/*; do section=$$(basename $$(dirname $$page)); \
		mkdir -p $(PREFIX)/share/man/$$section && ln -sf $$page $(PREFIX)/share/man/$$section/; done
	@case :$$PATH: in *:$(PREFIX)/bin:*) ;; *) echo "note: $(PREFIX)/bin is not on your PATH; for this shell, and in ~/.profile for the next ones:"; \
		echo "  export PATH=\"$(PREFIX)/bin:\$$PATH\"";; esac

uninstall:  ## take away what install made
	rm -f $(PREFIX)/bin/skyspool $(PREFIX)/bin/spoold
	rm -f $(patsubst man/%.1,$(PREFIX)/share/man/man1/%.1,$(wildcard man/*.1)) \
		$(patsubst man/%.5,$(PREFIX)/share/man/man5/%.5,$(wildcard man/*.5)) \
		$(patsubst man/%.8,$(PREFIX)/share/man/man8/%.8,$(wildcard man/*.8))
	rm -rf $(HOUSE)

wheel: .venv/.dev  ## build dist/*.whl
	@rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist

man:  ## print the man pages
	@for page in man/*.[1-8]; do \
		if command -v mandoc >/dev/null; then mandoc -T utf8 "$$page"; else MANPAGER=cat man -l "$$page"; fi; \
	done

clean:  ## remove .venv and all that was built
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11; name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Making .venv ..."
	@$(PYTHON) -m venv --clear .venv || { echo "hint: on Debian, apt-get install python3-venv" >&2; exit 1; }
	@touch $@

.venv/.run: pyproject.toml | .venv/.python
	@echo "Installing what skyspool needs into .venv ..."
	@$(PIP_INSTALL) --editable .
	@touch $@

.venv/.dev: pyproject.toml | .venv/.python
	@echo "Installing skyspool and its tools into .venv ..."
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch .venv/.run $@
