# The commands of README.md. Each installs what it needs on a fresh Debian/Ubuntu machine (apt and PyPI), then does its work.
#
#   make demo        build, compile a real exported Llama for two ranks, run it, compare with torch's logits; train a small one
#   make test        build, run every test (no torch needed)
#   make test-gpu    bundles on this machine's GPU against processors; skips itself without one
#   make test-torch  install torch, run the exporter tests and regenerate references
#   make bench       side-by-side benchmarks (quiet machine)
#   make build       build only          make format   clang-format and ruff          make clean

BUILD ?= build
JOBS  ?= $(shell nproc)
LLVM  := 22
VENV  := .venv
TORCH := .venv-torch
PY    := $(VENV)/bin/python
SUDO  := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
APT   := libmlir-$(LLVM)-dev mlir-$(LLVM)-tools llvm-$(LLVM)-dev llvm-$(LLVM)-tools clang-$(LLVM) lld-$(LLVM) \
         libclang-rt-$(LLVM)-dev clang-format-$(LLVM) ccache cmake ninja-build protobuf-compiler libprotobuf-dev \
         nlohmann-json3-dev libyaml-cpp-dev libgtest-dev mpich python3-venv

export CCACHE_SLOPPINESS := pch_defines,time_macros
export CCACHE_BASEDIR    := $(CURDIR)

.PHONY: setup configure build demo test test-gpu test-torch bench format clean
.DEFAULT_GOAL := build

setup: $(VENV)/.stamp
	@missing=$$(for p in $(APT); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then echo "installing: $$missing"; \
	  $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq $$missing >/dev/null; fi

$(VENV)/.stamp: python/requirements.txt
	@python3 -c 'import ensurepip' 2>/dev/null || { $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq python3-venv >/dev/null; }
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -r python/requirements.txt
	$(VENV)/bin/pip install -q --disable-pip-version-check --no-deps nvidia-cuda-nvcc==13.0.88  # for its ptxas
	cd $(VENV)/bin && ln -sf ../lib/python3*/site-packages/nvidia/cu13/bin/ptxas ptxas
	@touch $@

configure: setup
	@[ -f $(BUILD)/build.ninja ] || cmake -G Ninja -S . -B $(BUILD) \
	  -DCMAKE_C_COMPILER=clang-$(LLVM) -DCMAKE_CXX_COMPILER=clang++-$(LLVM) \
	  -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache \
	  -DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=lld -DCMAKE_SHARED_LINKER_FLAGS=-fuse-ld=lld \
	  -DPython3_EXECUTABLE=$(CURDIR)/$(PY)

build: configure
	cmake --build $(BUILD) -j $(JOBS)

demo: build
	$(PY) python/demo.py --build $(BUILD)
	$(PY) python/demo_train.py --build $(BUILD)

test: build
	$(PY) test/run_all.py --build $(BUILD)

# torch without its GPU libraries (docs/python.md); it comes last, or pip complains of what it lacks.
$(TORCH)/.stamp: python/requirements-torch.txt python/tools/stub_cuda_libs.py | setup
	python3 -m venv $(TORCH)
	$(TORCH)/bin/pip install -q --disable-pip-version-check -r python/requirements-torch.txt
	$(TORCH)/bin/pip install -q --disable-pip-version-check --no-deps torch==2.15.0 nvidia-cuda-runtime==13.2.86 nvidia-cuda-cupti==13.2.86
	CC=clang-$(LLVM) $(TORCH)/bin/python python/tools/stub_cuda_libs.py \
	  $$($(TORCH)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
	@touch $@

# With a GPU: fixtures on it, against what processors compute; says so where there is none. On a machine without a compiler:
# the pack of `$(PY) test/gpu/pack.py`, see test/gpu/README.md.
test-gpu: build
	$(PY) test/gpu/pack.py --build $(BUILD) --output $(BUILD)/gpu-pack
	$(PY) $(BUILD)/gpu-pack/check.py --output bench/results/gpu-$$(date +%F).json

test-torch: $(TORCH)/.stamp
	$(TORCH)/bin/python -m pytest -q test/torch --build $(BUILD)

bench: build .venv-bench/.stamp $(TORCH)/.stamp
	$(PY) bench/run.py --build $(BUILD)
	$(PY) bench/train.py --build $(BUILD)
	$(TORCH)/bin/python bench/decode.py --build $(BUILD)

.venv-bench/.stamp:
	python3 -m venv .venv-bench
	.venv-bench/bin/pip install -q --disable-pip-version-check jax onnx numpy
	@touch $@

format:
	git ls-files '*.cpp' '*.h' '*.c' | xargs clang-format-$(LLVM) -i

clean:
	rm -rf $(BUILD)
