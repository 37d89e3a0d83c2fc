# Two commands for a fresh machine with Python 3.11 or later: `make demo` and `make test`. Everything lives in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The build of torch: `make demo TORCH=cpu` has none of CUDA's gigabytes; cu126 and so on as in https://download.pytorch.org/whl.
TORCH ?=
PIP := -m pip install --quiet --disable-pip-version-check -c constraints.txt
TORCH_FIRST = $(if $(TORCH),$(1) $(PIP) torch --index-url https://download.pytorch.org/whl/$(TORCH))
# Small enough for two cores: 6 training and 3 validation clips per class and domain, 3 frames per clip instead of 25, fast flow.
DEMO_EXTRACT := --dataset demo --root demo/clips --out demo/feats.h5 --clips-per-class 6 --frames 3 --flow dis
DEMO_ADAPT := --features demo/feats.h5 --setup demo --segments 3 --runs demo/runs

.PHONY: demo test test-all test-gpu test-gpu-all bench-gpu bench-e100 test-lowest test-wheel study docs lint format clean

# The commands and the fastest engine for CPUs.
$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(call TORCH_FIRST,$(BIN)/python)
	$(BIN)/python $(PIP) -e '.[openvino]'
	touch $@

# What developers need beside.
$(BIN)/.installed-dev: $(BIN)/.installed
	$(BIN)/python $(PIP) -e '.[dev]'
	touch $@

demo: $(BIN)/.installed
	@echo "Demo: 144 rendered clips, 3 frames each (the default elsewhere is 25), fast flow, real Kinetics I3D."
	$(BIN)/cia-extract $(DEMO_EXTRACT)
	$(BIN)/cia-adapt sweep $(DEMO_ADAPT) --method source-only,concat --seeds 3 --jobs 2
	$(BIN)/cia-adapt sweep $(DEMO_ADAPT) --method cia --seeds 2 --set sc.centre=true --jobs 2
	$(BIN)/cia-adapt report demo/runs --out demo/report.html

# One thread a process and a process a core: small tensors gain nothing from threads that wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test: lint
	$(PYTEST)
	$(MAKE) test-wheel

test-all: lint
	$(PYTEST) -m ''
	$(MAKE) test-wheel

# The lowest versions that pyproject.toml allows, in an environment of their own; the constraints have the newest.
LOWEST := $(if $(TORCH),UV_TORCH_BACKEND=$(TORCH)) build/lowest/bin/uv pip

test-lowest:
	$(PYTHON) -m venv build/lowest
	build/lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST) compile pyproject.toml --extra dev --resolution lowest-direct --only-binary :all: --output-file build/lowest/versions.txt
	$(LOWEST) install --python build/lowest/bin/python --requirements build/lowest/versions.txt
	build/lowest/bin/python -m pip install --quiet --no-deps -e .
	OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest --numprocesses auto --dist worksteal

# What shows on a GPU only; DEVICE=cpu tries the same tests, and the same rows in small, where there is none. Compiling is what takes
# time, on the processor: several at once, few enough for the memory of one GPU. test-gpu-all compiles every method, test-gpu every part.
DEVICE ?= cuda
PYTEST_GPU := $(BIN)/python -m pytest --gpu $(DEVICE) --numprocesses auto --maxprocesses 4 --dist worksteal

test-gpu: $(BIN)/.installed-dev
	$(PYTEST_GPU) -m 'gpu and not slow'

test-gpu-all: $(BIN)/.installed-dev
	$(PYTEST_GPU) -m gpu

bench-gpu: $(BIN)/.installed
	$(BIN)/python benchmarks/gpu --device $(DEVICE)

# EPIC-KITCHENS-100 at full length: minutes, and 4 GB of disk. CSVS is the folder of the official csvs.
CSVS ?= UDA_annotations
bench-e100: $(BIN)/.installed
	$(BIN)/python benchmarks/e100.py --csvs $(CSVS)

lint: $(BIN)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --allow-untyped-defs benchmarks

format: $(BIN)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Build the wheel, install it where nothing else is, and run both commands from there.
test-wheel: $(BIN)/.installed-dev
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m build --wheel --outdir build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	$(call TORCH_FIRST,build/wheel/venv/bin/python)
	build/wheel/venv/bin/python $(PIP) build/wheel/*.whl
	cd build/wheel && venv/bin/cia-extract --dataset demo --root clips --clips-per-class 1 --frames 1 --flow dis
	cd build/wheel && venv/bin/cia-extract verify
	cd build/wheel && venv/bin/cia-extract recipes kinetics | grep -q replicate
	cd build/wheel && venv/bin/cia-extract --dataset ucf 2>&1 | grep -q UCF101.rar
	cd build/wheel && venv/bin/cia-adapt --features feats.h5 --setup demo --epochs 2 --batch 8
	cd build/wheel && venv/bin/cia-adapt check feats.h5
	cd build/wheel && venv/bin/cia-adapt sweep --features feats.h5 --setup demo --method source-only,concat --epochs 1 --batch 8 --seeds 2 --jobs 2 --runs swept
	cd build/wheel && venv/bin/cia-adapt table swept --baseline source-only | grep -q 94.22
	cd build/wheel && venv/bin/cia-adapt report runs/demo/cia
	test -s build/wheel/report.html

# benchmarks/STUDY.md anew: days on a CPU at full size, and the searches of all methods two and a half times as long again. Goes on where it
# stopped. `make study STUDY="build/study --size small"`: hours, then days.
STUDY ?= build/study
study: $(BIN)/.installed-dev
	$(BIN)/python $(PIP) -e '.[search]'
	$(BIN)/python benchmarks/study.py $(STUDY)

# The pages as a site, in build/site.
docs: $(BIN)/.installed-dev
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
