# make search   set up once, then design attribute networks on the embedded domain
# make test     set up once, then run the tests
# PYTHON=… names an interpreter, VENV=… another environment, ARGS="…" further flags,
# JOBS=… how many tests run at once. On Windows: BUILD.md, "By hand".
VENV ?= .venv
VERSIONS := 3.11 3.12 3.10 3.13 3.9
ARGS ?=
JOBS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: search test lint setup clean FORCE

search: $(VENV)/.installed
	$(BIN)/python -m galm_tf.main --domain=sun $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check galm_tf tests benchmarks

setup: $(VENV)/.installed-dev

# Asked every time, since PYTHON may name another version than last time; changes nothing when all is well.
$(VENV)/.created: FORCE
	@.ci/make_venv "$(VENV)" "$(PYTHON)" $(VERSIONS)
FORCE:

$(VENV)/.installed: requirements.txt $(VENV)/.created
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(PIP) -r requirements-dev.txt
	@touch $@

# Leaves runs/ alone.
clean:
	[ ! -e $(VENV)/pyvenv.cfg ] || rm -rf $(VENV)
	rm -rf .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
