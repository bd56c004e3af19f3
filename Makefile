# All commands of the project. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help demo demo-sweep test test-slow test-container test-engines test-slurm test-zoo pictures test-faults test-serve audit \
	test-gpu test-pretended-gpu bench bench-gpu gpu-report bench-scale bench-packing profile bench-plan lint lint-python lint-types \
	lint-shell lint-image lint-workflows test-tools format tensorboard plan doctor image up up-cpu logs down docs lock clean

PYTHON ?=
export PYTHON
# As the job sets it: threads that wait soon sleep, and tests run beside each other.
export GOMP_SPINCOUNT ?= 1000
VENV := .venv/bin
COMPOSE := docker compose
CPU := -f docker-compose.yml -f docker-compose.cpu.yml
BUILT := $(if $(IMAGE),,image) # where IMAGE names a published image, it is pulled

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{ printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## set up, then train and measure an adapter on the embedded example (CPU, about a minute)
	@./setup.sh
	@$(VENV)/python entrypoint.py run

demo-sweep: ## six settings of the embedded example, the best evaluated on rows that chose none (CPU, minutes)
	@./setup.sh
	@SWEEP="LEARNING_RATE=3e-4..1e-2 LORA_R=8,16,32" SWEEP_TRIALS=6 $(VENV)/python entrypoint.py sweep

test: ## set up, lint, run the fast tests
	@./setup.sh test
	@$(MAKE) --no-print-directory lint
	@$(VENV)/pytest --numprocesses 2 --dist worksteal -m "not slow"

test-slow: ## kills and resumes, a hub that misbehaves, 100,000 rows (some minutes)
	@./setup.sh test
	@$(VENV)/pytest --numprocesses 2 --dist worksteal -m slow

test-container: ## build the image and try it and the compose file on a real Docker engine (first time 15 minutes)
	@./setup.sh test
	@$(VENV)/pytest tests/container

test-engines: ## Kubernetes, SkyPilot, Ray and clouds: their own validators and parsers, a real Ray cluster (ten minutes)
	@./setup.sh test
	@$(VENV)/pytest tests/engines

test-slurm: ## stop, kill, displace and drain jobs on a real Slurm of two nodes on this machine (installs it; about five minutes)
	@./setup.sh test
	@$(VENV)/pytest tests/slurm

test-zoo: ## take a tiny model of every family through the whole job, and write docs/models.md (about six minutes)
	@./setup.sh test
	@$(VENV)/pytest --numprocesses 2 --dist loadgroup tests/zoo

pictures: ## run the embedded example and take the docs' pictures of its report, of TensorBoard and of `serve`
	@./setup.sh test
	@PICTURES=$(CURDIR)/docs $(VENV)/pytest tests/container/test_report.py tests/container/test_pages.py tests/container/test_serve.py

test-faults: ## kill, stop and resume 200 times; fail calls, cut the power, damage, fuzz; print what happened (two to three hours)
	@./setup.sh test
	@FAULTS=200 $(VENV)/pytest tests/faults tests/e2e/test_several_processes.py tests/commands/test_sweep.py

test-serve: ## ask `serve` by one and by 50 clients for a minute each; print what it held
	@./setup.sh test
	@SERVE_SECONDS=60 $(VENV)/pytest -s tests/faults/test_serve_load.py

audit: ## look up every pinned package in the list of known vulnerabilities
	@./setup.sh test
	@$(VENV)/python -m tests.audit

test-gpu: ## try every way of holding a model on this machine's GPU
	@./setup.sh test
	@$(VENV)/pytest tests/gpu

test-pretended-gpu: ## whole runs, faults and two cards on GPUs that are not there (minutes, on any CPU)
	@./setup.sh test
	@$(VENV)/pytest --numprocesses 2 tests/pretended
	@$(VENV)/pytest tests/gpu --pretend T4

bench: ## time the job against the published recipe, lever by lever, on this CPU (half an hour)
	@./setup.sh
	@$(VENV)/python -m bench.speed
	@$(VENV)/python -m bench.show

bench-gpu: ## time the job against the published recipe on this machine's GPU, FLAN-T5 base to XXL
	@./setup.sh
	@$(VENV)/python -m bench.speed --gpu
	@$(VENV)/python -m bench.show

gpu-report: ## all that needs a GPU, in under 25 minutes, into one file under bench/results (PARTS=tests,speed,memory,large)
	@./setup.sh test
	@$(VENV)/python -m bench.gpu_report $(if $(PARTS),--parts $(PARTS))

bench-scale: ## prepare and train on a thousand to a million rows; report memory and speed
	@./setup.sh
	@$(VENV)/python -m bench.scale

bench-packing: ## time packed rows against padded ones for encoder-decoders other than T5, on this CPU (minutes)
	@./setup.sh
	@$(VENV)/python -m bench.packing

profile: ## show where the time of a training step goes, and write a trace
	@./setup.sh
	@$(VENV)/python -m bench.profile_steps

bench-plan: ## compare predicted memory with real steps, on the GPU if there is one
	@./setup.sh
	@$(VENV)/python -m bench.plan_accuracy

lint: lint-python lint-types lint-shell lint-image lint-workflows ## check Python, shell, Dockerfile and workflows

lint-python: test-tools
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .

lint-types: test-tools
	@$(VENV)/mypy

lint-shell: test-tools
	@$(VENV)/shellcheck $$(git ls-files '*.sh' '*.sbatch' .ci/run)

lint-image: test-tools
	@$(VENV)/hadolint Dockerfile

lint-workflows: test-tools
	@$(VENV)/actionlint -shellcheck $(VENV)/shellcheck -pyflakes ''

test-tools:
	@./setup.sh test

format: ## fix style and format
	@./setup.sh test
	@$(VENV)/ruff check --fix .
	@$(VENV)/ruff format .

tensorboard: ## show the curves of all runs on http://localhost:6006
	@./setup.sh
	@$(VENV)/python -m job.system.tensorboard_server --logdir $${LOGS_DIR:-logs} --port $${TENSORBOARD_PORT:-6006}

plan: ## predict what training takes on each kind of GPU
	@./setup.sh
	@$(VENV)/python entrypoint.py plan

doctor: ## check GPU, folders, model and data in seconds
	@./setup.sh
	@$(VENV)/python entrypoint.py doctor

image: ## build the image
	IMAGE_REVISION=$$(git describe --always --abbrev=40 --dirty --exclude '*' 2>/dev/null || echo unknown) $(COMPOSE) build job

up: $(BUILT) ## TensorBoard in the background, then the job on the GPU in the foreground, live on a terminal
	$(COMPOSE) up --detach tensorboard
	if [ -t 2 ]; then $(COMPOSE) run --rm job; else $(COMPOSE) up --no-log-prefix --exit-code-from job job; fi

up-cpu: $(BUILT) ## the same on a machine without a GPU
	$(COMPOSE) $(CPU) up --detach tensorboard
	if [ -t 2 ]; then $(COMPOSE) $(CPU) run --rm job; else $(COMPOSE) $(CPU) up --no-log-prefix --exit-code-from job job; fi

logs: ## follow what a job says that `docker compose up` started
	$(COMPOSE) logs --no-log-prefix --follow job

down: ## stop the containers; adapters, curves and downloaded models stay
	$(COMPOSE) down

docs: ## write env.example, docs/variables.md and the list of files in docs/architecture.md from the code
	@./setup.sh
	@$(VENV)/python -m job.config.docs

lock: ## solve pyproject.toml into requirements.txt and requirements-test.txt (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		pyproject.toml --output-file requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--group test --constraint requirements.txt --output-file requirements-test.txt

clean: ## delete .venv and caches; runs, curves and data stay
	rm -rf .venv .ruff_cache .pytest_cache .mypy_cache
	find job tests -name __pycache__ -type d -prune -exec rm -rf {} +
