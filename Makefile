# The commands of this project; `make` lists them. Everything is installed into .venv, except Chromium for the tests of
# the page, which is installed only if this runs as root and apt-get exists.

PYTHON ?= python3
MODEL ?= runs/shapes

PY := .venv/bin/python
INSTALLED := .venv/.installed
RESULTS := $(MODEL)/results.json
GALLERY := runs/gallery/shapes

# Waiting threads must not spin: on a busy machine with few cores, spinning costs most of the speed.
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup browser train demo test clean-model

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## create .venv with all packages (again when the requirements change)

$(INSTALLED): requirements.txt requirements-dev.txt requirements-onnx.txt
	@echo 'installing packages into .venv, some minutes the first time'
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet -r requirements-dev.txt
	touch $@

train: $(RESULTS) ## train on drawn shapes (a few minutes on two cores) and measure zero-shot accuracy
	@$(PY) -c 'import json; r = json.load(open("$(RESULTS)"))["zero_shot"]; print("zero-shot accuracy on never-seen \
	combinations: %.1f %% (chance: %.1f %%); model in $(MODEL)" % (100 * r["accuracy"], 100 * r["chance"]))'

# A run without results starts again from the beginning.
$(RESULTS): | $(INSTALLED)
	$(PY) train_accelerate.py configs/shapes.yaml --output_dir $(MODEL) --existing_run replace
	$(PY) evaluate_miniclip.py --model_name_or_path $(MODEL) --dataset_name shapes \
		--zero_shot_dataset shapes --zero_shot_split unseen --templates "a {}" "a photo of a {}" \
		--output_json $(RESULTS)

clean-model: ## delete the trained model, so that `make train` trains again
	rm -rf $(MODEL)

demo: train $(GALLERY)/test.parquet ## the same, then serve the page with that model and a gallery of 1,000 shapes
	MINICLIP_MODEL=$(MODEL) MINICLIP_GALLERY=$(GALLERY) $(PY) app.py

$(GALLERY)/test.parquet: | $(INSTALLED)
	@mkdir -p $(@D)
	$(PY) -c 'from miniclip.data.shapes import shapes_split; shapes_split("test").to_parquet("$@")'

test: $(INSTALLED) browser ## run ruff and pytest; tests that need Chromium are skipped without it
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	$(PY) -m pytest --numprocesses 2 --dist worksteal

browser:
	@for name in chromium chromium-browser google-chrome; do command -v $$name > /dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -qq -y --no-install-recommends chromium > /dev/null && exit 0; \
	fi; \
	echo 'Chromium is missing and cannot be installed: tests of the pages are skipped'
