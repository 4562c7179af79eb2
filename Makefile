# make demo · make test · make coverage · make test-slow · make lint · make options · make gpu-check
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_FOLDER ?= .

.PHONY: help install demo test coverage test-slow gpu-check lint docs format options clean

help:
	@echo "make demo       install into $(VENV), make the demo data, train, validate, leave pictures in experiments/"
	@echo "make test       tests on the CPU, within 15 minutes on 2 cores"
	@echo "make coverage   the same tests, and which lines they run"
	@echo "make test-slow  torchrun, kills and other long processes, within 30 minutes"
	@echo "make gpu-check  tests, figures and plots of everything that needs a GPU, in gpu_check/"
	@echo "make lint       ruff, format check, mypy, length of modules, docstrings, generated files"
	@echo "make docs       pages and reference in docs/_build/index.html"
	@echo "make options    write docs/options.md, the schemas for editors, and options/ablation/"

install: $(VENV)/.installed

# BasicSR's build asks pip for torch in an environment of its own: built without isolation, torch is downloaded once.
$(VENV)/.installed: pyproject.toml setup.py macr_plugin.pth
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=77.0.3,<82" wheel
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps basicsr==1.4.2
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[test,benchmark,noncommercial,video,export,app,docs]"
	touch $@

demo: install
	cd $(DEMO_FOLDER) && $(abspath $(BIN))/macr synthesize --demo
	cd $(DEMO_FOLDER) && $(abspath $(BIN))/python -m macr_plugin.train -opt $(CURDIR)/options/macr_demo.yml
	cd $(DEMO_FOLDER) && $(abspath $(BIN))/python $(CURDIR)/scripts/demo_picture.py --shipped \
		--weights "experiments/macr_demo=trained here" --frames chelsea/000001 coffee/000003 \
		--out experiments/macr_demo/visualization/demo.png
	@echo "Blurred, restored and sharp side by side:"
	@ls $(DEMO_FOLDER)/experiments/macr_demo/visualization/demo.png \
		$(DEMO_FOLDER)/experiments/macr_demo/visualization/*comparison*.png

test: install
	$(BIN)/python -m pytest -m "not slow"

# The fast tests, with the lines of each module that none of them runs; what processes of their own run is not seen.
coverage: install
	$(BIN)/python -m pytest -m "not slow" --cov --cov-report=term-missing:skip-covered

test-slow: install
	$(BIN)/python -m pytest -m slow

gpu-check: install
	$(BIN)/python scripts/gpu_check.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/check_modules.py

# Strict: a warning, such as a link that leads nowhere, is an error.
docs: install
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

options: install
	$(BIN)/python scripts/write_options.py
	$(BIN)/python scripts/write_ablations.py

clean:
	rm -rf $(VENV) build dist docs/_api docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache
