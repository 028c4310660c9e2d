# make demo: install into .venv and search real files.  make test: everything that must hold.  make bench: the figures.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check
CORE := pyproject.toml $(wildcard core/*.hpp core/*.cpp core/tables/*.inc) core/CMakeLists.txt

.PHONY: demo test bench nano static micro mini tables web clean

demo: .venv/base
	@echo; echo '$$ nestling models'
	@$(BIN)/nestling models
	@echo; echo '$$ nestling search "what happens when the disk is full while saving" docs src --top 3'
	@$(BIN)/nestling search "what happens when the disk is full while saving" docs src --top 3
	@echo; echo '$$ nestling search "how does a text become a vector" docs src --top 3'
	@$(BIN)/nestling search "how does a text become a vector" docs src --top 3
	@echo; echo "To use nestling in this shell, type: source .venv/bin/activate"

# With the core, and again without it what could differ; then the core alone, by fuzzers and sanitizers.
test: .venv/test .venv/web
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest
	NESTLING_PURE=1 $(BIN)/python -m pytest --ignore tests/text/test_native.py tests/text tests/model tests/files tests/test_embed.py
	core/check.sh 15

# The figures in README.md and docs/: need ../shared (or NESTLING_DATA), and the teachers and peers of docs/score.md.
DATA := $(or $(NESTLING_DATA),../shared)
CACHE := $(or $(NESTLING_CACHE),$(HOME)/.cache/nestling)
PEERS := nano static micro mini $(DATA)/peers/potion-base-4M-int8 $(CACHE)/teachers/minilm $(CACHE)/teachers/bge-small
RESULTS := benchmarks/results

bench: .venv/test
	$(BIN)/python benchmarks/references.py
	$(BIN)/python benchmarks/baselines.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/seeds.py
	$(BIN)/python benchmarks/ladder.py
	$(BIN)/python benchmarks/blocks.py
	$(BIN)/python benchmarks/bits.py
	$(BIN)/python benchmarks/routes.py
	$(BIN)/python benchmarks/order.py
	for model in nano static micro mini; do $(BIN)/nestling compare $(RESULTS)/scores/$$model \
		$$(ls -d $(RESULTS)/scores/* | grep -v -e @ -e /$$model$$) --suite broad --json > $(RESULTS)/compare_$$model.json; done
	for peer in $(PEERS); do $(BIN)/nestling probe $$peer --out $(RESULTS)/probes/$$(basename $$peer).json || exit 1; done
	$(BIN)/nestling speed nano --beside static --beside model2vec:nano --beside st-static:nano --beside wordllama --beside tokie:nano \
		--beside $(DATA)/peers/potion-base-4M-int8 --beside model2vec:$(DATA)/peers/potion-base-4M-int8 \
		--beside minilm-onnx:$(CACHE)/teachers/minilm --beside $(CACHE)/teachers/bge-small \
		--texts $(DATA)/corpus/english.parquet --column text --out $(RESULTS)/speed.json
	$(BIN)/nestling speed micro --beside onnxruntime:micro --beside mini --beside onnxruntime:mini --beside static \
		--beside minilm-int8:$(CACHE)/teachers/minilm --beside minilm-onnx:$(CACHE)/teachers/minilm \
		--texts $(DATA)/corpus/english.parquet --column text --out $(RESULTS)/transformer_speed.json
	$(BIN)/python benchmarks/core_speed.py
	$(BIN)/python benchmarks/core_stages.py
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/exactness.py
	$(BIN)/python benchmarks/embed_speed.py
	$(BIN)/python web/bench.py
	$(BIN)/python benchmarks/questions.py
	$(BIN)/python benchmarks/search_speed.py
	mkdir -p docs/pictures
	$(BIN)/nestling plot size $$(ls -d $(RESULTS)/scores/* | grep -v -e @ -e reference -e tokenlearn -e model2vec) --suite broad --out docs/pictures/size.svg
	$(BIN)/nestling plot dims $(RESULTS)/scores/static --suite broad --out docs/pictures/dims.svg
	$(BIN)/nestling plot speed $(RESULTS)/speed.json --out docs/pictures/speed.svg
	$(BIN)/nestling plot losses $(RESULTS)/micro.json --out docs/pictures/losses.svg
	for model in nano static micro mini; do $(BIN)/nestling card $$model --results $(RESULTS)/scores/$$model --out docs/$$model.md; done
	$(BIN)/python benchmarks/tables.py

# The core's tables, asked anew of the installed `tokenizers`; and the browser's build of the core.
tables: .venv/test
	for each in codepoints albert graphemes; do $(BIN)/python core/derive/$$each.py || exit 1; done

web:
	web/packages.sh
	web/build.sh

# Makes the shipped models anew, in one thread, on which their last bits depend; an hour where the teacher's vectors are
# not in the cache yet, and an hour more for a transformer.
nano static micro mini: .venv/test
	OMP_NUM_THREADS=1 $(BIN)/nestling make recipes/$@.toml --out src/nestling/models/$@.nest --report benchmarks/results/$@.json

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nestling needs Python 3.11 or newer; $(PYTHON) is older. Type: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/base: .venv/bin/python $(CORE)
	$(PIP) install --quiet --editable .
	@touch $@

# torch first, pinned: with nothing else asked for, pip takes the CPU build where one lies ready.
.venv/test: .venv/base constraints.txt
	$(PIP) install --quiet --constraint constraints.txt torch
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

# Chromium, which the tests of web/ drive, what drives it, and emscripten.
.venv/web: .venv/bin/python web/package-lock.json
	web/packages.sh
	npm ci --prefix web --ignore-scripts --silent --no-fund --no-audit
	@touch $@

clean:
	rm -rf .venv build web/node_modules dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
