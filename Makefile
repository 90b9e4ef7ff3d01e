# The commands of this repository. `make help` lists them; each installs what it needs, from the package registries alone.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The program itself, not a shim such as pyenv's: uv makes an environment anew when its Python is another file.
PYTHON ?= $(or $(shell for name in python3.11 python3.12 python3; do $$name -c 'import sys; print(sys.executable)' 2> /dev/null && break; done),python3)
# The tests of the DAGs use it if it works; nothing downloads one.
PYTHON312 ?= $(shell python3.12 -c 'import sys; print(sys.executable)' 2> /dev/null)
# uv is used where it is installed; elsewhere its wheel goes into .uv, and nothing outside this folder is touched.
UV ?= $(shell command -v uv || echo .uv/bin/uv)
UV_REQUIREMENTS := scripts/uv_requirements.txt
export UV
export UV_PYTHON_DOWNLOADS := never

INPUT ?= data/input_data
OUTPUT ?= data/output_data
CONFIG ?= conf/retraining.yaml
TRACKING_URI ?= sqlite:///$(OUTPUT)/mlflow.db
ENGINE ?= sail
HANDBOOK_DATA ?=
# How long make fuzz runs.
MINUTES ?= 30
# Processes that run the fast tests at once: one more than two cores, since many tests wait. Each may need 1 GiB.
WORKERS ?= 3
# The jars that let Spark on this machine read s3a://, if `make s3a` has fetched them.
export S3A_CLASSPATH ?= $(abspath $(wildcard .s3a))

# Settings of the local stack; COMPONENT and FOLLOW are for make logs, WAIT for make down.
ENV_FILE ?= .env
COMPONENT ?=
FOLLOW ?=
WAIT ?=

# Deployment (docs/deploy.md). HOST and FOLDER are for sync-repo and sync-env, REPOSITORY for git-push-secrets.
HOST :=
FOLDER ?= fraud-detection
REPOSITORY ?=
DRY_RUN ?=

