# `make help` lists what there is. CLUSTER=embedded (default), current or kind.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WHEELS := $(wildcard ../shared/wheels)
NAME ?= triage
NAMESPACE ?= default
PORT ?= 8002
export PYTHONDONTWRITEBYTECODE = 1

DEVCLUSTER := $(PYTHON) -m devcluster
# The cluster's own kubectl is the last resort: a kubectl of the user's comes first.
ENV = KUBECONFIG=$$($(DEVCLUSTER) kubeconfig) PATH=$$PATH:$$($(DEVCLUSTER) bin)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	$(BIN)/pip install -q --disable-pip-version-check $(addprefix --find-links ,$(WHEELS)) \
	  $(if $(WHEELS),"torch==2.13.0+cpu",) -e '.[operator,runtime,otel,torch,openvino,test]'
	touch $@

.PHONY: install
install: $(VENV)/installed ## install everything into .venv

.PHONY: demo
demo: install cluster-up images load deploy ## the whole story on a cluster; KEEP=1 leaves it for play
	$(ENV) $(PYTHON) demo/demo.py $(if $(KEEP),--keep,)

.PHONY: cluster-up cluster-down cluster-status cluster-check kubeconfig env forward
cluster-up: ## bring the cluster up, repair or extend it: NODES=2 FAKE_NODES=5 CONTROL_PLANE_ONLY=1
	$(DEVCLUSTER) up $(if $(NODES),--nodes $(NODES),) $(if $(FAKE_NODES),--fake-nodes $(FAKE_NODES),) \
	  $(if $(CONTROL_PLANE_ONLY),--control-plane-only,)
cluster-down: ## take the embedded cluster down and leave nothing running
	$(DEVCLUSTER) down
cluster-status: ## say what runs
	@$(DEVCLUSTER) status
cluster-check: ## see that the cluster does what clusters do
	$(DEVCLUSTER) check
kubeconfig: ## print the kubeconfig: export KUBECONFIG=$$(make -s kubeconfig)
	@$(DEVCLUSTER) kubeconfig
env: ## print what to export for kubectl: eval "$$(make -s env)"
	@echo "export KUBECONFIG=$$($(DEVCLUSTER) kubeconfig) PATH=\$$PATH:$$($(DEVCLUSTER) bin)"
forward: ## listen on loopback for the Service NAME=triage NAMESPACE=default PORT=8002
	$(DEVCLUSTER) forward $(NAME) -n $(NAMESPACE) --port $(PORT)

.PHONY: images load deploy
images: install ## build the images with docker, else buildah: IMAGES="operator mock cpu hub embedded"
	PYTHON=$(BIN)/python $(DEVCLUSTER) images $(IMAGES)
load: ## bring the built images into the cluster's nodes
	$(DEVCLUSTER) load
deploy: ## install operator and hub mirror; HUB=real uses the Hugging Face hub
	$(ENV) $(PYTHON) demo/deploy.py $(if $(filter real,$(HUB)),--real-hub,)

.PHONY: generate check test test-unit test-contract test-golden schedules seeded-bugs test-control-plane test-fake-nodes test-node
generate: install ## write CRDs, docs/reasons.md, the pages of metrics, the generated pages of docs/ and deploy/install.yaml anew
	$(BIN)/python -m chatmodel_operator.api.crds
	$(BIN)/python -m chatmodel_operator.api.reasons_page
	$(BIN)/python -m chatmodel_operator.metrics_page
	$(BIN)/python -m chatmodel_runtime.metrics_page
	$(BIN)/python deploy/build.py
	$(BIN)/python tests/support/fault_table.py
	$(BIN)/python tests/support/incident_table.py
	$(BIN)/python tests/support/decision_table.py
check: install ## format, lint, types, import contracts, generated files in step
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m chatmodel_operator.api.crds --check
	$(BIN)/python -m chatmodel_operator.api.reasons_page --check
	$(BIN)/python -m chatmodel_operator.metrics_page --check
	$(BIN)/python -m chatmodel_runtime.metrics_page --check
	$(BIN)/python deploy/build.py --check
	$(BIN)/python tests/support/fault_table.py --check
	$(BIN)/python tests/support/incident_table.py --check
	$(BIN)/python tests/support/decision_table.py --check
	$(BIN)/python -m pytest -q tests/unit/test_lengths.py

test: install ## everything: check and all layers, on the embedded cluster
	$(BIN)/python tests/run.py
test-unit: install ## pure tests, and the runtime as a process on loopback
	$(BIN)/pytest tests/unit
test-golden: install ## films of whole rollouts, and seeded schedules
	$(BIN)/pytest tests/golden
schedules: install ## a million seeded schedules: SCHEDULES=1000000; SEED=n repeats one
	SCHEDULES=$(or $(SCHEDULES),1000000) $(BIN)/pytest tests/golden/test_schedules.py
seeded-bugs: install ## plant bugs in a copy of the operator, one by one, and see each found
	$(BIN)/python tests/golden/seeded_bugs.py
test-contract: install ## what two parts must agree on
	$(BIN)/pytest tests/contract
test-control-plane: install cluster-up ## against a real API server
	$(BIN)/pytest tests/control_plane
test-fake-nodes: install ## the operator as a process, pods on fake nodes
	$(DEVCLUSTER) up --fake-nodes 2 --kwok-stages tests/support/kwok-stages.yaml
	$(BIN)/pytest tests/fake_nodes
test-node: install cluster-up images load ## real pods with the real runtime
	$(BIN)/pytest tests/node

.PHONY: download-model run
download-model: install ## fetch the model of .env or the environment into MODEL_CACHE_DIR
	$(BIN)/python -m chatmodel_runtime download
run: install ## run the runtime without a cluster, on 127.0.0.1:8002
	$(BIN)/python -m chatmodel_runtime serve

.PHONY: bench-operator bench-idle bench-rollouts bench-triage bench-runtime
BENCH_UP = $(DEVCLUSTER) up --control-plane-only --fake-nodes 4 --kwok-stages tests/support/kwok-stages.yaml
bench-operator: install ## this operator, a bare script and controller-runtime: N=1000 ROUNDS=3, about an hour
	$(BENCH_UP)
	$(BIN)/python bench/programs.py
	$(DEVCLUSTER) run -- $(BIN)/python bench/operators.py $(if $(N),--count $(N),) $(if $(ROUNDS),--rounds $(ROUNDS),)
bench-idle: install ## what idle ChatModels cost, and what a restart writes: N=100 SECONDS=120
	$(BENCH_UP)
	$(DEVCLUSTER) run -- $(BIN)/python bench/idle.py $(if $(N),--count $(N),) $(if $(SECONDS),--seconds $(SECONDS),)
bench-rollouts: install cluster-up images load deploy ## real models under traffic: rollouts, refusals, crashes, swaps
	$(ENV) $(BIN)/python bench/rollouts.py $(ROLLOUTS)
bench-triage: install ## /triage with mock against a bare FastAPI route, /livez under overload: TRIAGE="--rounds 3"
	$(BIN)/python bench/runtime_http.py $(TRIAGE)
bench-runtime: install ## SmolLM2 beside llama.cpp, transformers serve and vLLM: RUNTIME="--rounds 1 --only ours,llama.cpp"
	$(BIN)/python bench/runtime_models.py $(RUNTIME)
