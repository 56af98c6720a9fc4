# make search   set up once, then design attribute networks on the embedded domain
# make test     set up once, then run the tests
# PYTHON=… names an interpreter, VENV=… another environment, ARGS="…" further flags.
VENV ?= .venv
VERSIONS := 3.11 3.12 3.10 3.13 3.9
ARGS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: search test lint setup clean

search: $(VENV)/.installed
	$(BIN)/python -m galm_tf.main --domain=sun $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check galm_tf tests

setup: $(VENV)/.installed-dev

$(VENV)/pyvenv.cfg:
	@python="$(PYTHON)"; \
	if [ -z "$$python" ]; then \
	  python=$$(.ci/find_python $(VERSIONS)) || { \
	    echo "error: Expected one of Python $(VERSIONS). Received: none that runs; install one, or name it by make PYTHON=PATH." >&2; exit 2; }; \
	fi; \
	echo "Setting up $(VENV) with $$python ($$("$$python" --version 2>&1))"; \
	"$$python" -m venv "$(VENV)"

$(VENV)/.installed: requirements.txt | $(VENV)/pyvenv.cfg
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(PIP) -r requirements-dev.txt
	@touch $@

# Leaves runs/ alone.
clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
