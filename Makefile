# One command each; every one of them first makes what it needs. Start with: make demo
.DEFAULT_GOAL := help
.PHONY: help setup tools system demo test check bench fmt clean distclean
BIN := .venv/bin
CODE := shared edge_agent server installers tests

# Taken from the environment by the demo, so that any path is safe: make demo CSV="my file.csv" SERVE=1
export CSV SERVE

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1@/' | column -t -s '@' 2>/dev/null \
	  || grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST)

setup: ## make .venv with everything in it, the model runtime and the models (idempotent)
	@sh installers/setup.sh

tools: # the same without the model runtime, which takes minutes to compile
	@sh installers/setup.sh --no-model

system: # Chromium and a compiler, where this user may install them
	@sh installers/system.sh

demo: setup ## the whole way of a task with two real processes; CSV=FILE takes another file, SERVE=1 stays up
	@$(BIN)/python installers/demo.py

test: system ## all tests; ARGS="-k name" narrows
	@sh installers/setup.sh --embeddings
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

check: tools ## what CI checks without running: format, lint, types, import contracts
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: ## measure: runs every script in tests/benchmarks
	@sh installers/setup.sh --embeddings
	@for script in tests/benchmarks/*.py; do \
	  case "$$script" in */__init__.py | */_*.py) continue ;; esac; \
	  echo "== $$script"; $(BIN)/python "$$script" || exit 1; \
	done

fmt: tools ## format, and mend what ruff can mend
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

clean: ## remove what demo and tests left; .venv stays
	rm -rf .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build out
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv as well
	rm -rf .venv
