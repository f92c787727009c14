# Two commands do all the set-up on a machine with Python >= 3.11: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
KILLS ?= 50
SECONDS ?= 60

.PHONY: run test services lint simulate simulate-mutants chaos soak kafka-chaos kafka-bench bench bench-quick flink-parity apps kafka kafka-stop clean

run: $(VENV)/installed  ## the main job on the shipped ratings
	$(BIN)/streamcore run online_mf

test: $(VENV)/installed-dev services lint  ## linters, types, and every test, JOBS (2) at a time
	$(BIN)/pytest --numprocesses $(JOBS) --dist worksteal

services:  ## the servers that the tests talk to: PostgreSQL, Mosquitto, Kafka (on Debian and Ubuntu, installs what is missing)
	@tests/install_servers.sh

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

simulate: $(VENV)/installed-dev  ## SEEDS simulated runs with faults (10000), on all cores; or SEED=S, exactly that one, in detail
	@$(BIN)/python -m tests.simulation.fleet.run $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),10000))

simulate-mutants: $(VENV)/installed-dev  ## deliberate bugs, and at which seed the simulation finds each
	@$(BIN)/python -m tests.simulation.fleet.mutants

chaos: $(VENV)/installed-dev  ## kill -9 at random moments, KILLS times
	$(BIN)/python tests/process/chaos.py --kills $(KILLS)

kafka-chaos: $(VENV)/installed-dev  ## the same from topic to topic, also of the broker; DELIVERY=at-least-once shows duplicates
	$(BIN)/python tests/kafka/kafka_chaos.py --kills $(KILLS) --delivery $(or $(DELIVERY),exactly-once)

soak: $(VENV)/installed-dev  ## a fast source before a slow sink: memory over SECONDS
	$(BIN)/python tests/process/backpressure_job.py --seconds $(SECONDS)

bench: $(VENV)/installed-bench  ## speeds beside the peers' (installed under build/), into build/bench.json and docs/
	$(BIN)/python -m tests.bench.run

bench-quick: $(VENV)/installed-bench  ## streamcore and the polars limit alone, in two and a half minutes
	$(BIN)/python -m tests.bench.run --quick

kafka-bench: $(VENV)/installed-dev  ## Kafka beside bare client loops, then RATINGS (30 M) through the main job and as mini-batches
	$(BIN)/python -m tests.bench.kafka.run source typed sink mf --ratings $(or $(RATINGS),30000000)

flink-parity: $(VENV)/installed-bench  ## the same random streams through Apache Flink (installed under build/; Java 17), SEEDS of them (3)
	$(BIN)/python -m tests.parity.run --seeds $(or $(SEEDS),3)

apps: $(VENV)/installed
	$(BIN)/streamcore apps

kafka:  ## an Apache Kafka broker at 127.0.0.1:9092, with Java and Maven; its data stays under build/kafka
	@deploy/kafka/kafka.sh start

kafka-stop:
	@deploy/kafka/kafka.sh stop

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "streamcore needs Python 3.11 or newer; try: make PYTHON=python3.12 " + "run")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

$(VENV)/installed-bench: $(VENV)/installed-dev
	$(BIN)/pip install --quiet --editable '.[bench]'
	@touch $@

clean: kafka-stop
	rm -rf $(VENV) build dist *.egg-info out
