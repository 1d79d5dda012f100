# make demo    environment, installation, the demo grid on embedded digits, its report and its page;
#              OPEN=1 opens the page
# make test    environment, installation, every test, coverage
# make test-quick  every test but the slow ones, in under two minutes
# make check   lint, format, types, layers, generated docs
# make mutants plant every known mistake in a copy: does a test notice? NAMES="..." for some
# make simulate  how often verdicts err, and are found, where the truth is known
# make chaos   kill, damage, fill the disk, and compare with what nothing disturbed. CHAOS="--seed 3"
# make chaos-short  the same in three minutes
# make cluster two nodes of Ray that are killed and filled up, in network namespaces; needs root
# make hostile take hostile results folders through every command. HOSTILE="--only record.json"
# make floors  the tests with the lowest versions that setup.cfg allows, in a .venv of their own
# make bench   measure the training loops, next to others'; BENCH="records.yaml --repeats 1"
# make bench-quick  compare the speed of a step and of a run with what is published, in two minutes
# make docs    regenerate the generated blocks of the documents
# make format  let ruff and biome mend what they can
# make lock    resolve constraints.txt anew, keeping its versions where they still fit; LOCK="--upgrade"
# LOCKED=1     with any of them: install the versions of constraints.txt
# CPU=1        with any of them, and a new .venv: install PyTorch for the CPU, which is much smaller

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
BENCH ?= fnn.yaml cnn.yaml
STAMP = $(VENV)/.installed$(if $(LOCKED),-locked)
PIP = $(BIN)/python -m pip install --quiet $(if $(LOCKED),--constraint constraints.txt) \
	$(if $(CPU),--extra-index-url https://download.pytorch.org/whl/cpu)
# tests are many small trainings: one thread each, as many processes as cores
export OMP_NUM_THREADS = 1

.PHONY: demo test test-quick check mutants simulate chaos chaos-short cluster hostile floors bench bench-quick docs format lock clean

demo: $(STAMP)
	$(BIN)/vaebench run-grid experiments/demo.yaml
	@echo "page: $(CURDIR)/results/demo/report.html"
	@$(if $(OPEN),$(BIN)/python -m webbrowser -t "file://$(CURDIR)/results/demo/report.html")

test: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadfile --cov=vaebench --cov-report=term:skip-covered --cov-fail-under=90

test-quick: $(STAMP)
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not slow"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/biome ci
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m experiments.readme --check

mutants: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m mutants $(NAMES)

simulate: $(STAMP)
	$(BIN)/python tests/simulate.py

chaos: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m chaos $(CHAOS)
	$(BIN)/pytest -q tests/test_outages.py

chaos-short: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m chaos --short $(CHAOS)

cluster: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m chaos.cluster $(CLUSTER)

hostile: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m hostile $(HOSTILE)

floors: $(STAMP)
	$(BIN)/python -m pip install --quiet uv
	$(PYTHON) -m venv $(VENV)-floors
	$(BIN)/uv pip install --python $(VENV)-floors --resolution lowest-direct --editable '.[test]'
	$(VENV)-floors/bin/pytest -q -n 2 --dist loadfile -m "not slow"

bench: $(VENV)/.bench
	$(BIN)/python -m experiments.benchmarks $(BENCH)

bench-quick: $(STAMP)
	$(BIN)/python -m experiments.benchmarks quick.yaml run-cost.yaml --any-cpu \
		--output $(VENV)/bench-quick --compare results/benchmarks

docs: $(STAMP)
	$(BIN)/python -m experiments.readme

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/biome check --write

# one version of each package for every Python and platform
lock: $(STAMP)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile setup.cfg --extra test --extra check --extra bench --extra postgres --extra ray --universal \
		--python-version 3.11 --fork-strategy fewest --no-annotate --no-emit-index-url \
		--custom-compile-command "make lock" --output-file constraints.txt $(LOCK)

$(STAMP): setup.cfg pyproject.toml $(if $(LOCKED),constraints.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "vaebench needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[test,check]'
	@touch $@

# what the benchmarks compare with
$(VENV)/.bench: $(STAMP)
	$(PIP) --editable '.[bench]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
