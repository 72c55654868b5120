# Short names for `python3 dev.py …`; nothing here is needed to use or test the project.
DEV := python3 dev.py
COMPILE := $(DEV) run pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header \
	--no-emit-options --no-emit-find-links --no-emit-index-url --no-emit-trusted-host pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help demo test check format lock up down

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: ## a real Kafka and a surge of orders, to watch
	@$(DEV) demo

test: ## the checks, then every test
	@$(DEV) test

check: ## format, lint, types, architecture
	@$(DEV) check

format: ## rewrite the code the way `check` wants it
	@$(DEV) run ruff check --fix --quiet || true
	@$(DEV) run ruff format

lock: ## resolve the pinned requirements anew: the checkout's, then the image's subset of them
	@$(DEV) run pip install --quiet pip-tools
	@$(COMPILE) --extra local --extra dev --extra bench --output-file requirements.lock
	@$(COMPILE) --constraint requirements.lock --output-file deploy/docker/requirements.lock

up: ## broker, topics and worker in Docker
	docker compose up --build --detach

down: ## stop them and drop their data
	docker compose down --volumes
