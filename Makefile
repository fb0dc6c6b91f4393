# make help lists the targets. Everything is installed into .venv, and again when the requirements change.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export HF_HUB_DISABLE_TELEMETRY = 1
export TOKENIZERS_PARALLELISM = false

.DEFAULT_GOAL := help
.PHONY: help setup browser train demo test

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## / - /; s/^/make /'

setup: $(READY) ## install what is needed into .venv

$(READY): $(wildcard requirements*.txt)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

browser: # Chromium for the tests of the pages, where it can be installed; they are skipped without
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver; } \
		|| echo "no chromium: tests of the web pages will be skipped"

runs/shapes/results.json: $(READY)
	$(BIN)/accelerate launch train_accelerate.py configs/shapes.yaml --output_dir runs/shapes --overwrite_output_dir true
	$(BIN)/python evaluate_miniclip.py --model_name_or_path runs/shapes --dataset_name shapes --split test \
		--zero_shot_dataset shapes --zero_shot_split unseen --output_json $@

train: $(READY) ## train on drawn shapes and measure zero-shot accuracy on combinations never seen
	@rm -f runs/shapes/results.json
	@$(MAKE) --no-print-directory runs/shapes/results.json

demo: runs/shapes/results.json ## the same, unless it has been done, and then the web page
	MINICLIP_MODEL=runs/shapes $(BIN)/python app.py

test: $(READY) browser ## linter, formatter and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	HF_HUB_OFFLINE=1 $(BIN)/pytest