RUN := .venv/bin/
CLOUD := .venv-cloud/bin/
STACK := $(RUN)python -m local_stack
test_dags = $(1)/bin/python -m pytest -n $(WORKERS) -o addopts=-ra --confcutdir tests/dags tests/dags$(2)
# Runs each target in turn, also after a failure; the failed ones are named at the end.
each = failed=; for target in $(1); do $(MAKE) $$target || failed="$$failed $$target"; done; \
	test -z "$$failed" || { echo "make $@: failed:$$failed" >&2; exit 1; }

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-32s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.uv/bin/uv: $(UV_REQUIREMENTS)
	@echo "Installing $(firstword $(shell cat $(UV_REQUIREMENTS))) into .uv"
	@$(PYTHON) -m venv .uv || { echo "make: $(PYTHON) cannot create a virtual environment; install Python 3.11 with its venv module (Debian: apt install python3-venv), then run make again"; exit 1; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $(UV_REQUIREMENTS)
	@touch $@

.venv/.synced: pyproject.toml uv.lock | $(if $(findstring .uv/,$(UV)),.uv/bin/uv)
	@echo "Installing the locked environment into .venv (once)"
	@$(UV) sync --quiet --locked --python "$(PYTHON)"
	@touch $@

.venv-benchmark/.synced: pyproject.toml uv.lock | $(if $(findstring .uv/,$(UV)),.uv/bin/uv)
	@UV_PROJECT_ENVIRONMENT=.venv-benchmark $(UV) sync --quiet --locked --python "$(PYTHON)" --no-default-groups --group benchmark
	@touch $@

.venv-airflow/.synced: pyproject.toml uv.lock | $(if $(findstring .uv/,$(UV)),.uv/bin/uv)
	@echo "Installing Airflow into .venv-airflow (once)"
	@UV_PROJECT_ENVIRONMENT=.venv-airflow $(UV) sync --quiet --locked --python "$(PYTHON)" --only-group airflow
	@touch $@

.venv-mlflow/.synced: pyproject.toml uv.lock | $(if $(findstring .uv/,$(UV)),.uv/bin/uv)
	@echo "Installing MLflow's server into .venv-mlflow (once)"
	@UV_PROJECT_ENVIRONMENT=.venv-mlflow $(UV) sync --quiet --locked --python "$(PYTHON)" --only-group mlflow
	@touch $@

.venv-airflow31/.synced: pyproject.toml uv.lock | $(if $(findstring .uv/,$(UV)),.uv/bin/uv)
	@echo "Installing Airflow 3.1 into .venv-airflow31 (once)"
	@UV_PROJECT_ENVIRONMENT=.venv-airflow31 $(UV) sync --quiet --locked --python "$(PYTHON)" --only-group airflow31
	@touch $@

.venv-airflow2/.synced: pyproject.toml uv.lock | $(if $(findstring .uv/,$(UV)),.uv/bin/uv)
	@echo "Installing Airflow 2 into .venv-airflow2 (once)"
	@UV_PROJECT_ENVIRONMENT=.venv-airflow2 $(UV) sync --quiet --locked --python "$(PYTHON)" --only-group airflow2
	@touch $@

.venv-airflow-py312/.synced: pyproject.toml uv.lock | $(if $(findstring .uv/,$(UV)),.uv/bin/uv)
	@echo "Installing Airflow on Python 3.12 into .venv-airflow-py312 (once)"
	@UV_PROJECT_ENVIRONMENT=.venv-airflow-py312 $(UV) sync --quiet --locked --python "$(PYTHON312)" --only-group airflow
	@touch $@

.venv-airflow2-py312/.synced: pyproject.toml uv.lock | $(if $(findstring .uv/,$(UV)),.uv/bin/uv)
	@echo "Installing Airflow 2 on Python 3.12 into .venv-airflow2-py312 (once)"
	@UV_PROJECT_ENVIRONMENT=.venv-airflow2-py312 $(UV) sync --quiet --locked --python "$(PYTHON312)" --only-group airflow2
	@touch $@

.venv-cloud/.synced: pyproject.toml uv.lock | $(if $(findstring .uv/,$(UV)),.uv/bin/uv)
	@echo "Installing the cloud's tools into .venv-cloud (once)"
	@UV_PROJECT_ENVIRONMENT=.venv-cloud $(UV) sync --quiet --locked --python "$(PYTHON)" --only-group cloud
	@touch $@

##@ Retraining

.PHONY: setup
setup: .venv/.synced ## Install the locked environment into .venv

.PHONY: setup-airflow
setup-airflow: .venv-airflow/.synced ## Install the locked Airflow into .venv-airflow

.PHONY: create-data
create-data: setup ## Simulate card transactions into data/input_data
	@$(RUN)python scripts/create_demo_data.py --output $(INPUT)

.PHONY: train
train: setup ## Retrain once on data/input_data, and promote or refuse (INPUT, OUTPUT, CONFIG, TRACKING_URI, ENGINE)
	@$(RUN)fraud-detection retrain --config $(CONFIG) --input $(INPUT) --output $(OUTPUT) --tracking-uri $(TRACKING_URI) --engine $(ENGINE)

.PHONY: s3a
s3a: setup ## Fetch the jars with which Spark on this machine reads s3a:// into .s3a (once)
	@$(RUN)python scripts/prepare_s3a.py --folder .s3a

.PHONY: demo
demo: setup ## Replay scheduled retraining over simulated months that drift, in data/demo
	@$(RUN)python scripts/run_demo.py --folder data/demo

##@ The local stack (docs/local_stack.md)

.PHONY: doctor
doctor: ## Check what the local stack needs, and say how to get what is missing
	@$(PYTHON) -m local_stack.doctor $(ENV_FILE)

.PHONY: up
up: setup .venv-airflow/.synced .venv-mlflow/.synced ## Start PostgreSQL, MLflow, the emulated cloud and Airflow, and train a first champion
	@$(STACK) up --env $(ENV_FILE)

.PHONY: down
down: setup ## Stop the local stack and a running job; the data is kept (WAIT=1 lets the run end first)
	@$(STACK) down --env $(ENV_FILE) $(if $(WAIT),--wait)

.PHONY: clear-run
clear-run: setup ## Retry the last failed run of the training
	@$(STACK) clear-run --env $(ENV_FILE)

.PHONY: status
status: setup ## Show the local stack's components, addresses and memory
	@$(STACK) status --env $(ENV_FILE)

.PHONY: logs
logs: setup ## Show the last lines of the logs (COMPONENT=scheduler or job, FOLLOW=1)
	@$(STACK) logs --env $(ENV_FILE) --component "$(COMPONENT)" $(if $(FOLLOW),--follow)

##@ Checks

# `make test` is the fast ring; the others are what it leaves out. CI runs all of them.
REST := test-slow test-dags-slow test-dags-airflow31 test-dags-airflow2 $(if $(PYTHON312),test-dags-py312) test-extra test-stack

.PHONY: test
test: ## Run the fast tests: library, emulator, the DAGs on Airflow 3
	@$(call each,test-library test-dags-fast)

.PHONY: test-all
test-all: ## Run every test but those of infra/ (make test-infra)
	@$(call each,test-library test-dags-fast $(REST))

.PHONY: test-rest
test-rest: ## Run what make test leaves out
	@$(if $(PYTHON312),,echo "skipped: loading the DAGs on Python 3.12: no python3.12 runs here (make test-dags-py312 PYTHON312=FILE)")
	@$(call each,$(REST))

.PHONY: test-library
test-library: setup .venv-airflow/.synced
	@$(RUN)pytest -n $(WORKERS)

.PHONY: test-slow
test-slow: setup .venv-airflow/.synced ## Run the slow tests of the library and the emulator: whole jobs, real Spark, many dates
	@$(RUN)pytest -n 2 -m "slow and not stack and not needs and not proof"

.PHONY: test-dags
test-dags: ## Run the DAGs on Airflow 3, 3.1 and 2, against the emulator with a stub for a job
	@$(call each,test-dags-fast test-dags-slow test-dags-airflow31 test-dags-airflow2)

.PHONY: test-dags-fast
test-dags-fast: setup .venv-airflow/.synced
	@echo "The DAGs on Airflow 3"
	@$(call test_dags,.venv-airflow, -m "not slow")

.PHONY: test-dags-slow
test-dags-slow: setup .venv-airflow/.synced ## Run the slow tests of the DAGs on Airflow 3
	@echo "The DAGs on Airflow 3, the slow tests"
	@$(call test_dags,.venv-airflow, -m slow)

# An older Airflow 3 loads the DAGs and runs the training once.
.PHONY: test-dags-airflow31
test-dags-airflow31: setup .venv-airflow31/.synced
	@echo "The DAGs on Airflow 3.1"
	@$(call test_dags,.venv-airflow31,/test_dags.py tests/dags/test_runs.py::test_a_run_makes_one_cluster_trains_once_and_tells_what_was_decided)

.PHONY: test-dags-airflow2
test-dags-airflow2: setup .venv-airflow2/.synced
	@echo "The DAGs on Airflow 2"
	@$(call test_dags,.venv-airflow2,)

.PHONY: test-dags-py312
test-dags-py312: setup .venv-airflow-py312/.synced .venv-airflow2-py312/.synced ## Load the DAGs on Python 3.12 as well, on Airflow 3 and 2
	@echo "The DAGs on Airflow 3 and Python 3.12"
	@$(call test_dags,.venv-airflow-py312,/test_dags.py)
	@echo "The DAGs on Airflow 2 and Python 3.12"
	@$(call test_dags,.venv-airflow2-py312,/test_dags.py)

.PHONY: test-cloud
test-cloud: setup .venv-airflow/.synced ## Run the tests of the deployment, also with a real Airflow
	@$(RUN)pytest -m "not stack" tests/deployment

.PHONY: test-extra
test-extra: setup ## Run the tests that make test may skip (needs shellcheck, ps, the jars of S3A, HANDBOOK_DATA=FILE)
	@TEST_EXTRA=1 $(RUN)pytest -m needs

.PHONY: test-stack
test-stack: setup .venv-airflow/.synced .venv-mlflow/.synced ## Test the whole local stack with faults (some minutes)
	@$(RUN)pytest -n 2 --dist loadfile -m "stack and not proof" tests/local_stack

.PHONY: lock
lock: | $(if $(findstring .uv/,$(UV)),.uv/bin/uv) ## Update uv.lock and the requirements of MLflow's machine from pyproject.toml
	@$(UV) lock --quiet
	@$(MAKE) --no-print-directory setup
	@$(RUN)python scripts/export_mlflow_requirements.py --uv "$(UV)"

.PHONY: reference
reference: setup ## Generate the references of commands and settings, and the tables of infra/, from the code
	@$(RUN)python scripts/generate_reference.py
	@$(RUN)python scripts/generate_terraform_reference.py

.PHONY: lint
lint: setup ## Check style, format, types and imports
	@$(RUN)ruff check .
	@$(RUN)ruff format --check .
	@$(RUN)mypy
	@$(RUN)lint-imports --no-logo

##@ Infrastructure (docs/infrastructure.md)

# The cloud. Credentials and the password come from the environment: docs/infrastructure.md.
TERRAFORM ?= terraform

.PHONY: terraform-is-there
terraform-is-there:
	@command -v $(TERRAFORM) >/dev/null || { echo "make: $(TERRAFORM) is not installed; expected: Terraform 1.11 or newer; see https://developer.hashicorp.com/terraform/install"; exit 69; }

.PHONY: preflight
preflight: setup ## Before make apply: check tools, credentials, folder, image, bucket names and quotas, each with how to fix it
	@$(RUN)python -m deployment.preflight --terraform "$(TERRAFORM)"

.PHONY: init
init: terraform-is-there ## Prepare Terraform in infra/ (state: infra/backend.tf)
	@$(TERRAFORM) -chdir=infra init

.PHONY: plan
plan: terraform-is-there ## Show what Terraform would change in the cloud
	@$(TERRAFORM) -chdir=infra plan

.PHONY: apply
apply: terraform-is-there ## Apply infra/ to the cloud; asks for confirmation
	@$(TERRAFORM) -chdir=infra apply

.PHONY: destroy
destroy: terraform-is-there ## Delete everything in the cloud; asks for confirmation (refused while deletion_protection is on)
	@if [ "$$($(TERRAFORM) -chdir=infra output -raw deletion_protection 2> /dev/null)" = true ]; then \
		echo "make destroy: deletion_protection is on in the cloud; expected: off, since a destroy would delete machines, keys and grants before the first protected resource stops it; next: set deletion_protection = false in infra/terraform.tfvars, make apply, then make destroy"; exit 1; fi
	@$(TERRAFORM) -chdir=infra destroy

.PHONY: rehearse
rehearse: terraform-is-there setup .venv-airflow/.synced .venv-cloud/.synced .venv-infra/.synced .venv-mlflow-machine/.synced s3a ## Drive the way to the cloud whole, by the real programs in the emulated cloud (docs/rehearsal.md)
	@infra/tests/provider.sh
	@$(RUN)python -m rehearsal

##@ Slow checks

.venv-infra/.synced: infra/tests/pyproject.toml infra/tests/uv.lock | $(if $(findstring .uv/,$(UV)),.uv/bin/uv)
	@echo "Installing the infrastructure's checks into .venv-infra (once)"
	@UV_PROJECT_ENVIRONMENT="$(CURDIR)/.venv-infra" $(UV) sync --quiet --locked --project infra/tests --python "$(PYTHON)"
	@touch $@

MLFLOW_REQUIREMENTS := infra/modules/mlflow-server/files/requirements.txt

.venv-mlflow-machine/.synced: $(MLFLOW_REQUIREMENTS) | $(if $(findstring .uv/,$(UV)),.uv/bin/uv)
	@echo "Installing the packages of MLflow's machine into .venv-mlflow-machine (once)"
	@$(UV) venv --quiet --clear --python "$(PYTHON)" .venv-mlflow-machine
	@$(UV) pip install --quiet --python .venv-mlflow-machine --require-hashes --no-deps --only-binary :all: -r $(MLFLOW_REQUIREMENTS)
	@touch $@

.PHONY: test-infra
test-infra: terraform-is-there setup .venv-airflow/.synced .venv-infra/.synced .venv-mlflow-machine/.synced ## Test infra/ without a cloud (needs terraform, and go if Terraform's registry is unavailable)
	@infra/tests/provider.sh
	@TEST_INFRA=1 UV_PROGRAM="$(UV)" MOTO_SERVER="$(CURDIR)/.venv-infra/bin/moto_server" MLFLOW_MACHINE_PYTHON="$(CURDIR)/.venv-mlflow-machine/bin/python" $(RUN)pytest -m "not stack" tests/infra
	@.venv-infra/bin/checkov --config-file infra/tests/checkov.yaml

CONTEST = .venv-benchmark/bin/python benchmarks/speed.py --data "$(HANDBOOK_DATA)" --times 10 --rounds 2 --no-job --only "bare,sail,polars,duckdb"

.PHONY: benchmark
benchmark: .venv-benchmark/.synced ## Measure quality and speed on the Handbook's transactions (HANDBOOK_DATA=FILE)
	@test -n "$(HANDBOOK_DATA)" || { echo "make benchmark: HANDBOOK_DATA is not set; run: make benchmark HANDBOOK_DATA=path/to/handbook_transactions.parquet"; exit 2; }
	@.venv-benchmark/bin/python -m benchmarks.handbook --data "$(HANDBOOK_DATA)" --check
	@.venv-benchmark/bin/python benchmarks/speed.py --data "$(HANDBOOK_DATA)"
	@$(CONTEST)
	@.venv-benchmark/bin/python benchmarks/simulation.py --check

.PHONY: prove
prove: setup .venv-benchmark/.synced ## Measure the promotion rule, real retraining, few frauds, first champions, starts under load and growth, too slow for a test (some hours)
	@$(RUN)python -m benchmarks.promotion --full
	@$(RUN)python -m benchmarks.promotion_plots
	@$(RUN)python -m benchmarks.end_to_end --full
	@$(RUN)python -m benchmarks.refit --output benchmarks/results/refit.md
	@$(RUN)python -m benchmarks.looks --check --output benchmarks/results/looks.md
	@$(RUN)python -m benchmarks.few_frauds --output benchmarks/results/few_frauds.md
	@$(RUN)python -m benchmarks.first_champion --check --output benchmarks/results/first_champion.md
	@$(RUN)python -m benchmarks.starts --check --output benchmarks/results/starts.md
	@$(RUN)python -m benchmarks.scale --sizes 1,10h,10c --output benchmarks/results/scale.md
	@$(RUN)python -m benchmarks.scale --engine spark --output benchmarks/results/scale_spark.md
	@$(RUN)python -m benchmarks.skew --output benchmarks/results/skew.md
	@$(RUN)python -m benchmarks.growth --check --output benchmarks/results/growth.md
	@$(RUN)python -m benchmarks.operation --seeds 1,2 --check --output benchmarks/results/operation.md
	@test -z "$(HANDBOOK_DATA)" || $(CONTEST)
	@$(MAKE) prove-grants prove-tests

.PHONY: prove-tests
prove-tests: setup .venv-airflow/.synced .venv-mlflow/.synced ## Run the long tests that CI leaves out: further faults of the whole stack, further cases of whole jobs
	@$(RUN)pytest -n 2 --dist loadfile -m proof

.PHONY: fuzz
fuzz: setup ## Read generated and damaged files, and load damaged settings, for MINUTES (30): no stack trace, no hang
	@$(RUN)python -m benchmarks.fuzz --minutes $(MINUTES)

.PHONY: prove-grants
prove-grants: terraform-is-there setup .venv-infra/.synced ## Remove each grant of infra/ in the emulated cloud, and list the calls that are denied without it
	@infra/tests/provider.sh
	@$(RUN)python -m benchmarks.grants --check --output benchmarks/results/grants.md

##@ Deployment (docs/deploy.md)

.PHONY: cloud-tools
cloud-tools: .venv-cloud/.synced ## Install the tools of the targets below into .venv-cloud

.PHONY: env
env: terraform-is-there cloud-tools ## Write .env and variables.json from Terraform's outputs
	@outputs=$$($(TERRAFORM) -chdir=infra output -json); $(CLOUD)python -m deployment.environment <<<"$$outputs"

.PHONY: import-variables
import-variables: cloud-tools ## Load variables.json into Airflow through its REST API
	@$(CLOUD)python -m deployment.variables

.PHONY: pause-training
pause-training: setup ## Wait for the current run to end, then pause the training in Airflow (AIRFLOW_URL in .env)
	@$(RUN)python -m deployment.runs pause --env $(ENV_FILE)

.PHONY: resume-training
resume-training: setup ## Unpause the training in Airflow
	@$(RUN)python -m deployment.runs resume --env $(ENV_FILE)

.PHONY: test-run
test-run: setup ## Train once with force in Airflow, and show the decision
	@$(RUN)python -m deployment.runs test --env $(ENV_FILE)

.PHONY: create-venv-archive
create-venv-archive: cloud-tools ## Build venvs/venv.tar.gz, the job's packages for a cluster, from uv.lock
	@UV="$(UV)" scripts/create_venv_archive.sh

.PHONY: upload-venv-to-bucket
upload-venv-to-bucket: cloud-tools ## Upload venvs/venv.tar.gz
	@scripts/upload_to_s3.sh venv

.PHONY: upload-src-to-bucket
upload-src-to-bucket: cloud-tools ## Upload the job, its library and its settings
	@scripts/upload_to_s3.sh src

.PHONY: upload-dags-to-bucket
upload-dags-to-bucket: cloud-tools ## Upload the DAGs; delete in the bucket what was deleted locally
	@scripts/upload_to_s3.sh dags

.PHONY: upload-data-to-bucket
upload-data-to-bucket: cloud-tools ## Upload the transactions of INPUT
	@scripts/upload_to_s3.sh data --data $(INPUT)

# In this order, also with make -j. What import-variables needs is checked before anything is uploaded. The DAGs come last,
# so that everything they need exists when Airflow first reads them.
.PHONY: deploy-full
deploy-full: ## After make apply: write .env, upload everything, load the variables
	@$(MAKE) env
	@$(CLOUD)python -m deployment.variables --check
	@$(MAKE) upload-data-to-bucket
	@$(MAKE) create-venv-archive
	@$(MAKE) upload-venv-to-bucket
	@$(MAKE) upload-src-to-bucket
	@$(MAKE) import-variables
	@$(MAKE) upload-dags-to-bucket
	@$(CLOUD)python -m deployment.variables --silences

.PHONY: verify
verify: setup ## After make deploy-full: check Airflow, buckets, MLflow and the job's account, each with how to fix it
	@$(RUN)python -m deployment.verify --env $(ENV_FILE)

.PHONY: download-output-data-from-bucket
download-output-data-from-bucket: cloud-tools ## Download decisions and reports into data/output_data/cloud
	@$(CLOUD)python -m deployment.bucket download-output

.PHONY: instance-list
instance-list: cloud-tools ## List the folder's machines (yc)
	@$(CLOUD)python -m deployment.watch instances

.PHONY: airflow-cluster-mon
airflow-cluster-mon: cloud-tools ## Follow the log of Managed Airflow (yc)
	@$(CLOUD)python -m deployment.watch airflow

.PHONY: sync-repo
sync-repo: cloud-tools ## Copy the repository to a machine by ssh (HOST=user@address, FOLDER)
	@$(CLOUD)python -m deployment.remote repo --host "$(HOST)" --folder "$(FOLDER)"

.PHONY: sync-env
sync-env: cloud-tools ## Copy .env and variables.json to a machine by ssh (HOST=user@address, FOLDER)
	@$(CLOUD)python -m deployment.remote env --host "$(HOST)" --folder "$(FOLDER)"

.PHONY: git-push-secrets
git-push-secrets: cloud-tools ## Send named values of .env to the secrets of GitHub's environment production (REPOSITORY=owner/name, DRY_RUN=1)
	@$(CLOUD)python -m utils.push_secrets_to_github_repo --repository "$(REPOSITORY)" $(if $(DRY_RUN),--dry-run)
