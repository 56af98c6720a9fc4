# make search   set up once, then design attribute networks on the embedded domain
# make test     set up once, then run the tests
# make peers    KerasTuner's searches, reinforced NAS and NNI's ENAS beside GALM (minutes to hours; TORCH=… names a PyTorch)
# PYTHON=… names an interpreter, VENV=… another environment, ARGS="…" further flags,
# JOBS=… how many tests run at once. On Windows: BUILD.md, "By hand".
VENV ?= .venv
VERSIONS := 3.11 3.12 3.10 3.13 3.9
ARGS ?=
PEERS_OUT ?= runs/peers
TORCH ?= torch
JOBS ?= 2
ifneq ($(words $(VENV)),1)
$(error Expected VENV to name one folder without spaces. Received: VENV=$(VENV))
endif
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: search test lint setup peers clean FORCE

search: $(VENV)/.installed
	$(BIN)/python -m galm_tf.main --domain=sun $(ARGS)

# Tests run side by side: threads of one's matrix products would only wait for those of another's.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check galm_tf tests benchmarks
	$(BIN)/ruff format --check galm_tf tests benchmarks

setup: $(VENV)/.installed-dev

peers: $(VENV)/.installed .venv-peers/.installed
	$(BIN)/python -m galm_tf.benchmark --suite=peers --out=$(PEERS_OUT) $(ARGS)
	.venv-peers/bin/python benchmarks/peers_nni.py $(PEERS_OUT)/data/*.npz --out=$(PEERS_OUT)/peers_nni.csv

# NNI ends at 3.0: it needs an older Lightning, NumPy and setuptools, hence an environment of its own. On Linux the
# package index's PyTorch comes with CUDA, some gigabytes; TORCH=FILE.whl takes one for the processor alone.
.venv-peers/.installed:
	@.ci/make_venv .venv-peers "$(PYTHON)" 3.11 3.10 3.9
	@.venv-peers/bin/python -m pip --disable-pip-version-check install --quiet $(TORCH) -r benchmarks/requirements-peers.txt \
	  || { echo "error: Expected PyTorch and NNI 3.0 to install into .venv-peers. Received: pip's error above; name a PyTorch by make peers TORCH=FILE.whl, or run --suite=peers without NNI." >&2; exit 2; }
	@touch $@

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
	rm -rf .pytest_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
