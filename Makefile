# make install | demo | notebooks | site | bench | gpu | test | test-unit | test-all | test-faults | test-lowest | soak |
# lint | tables | lock; the README and docs/contributing.md say what each is for.
PYTHON ?= python3.11
TORCH ?= lock
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
	--no-emit-find-links --constraint constraints.txt pyproject.toml

.PHONY: install demo notebooks site bench gpu gpu-wheels lint tables test test-unit test-all launchers test-faults test-lowest soak lock clean

# Two pips in one environment would harm each other.
.NOTPARALLEL:

install: .venv/installed
dev: .venv/installed-dev
.PHONY: dev

# TORCH=keep uses the torch and torchvision that PYTHON (of a system, conda or virtual environment) has already.
.venv/installed: requirements.lock pyproject.toml
ifeq ($(TORCH),keep)
	$(PYTHON) -m venv .venv
	$(PYTHON) -c 'import pathlib, torch, torchvision; print(pathlib.Path(torch.__file__).parents[1])' \
		> "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/kept_torch.pth"
	grep -vE '^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==' requirements.lock > .venv/requirements.txt
else
	$(PYTHON) -m venv .venv
	cp requirements.lock .venv/requirements.txt
endif
	$(PIP) -r .venv/requirements.txt
	$(PIP) --editable .
	$(BIN)/sg-resnets doctor
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.lock
	$(PIP) -r requirements-dev.lock
	touch $@

.venv/installed-site: .venv/installed requirements-site.lock
	$(PIP) -r requirements-site.lock
	touch $@

demo: install
	$(BIN)/python -m super_gradients.train_from_recipe --config-name=fashion_mnist_mini_resnet20
	$(BIN)/sg-resnets evaluate checkpoints/fashion_mnist_mini_resnet20_cifar
	$(BIN)/python -m super_gradients.qat_from_recipe --config-name=qat_fashion_mnist_mini_resnet20 \
		checkpoint_params.checkpoint_path=checkpoints/fashion_mnist_mini_resnet20_cifar

# The solved lessons, from top to bottom, one after the other; their outputs are stored, and the seconds of each printed.
# Students' follow from them.
notebooks: dev
	cd notebooks/solved && PATH="$(CURDIR)/$(BIN):$$PATH" $(CURDIR)/$(BIN)/python -m pytest --nbmake --nbmake-timeout=3600 --overwrite --durations=0 *.ipynb
	$(BIN)/python notebooks/students.py

# The course as a web site, build/site: the notebooks as they are stored, the guides, the Python reference.
site: .venv/installed-site
	$(BIN)/python docs/site/build.py

# Each prints ratios of what it runs in turn; on a quiet machine.
BENCHMARKS := loader step timm_epoch distillation_step scaling start_up int8
bench: dev
	mkdir -p build
	{ echo '# Benchmarks'; echo '`make bench` writes this file; what each measures is in its docstring.'; \
	for name in $(BENCHMARKS); do printf '\n## %s\n```\n' $$name; \
	$(BIN)/python benchmarks/$$name.py 2> build/$$name.log; echo '```'; done; } | tee build/RESULTS.md
	mv build/RESULTS.md benchmarks/RESULTS.md

# On a GPU; on a machine without a network: python benchmarks/gpu.py WHEELS, with the folder that gpu-wheels has filled
# for its Python and its own torch.
gpu: dev
	$(BIN)/python benchmarks/gpu.py

# GPU_HAS: what the machine has as well, and need not be carried: make gpu-wheels GPU_HAS='numpy|scipy|pandas'
GPU_PYTHON ?= 3.12
GPU_HAS ?= torch
SOURCES := antlr4-python3-runtime|stringcase|data-gradients|super-gradients
gpu-wheels: dev
	mkdir -p build
	grep -hvE '^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+|$(GPU_HAS)|$(SOURCES))==' requirements.lock > build/gpu.txt
	grep -hE '^(pytest|pytest-xdist|execnet|iniconfig|pluggy|hatchling|pathspec|trove-classifiers|timm)==' \
		requirements-dev.lock >> build/gpu.txt
	echo editables >> build/gpu.txt  # for an editable install without a network
	$(BIN)/python -m pip download --quiet --no-deps --dest build/wheels --python-version $(GPU_PYTHON) \
		--platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --only-binary=:all: -r build/gpu.txt
	grep -hE '^($(SOURCES))==' requirements.lock > build/gpu.txt
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheels -r build/gpu.txt

# The floors of the house are the contracts of import-linter in pyproject.toml.
lint: dev
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/tables.py --check

# The parts of README.md and docs/ that are made from recipes/results.csv and the zoo.
tables: dev
	$(BIN)/python docs/tables.py

test: lint .venv/installed-site
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal

# What trains nothing through SuperGradients: minutes fewer.
test-unit: lint .venv/installed-site
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal --ignore=tests/integration

# The lowest versions that pyproject.toml allows, in an environment of their own.
test-lowest: .venv-lowest/installed
	.venv-lowest/bin/python -m pytest --numprocesses=auto --dist=worksteal --ignore=tests/integration/test_install.py

.venv-lowest/installed: requirements-lowest.txt requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		data-gradients==0.3.2 super-gradients==3.7.1 --editable .
	touch $@

test-all: lint .venv/installed-site launchers
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal -m "slow or not slow"

# What the slow tests start sweeps on. Without hydra-ray-launcher's pin of cloudpickle, which joblib does not bear.
launchers: dev
	$(PIP) hydra-submitit-launcher hydra-ray-launcher submitit
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock 'ray[default]'

# All that docs/contributing.md says of kills and damaged files; about two hours. The soak is two hours more.
test-faults: dev
	SG_RESNETS_FAULTS=1 $(BIN)/python -m pytest -s -m "slow or not slow" tests/faults

soak: dev
	$(BIN)/python tests/faults/soak.py

# Exact versions for Python 3.11 to 3.13 on every platform. The host comes last, and without its own pins.
lock: dev
	$(COMPILE) --output-file requirements.lock
	printf 'data-gradients==0.3.2\nsuper-gradients==3.7.1\n' >> requirements.lock
	$(COMPILE) --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	$(COMPILE) --extra site --constraint requirements-dev.lock --output-file requirements-site.lock
	grep -E '^(build|hatchling|hydra-joblib-launcher|nbmake|openvino|pytest|pytest-xdist|timm)==' requirements-dev.lock \
		| $(BIN)/uv pip compile --quiet --python-version 3.11 --resolution lowest-direct --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links pyproject.toml - --output-file requirements-lowest.txt

clean:
	rm -rf .venv build dist
