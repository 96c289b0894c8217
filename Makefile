VENV := .venv
BIN := $(VENV)/bin
CLIP := vace_adapt/embedded/clip
PARTS := plugins/longlive plugins/memflow plugins/streamdiffusion plugins/framepack conformance
EXAMPLES := examples/selfforcing
PROJECTS := pyproject.toml $(addsuffix /pyproject.toml,$(PARTS) $(EXAMPLES)) constraints.txt

.PHONY: demo test lint check

# Stream the bundled clip through LongLive under control, and say where the results lie.
demo: $(VENV)/installed
	$(BIN)/vace-adapt run pipeline=longlive input=$(CLIP)/control.mp4 mask=$(CLIP)/mask.mp4 \
		references=[$(CLIP)/reference.png] prompt="a striped ball and a pink ring on maroon floor"

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

$(VENV)/installed: $(PROJECTS)
	python3 -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e . $(addprefix -e ,$(PARTS))
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]' $(addprefix -e ,$(PARTS) $(EXAMPLES))
	touch $@
