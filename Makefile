# Everything happens in .venv inside the checkout. `make help` lists the targets.
#   make setup PYTHON=/path/to/python3.11   chooses the interpreter
#   make demo DATA=fashion_mnist            chooses the demo's data

VENV := .venv
PY := $(VENV)/bin/python
KERNELS := build/kernels
DATA ?= digits
PYTEST_ARGS ?=
# Compilers to try in order; CXX= in the environment or on the command line goes first.
COMPILERS := $(if $(filter environment% command%,$(origin CXX)),$(CXX)) clang++-19 clang++ g++ c++

# Of test-sanitized.
FUZZ_SECONDS ?= 60

CORE_TESTS := $(wildcard tests/xla_cpu/*.cc tests/xla_cpu/*.h tests/xla_cpu/CMakeLists.txt)
CPP_SOURCES := $(wildcard CMakeLists.txt) \
  $(shell find hetjax/xla_cpu -name '*.cc' -o -name '*.h' -o -name '*.inc' -o -name 'CMakeLists.txt' 2>/dev/null)

.DELETE_ON_ERROR:
.PHONY: help setup test test-emulated test-sanitized test-neon verify-gpu \
        demo lint format wheel build-file clean

help:
	@echo 'make setup          .venv with everything pinned, the package (editable), the C++ kernels'
	@echo 'make test           all tests (PYTEST_ARGS="-k conv" and the like are passed on)'
	@echo 'make test-emulated  the contract suite on AVX-512 and AMX kernels emulated in software'
	@echo 'make test-sanitized the C++ engine under sanitizers, fuzzed for FUZZ_SECONDS=60'
	@echo 'make test-neon      the AArch64 kernels, cross-compiled, in an emulator'
	@echo 'make verify-gpu     the GPU kernels: interpreted, compiled and counted without a GPU'
	@echo 'make demo           train, pack and run a network; DATA=digits or fashion_mnist'
	@echo 'make lint, format   ruff'
	@echo 'make wheel          dist/hetjax-*.whl'
	@echo 'make build-file     file lists of BUILD'
	@echo 'make clean          removes what the above made'

# The first interpreter that runs, has the version its name says, and can make environments. A pyenv
# shim exists for versions that are not active and then fails, so pyenv's own directories follow.
find_python = \
  pyenv_root=$$(pyenv root 2>/dev/null); \
  for version in 3.12 3.11 3.13; do \
    for python in "python$$version" "$$pyenv_root"/versions/"$$version".*/bin/python3 python3; do \
      if "$$python" -c "import sys, ensurepip, venv; \
sys.exit('%d.%d' % sys.version_info[:2] != '$$version')" >/dev/null 2>&1; then \
        echo "$$python"; exit; \
      fi; \
    done; \
  done

setup: $(VENV)/.package $(KERNELS)/.done

$(VENV)/.requirements: requirements.txt
	@python='$(PYTHON)'; [ -n "$$python" ] || python=$$($(find_python)); \
	if [ -z "$$python" ]; then \
	  echo 'hetjax needs Python 3.11 to 3.13 with the venv module; none was found.' \
	    'Name one: make setup PYTHON=/path/to/python3.12' >&2; exit 1; \
	fi; \
	echo "setting up $(VENV) with $$python"; "$$python" -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.package: pyproject.toml $(VENV)/.requirements
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Configures and builds into $(1), with the options $(2); the library goes into hetjax/xla_cpu, or
# under $(3). Without a working compiler the reference implementation remains, and the next `make`
# looks again.
define build_kernels
	@mkdir -p $(1); compiler=''; for c in $(COMPILERS); do \
	  if echo 'int main() {}' | $$c -std=c++17 -x c++ -o /dev/null - 2>/dev/null; then \
	    compiler=$$c; break; \
	  fi; \
	done; \
	if [ -z "$$compiler" ]; then \
	  echo 'no C++ compiler found: hetjax runs on its reference implementation only' >&2; \
	else \
	  echo "building the C++ kernels with $$compiler into $(1)"; \
	  PATH="$(abspath $(VENV))/bin:$$PATH" && \
	  cmake -S . -B $(1) -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER="$$compiler" \
	    -DPython_EXECUTABLE="$(abspath $(PY))" $(2) >/dev/null && \
	  cmake --build $(1) -j 2 && \
	  $(if $(3),cmake --install $(1) --prefix $(3) >/dev/null && )touch $(1)/.done; \
	fi
endef

$(KERNELS)/.done: $(CPP_SOURCES) $(VENV)/.requirements
	$(call build_kernels,$(KERNELS))

test: setup
	$(PY) -m pytest $(PYTEST_ARGS)

build/emulated/.done: $(CPP_SOURCES) $(CORE_TESTS) $(VENV)/.requirements
	$(call build_kernels,build/emulated,-DHETJAX_EMULATE_AVX512=ON -DHETJAX_CORE_TESTS=ON,build/emulated/prefix)

test-emulated: setup build/emulated/.done
	for isa in avx2_vnni avx512 avx512_vnni amx; do \
	  build/emulated/tests/xla_cpu/core_test 1 100 $$isa || exit 1; \
	done
	HETJAX_CPU_LIBRARY=$(CURDIR)/build/emulated/prefix/hetjax/xla_cpu/libhetjax_cpu.so \
	  $(PY) -m pytest tests/contract tests/xla_cpu/test_schedule.py $(PYTEST_ARGS)

SANITIZED := build/sanitized
$(SANITIZED)/.done: $(CPP_SOURCES) $(CORE_TESTS) $(VENV)/.requirements
	$(call build_kernels,$(SANITIZED),-DHETJAX_SANITIZE="address;undefined" -DHETJAX_CORE_TESTS=ON)

# The core alone, hostile calls, and the library within Python, whose own leaks are not our concern.
# The sanitizers' runtime has to be there before Python itself.
test-sanitized: $(VENV)/.package $(SANITIZED)/.done
	$(SANITIZED)/tests/xla_cpu/core_test 1 500
	$(SANITIZED)/tests/xla_cpu/float_test 1 300
	$(SANITIZED)/tests/xla_cpu/helpers_test
	$(SANITIZED)/tests/xla_cpu/fuzz $(FUZZ_SECONDS) 2>$(SANITIZED)/fuzz.log || \
	  { grep -v 'failed to allocate' $(SANITIZED)/fuzz.log; false; }
	compiler=$$(sed -n 's/^CMAKE_CXX_COMPILER:[^=]*=//p' $(SANITIZED)/CMakeCache.txt); \
	runtime=$$($$compiler -print-file-name=libclang_rt.asan-$$(uname -m).so); \
	[ -f "$$runtime" ] || runtime=$$($$compiler -print-file-name=libasan.so); \
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$runtime" \
	  HETJAX_CPU_LIBRARY=$(abspath $(SANITIZED))/hetjax/xla_cpu/libhetjax_cpu.so \
	  $(PY) -m pytest -n 0 -q tests/xla_cpu/test_jax.py

NEON := build/neon
# On a processor with dot products and on one without.
test-neon: $(VENV)/.requirements
	PATH="$(abspath $(VENV))/bin:$$PATH" cmake -S . -B $(NEON) -G Ninja -DHETJAX_FFI=OFF \
	  -DHETJAX_CORE_TESTS=ON -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_EXE_LINKER_FLAGS=-static >/dev/null
	PATH="$(abspath $(VENV))/bin:$$PATH" cmake --build $(NEON) -j 2 --target core_test float_test
	qemu-aarch64-static -cpu max $(NEON)/tests/xla_cpu/core_test 1 300 neon_dotprod
	qemu-aarch64-static -cpu max $(NEON)/tests/xla_cpu/float_test 1 100
	qemu-aarch64-static -cpu cortex-a72 $(NEON)/tests/xla_cpu/core_test 1 30 scalar

# Programs and a plugin that nothing else needs, and that would look for a GPU in every process.
GPU_VENV := build/venv-gpu
$(GPU_VENV)/.tools: pyproject.toml requirements.txt
	$(MAKE) $(GPU_VENV)/.package VENV=$(GPU_VENV)
	$(GPU_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --no-build-isolation -e '.[gpu-verify]'
	@touch $@

verify-gpu: $(GPU_VENV)/.tools
	$(GPU_VENV)/bin/python -m pallas_kernels.verify

demo: setup
	@mkdir -p demo
	$(PY) -m experiments.demo --data $(DATA) --json demo/results.json

lint: $(VENV)/.requirements
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.requirements
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

wheel: $(VENV)/.requirements
	$(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .

build-file: $(VENV)/.requirements
	$(PY) -m tests.update_build

clean:
	rm -rf $(VENV) build dist demo .pytest_cache .hypothesis .ruff_cache
	rm -f hetjax/xla_cpu/*.so
