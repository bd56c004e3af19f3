# All commands of the project. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-container test-zoo pictures test-faults audit test-gpu bench bench-gpu bench-plan bench-scale \
	bench-packing profile lint lint-python lint-types lint-shell lint-image lint-workflows test-tools format tensorboard plan doctor image \
	up up-cpu \
	logs down docs lock clean

PYTHON ?=
export PYTHON
VENV := .venv/bin
COMPOSE := docker compose
CPU := -f docker-compose.yml -f docker-compose.cpu.yml
BUILT := $(if $(IMAGE),,image) # where IMAGE names a published image, it is pulled

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{ printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## set up, then train and measure an adapter on the embedded example (CPU, about a minute)
	@./setup.sh
	@$(VENV)/python entrypoint.py run

test: ## set up, lint, run the fast tests
	@./setup.sh test
	@$(MAKE) --no-print-directory lint
	@$(VENV)/pytest --numprocesses 2 --dist loadfile -m "not slow"

test-slow: ## kills and resumes, a hub that misbehaves, 200,000 rows (some minutes)
	@./setup.sh test
	@$(VENV)/pytest --numprocesses 2 --dist loadfile -m slow

test-container: ## build the image and try it and the compose file on a real Docker engine (first time 15 minutes)
	@./setup.sh test
	@$(VENV)/pytest tests/container

test-zoo: ## take a tiny model of every family through the whole job, and write docs/models.md (about six minutes)
	@./setup.sh test
	@$(VENV)/pytest --numprocesses 2 --dist loadgroup tests/zoo

pictures: ## run the embedded example and take the README's pictures of its report and of TensorBoard
	@./setup.sh test
	@PICTURES=$(CURDIR)/docs $(VENV)/pytest tests/container/test_report.py tests/container/test_pages.py

test-faults: ## kill, stop and resume 200 times; damage, fuzz; print what happened (half an hour)
	@./setup.sh test
	@FAULTS=200 $(VENV)/pytest tests/faults

audit: ## look up every pinned package in the list of known vulnerabilities
	@./setup.sh test
	@$(VENV)/pip-audit --requirement requirements.txt --require-hashes --disable-pip --strict

test-gpu: ## try every way of holding a model on this machine's GPU
	@./setup.sh test
	@$(VENV)/pytest tests/gpu

bench: ## time the job against the published recipe, lever by lever, on this CPU (a quarter of an hour)
	@./setup.sh
	@$(VENV)/python -m bench.speed
	@$(VENV)/python -m bench.show

bench-gpu: ## time the job against the published recipe on this machine's GPU, FLAN-T5 base to XXL
	@./setup.sh
	@$(VENV)/python -m bench.speed --gpu
	@$(VENV)/python -m bench.show

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
	@$(VENV)/shellcheck $$(git ls-files '*.sh' .ci/run)

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
	@$(VENV)/tensorboard --logdir $${LOGS_DIR:-logs} --port $${TENSORBOARD_PORT:-6006}

plan: ## predict what training takes on each kind of GPU
	@./setup.sh
	@$(VENV)/python entrypoint.py plan

doctor: ## check GPU, folders, model and data in seconds
	@./setup.sh
	@$(VENV)/python entrypoint.py doctor

image: ## build the image
	IMAGE_REVISION=$$(git describe --always --abbrev=40 --dirty --exclude '*' 2>/dev/null || echo unknown) $(COMPOSE) build job

up: $(BUILT) ## TensorBoard in the background, then the job on the GPU in the foreground
	$(COMPOSE) up --detach tensorboard
	$(COMPOSE) up --no-log-prefix --exit-code-from job job

up-cpu: $(BUILT) ## the same on a machine without a GPU
	$(COMPOSE) $(CPU) up --detach tensorboard
	$(COMPOSE) $(CPU) up --no-log-prefix --exit-code-from job job

logs: ## follow what the job in its container says
	$(COMPOSE) logs --no-log-prefix --follow job

down: ## stop the containers; adapters, curves and downloaded models stay
	$(COMPOSE) down

docs: ## write env.example and docs/variables.md from the settings
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
