# What a person types here. Each target first makes what it needs; a second run is quick.
.DEFAULT_GOAL := help
.PHONY: help demo lab test foreign lint faults bench matrix lock lessons pictures system clean
.DELETE_ON_ERROR:

BIN := .venv/bin
INPUTS := pyproject.toml requirements.lock scripts/setup
# Tests, lessons and benchmarks never reach a live server or a person's own files.
SAFE := env -u MISTRAL_API_KEY -u MISTRAL_SERVER_URL -u MISTRAL_MODEL -u MISTRAL_NB_HOME
# Other people's clients have pins and warnings of their own, and so an environment of their own.
FOREIGN := $(SAFE) .venv/foreign/bin/python -W default -m pytest -W default --disable-warnings \
	-n 2 --dist loadfile tests/foreign

help:  ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' Makefile

demo: .venv/.core  ## label a small data set and stream a reply, without a key or a network
	@$(BIN)/mistral-nb demo

lab: .venv/.full  ## open the lessons in JupyterLab
	@$(BIN)/mistral-nb lab

# Each process opens a JupyterLab of its own: two fill a small machine. The other tests mostly
# wait for a server or a worker.
test: lint system .venv/.foreign  ## run every check and test, in a real browser as well
	$(SAFE) $(BIN)/python -m pytest -n 2 --dist loadfile tests/browser
	$(SAFE) $(BIN)/python -m pytest -n 4 --dist loadfile --ignore tests/browser --ignore tests/foreign
	$(FOREIGN)
	$(SAFE) $(BIN)/python -m pytest -n 2 --nbmake notebooks

lint: .venv/.full  ## check style, types and the floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

foreign: .venv/.foreign  ## only the clients of others (LangChain, litellm, TypeScript, ...)
	$(FOREIGN)

faults: .venv/.full  ## only the kills, cuts and storms: 10 kills, 5,000 rows
	$(SAFE) $(BIN)/python -m pytest tests/faults --full-faults

bench: .venv/.full  ## measure what the README claims, side by side
	@$(SAFE) $(BIN)/python benchmarks/run.py

matrix: .venv/.full system  ## try every JupyterLab, ipykernel, Python and extra that is supported
	$(SAFE) $(BIN)/python scripts/matrix.py

lock: .venv/.core  ## resolve every version anew into requirements.lock
	$(BIN)/python scripts/lock.py

lessons: .venv/.full  ## execute the lessons anew and keep their outputs
	$(SAFE) $(BIN)/python scripts/lessons.py

pictures: .venv/.full system  ## film the README's pictures in a real JupyterLab, and the lessons' covers
	$(SAFE) $(BIN)/python scripts/pictures.py
	$(SAFE) $(BIN)/python scripts/covers.py

clean:  ## remove .venv and every cache
	rm -rf .venv tests/foreign/typescript/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .matrix dist build

system: .venv/.full
	@scripts/setup system

.venv/.core: $(INPUTS)
	@scripts/setup core

.venv/.full: $(INPUTS)
	@scripts/setup full

.venv/.foreign: .venv/.full tests/foreign/requirements.txt tests/foreign/typescript/package-lock.json
	@scripts/setup foreign
