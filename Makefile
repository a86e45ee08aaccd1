# make demo            build, solve a problem of the size of an 8B model, fit the bundled model
# make test            all checks: format, lints, docs, licences, tests
# make bench-knapsack  the exact knapsack against the clock and HiGHS
# make bench-quantize  files that fit against llama.cpp's recipes, knapsacks and evolution
# make bench-pack      packed folders against uniform widths, knapsacks and evolution
# make bench-engine    gradients against PyTorch (fetches it, 1 GB)
# make bench-prune     dropping experts against rankings, evolution and all masks there are
# make bench-zeros     zeros in single matrices against the same share everywhere and evolution
# make bench-joint     one budget for types and experts, against pruning first
# make bench-synthetic RCO against the baselines on problems with known optima
# make interop         folders of ours in transformers, on the CPU (fetches it, 1 GB)
# make interop-vllm    a packed folder in vLLM, on the CPU (fetches it, 2 GB)
# make bench-reference the reference implementation among our options (needs a copy: REFERENCE=DIR)
# make fuzz            both fuzz targets, five minutes each (needs nightly, cargo-fuzz)
#
# Every target installs what it needs. Build output goes to a folder that survives a
# clean clone, unless CARGO_TARGET_DIR says otherwise.

SHELL := /bin/bash
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/rco
CARGO_TARGET_DIR ?= $(CACHE)/target
export CARGO_TARGET_DIR

# llama.cpp is compiled once, whatever profile or folder asks for it.
export CMAKE_C_COMPILER_LAUNCHER := ccache
export CMAKE_CXX_COMPILER_LAUNCHER := ccache
export CCACHE_DIR := $(CACHE)/ccache

RCO := $(CARGO_TARGET_DIR)/release/rco
# HiGHS is built once, apart from cargo, which would build it for every profile.
WITH_HIGHS = PKG_CONFIG_PATH="$$(scripts/build_highs.sh):$$PKG_CONFIG_PATH"
FUZZ_SECONDS ?= 300

.PHONY: demo test build setup bench-knapsack bench-quantize bench-pack bench-engine bench-prune \
	bench-zeros bench-joint bench-synthetic bench-reference interop interop-vllm fuzz

demo: build
	$(RCO) solve examples/problems/qwen3-8b-gguf.json
	$(RCO) quantize assets/tiny-moe/tiny-moe.bf16.gguf --size 3.9MB --effort quick --force \
		--text assets/text/scripture.txt -o $(CARGO_TARGET_DIR)/tiny-moe-3.9MB.gguf
	$(RCO) eval $(CARGO_TARGET_DIR)/tiny-moe-3.9MB.gguf --runtime llama.cpp --windows 16 --window 256 \
		--against assets/tiny-moe/tiny-moe.bf16.gguf --text assets/text/novels.txt --text README.md

test: setup
	cargo fmt --all --check
	$(WITH_HIGHS) cargo clippy --workspace --all-targets --locked -- -D warnings
	$(WITH_HIGHS) RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	scripts/deny.sh
	$(WITH_HIGHS) cargo test --workspace --locked

build: setup
	$(WITH_HIGHS) cargo build --release --locked -p rco-cli

setup:
	scripts/setup.sh
	scripts/claim_target.sh

bench-knapsack: build
	$(RCO) bench knapsack --out benchmarks/knapsack

QUANTIZE := $(RCO) bench quantize --effort quick --plain-steps 0 \
	--text assets/text/novels-calibration.txt \
	--heldout assets/text/novels.txt --heldout assets/text/scripture.txt
SMOLLM2 = "$$(scripts/fetch_smollm2.sh)"
bench-quantize: build
	$(QUANTIZE) assets/tiny-moe/tiny-moe.bf16.gguf --sizes 2910000,3853000,4584000,5447000 \
		--windows 24 --evolution 10 --out benchmarks/quantize-tiny-moe \
		--run $(CARGO_TARGET_DIR)/quantize-tiny-moe
	$(QUANTIZE) $(SMOLLM2) --sizes 84000000,78000000,90000000,81000000 \
		--windows 6 --evolution 10 --out benchmarks/quantize-smollm2 \
		--run $(CARGO_TARGET_DIR)/quantize-smollm2

PACK := $(RCO) bench pack --effort quick --text assets/text/novels-calibration.txt \
	--heldout assets/text/novels.txt --heldout assets/text/scripture.txt
SMOLLM2_HF = "$$(scripts/smollm2_hf.sh)"
# A model so small is not worth two threads.
bench-pack: build
	RAYON_NUM_THREADS=1 $(PACK) assets/tiny-moe --linear-bpw 2.5,3.0,3.5,4.0 --windows 24 \
		--evolution 10 --plain-steps 0 --out benchmarks/pack-tiny-moe \
		--run $(CARGO_TARGET_DIR)/pack-tiny-moe
	RAYON_NUM_THREADS=1 $(PACK) $(SMOLLM2_HF) --linear-bpw 2.5,3.0,3.5,4.0 \
		--widths 2,3,4,5,6,8 --group-size 64 --zero-points never --windows 12 --evolution 10 --plain-steps 0 \
		--out benchmarks/pack-smollm2 --run $(CARGO_TARGET_DIR)/pack-smollm2

bench-engine: build
	$(RCO) bench engine $(SMOLLM2) --text assets/text/novels.txt --compare \
		--work $(CARGO_TARGET_DIR)/engine --python "$$(benchmarks/engine/setup.sh)" \
		--out benchmarks/engine

PRUNE := $(RCO) bench prune assets/tiny-moe --out benchmarks/prune-tiny-moe \
	--text assets/text/novels-calibration.txt --text assets/text/scripture-calibration.txt
bench-prune: build
	RAYON_NUM_THREADS=1 $(PRUNE) --part enumeration --experts 4 --window 64 --calibration 2 \
		--run $(CARGO_TARGET_DIR)/prune-masks
	$(PRUNE) --experts 25%,50%,12.5% --effort quick --window 256 --calibration 16 --windows 16 \
		--random 1 --evolution 16 --heldout assets/text/novels.txt \
		--heldout assets/text/scripture.txt --heldout assets/text/plays.txt \
		--run $(CARGO_TARGET_DIR)/prune-plans
	$(PRUNE) --part domains --experts 25% --effort quick --window 128 --calibration 16 \
		--run $(CARGO_TARGET_DIR)/prune-domains

bench-zeros: build
	RAYON_NUM_THREADS=1 $(RCO) bench sparsity assets/tiny-moe --sparsity 20%,30%,40%,50% \
		--effort quick --windows 24 --evolution 10 --plain-steps 0 \
		--text assets/text/novels-calibration.txt \
		--heldout assets/text/novels.txt --heldout assets/text/scripture.txt \
		--out benchmarks/prune-zeros --run $(CARGO_TARGET_DIR)/prune-zeros

bench-joint: build
	benchmarks/joint-tiny-moe/run.sh $(CARGO_TARGET_DIR)/joint | \
		tee benchmarks/joint-tiny-moe/results.txt

bench-synthetic: build
	$(RCO) bench synthetic --out benchmarks/synthetic

interop: build
	RCO=$(RCO) scripts/interop_hf.sh
	RCO=$(RCO) scripts/interop_packed.sh

interop-vllm: build
	RCO=$(RCO) scripts/interop_vllm.sh

# Hours: 800 gradients in PyTorch for each budget.
bench-reference: build
	benchmarks/reference/run.sh "$(REFERENCE)" "$(CARGO_TARGET_DIR)/reference" $(SMOLLM2_HF)

fuzz: setup
	cd fuzz && cargo +nightly fuzz run problem_json -- -max_total_time=$(FUZZ_SECONDS) -dict=dictionaries/json.dict
	cd fuzz && cargo +nightly fuzz run problem_csv -- -max_total_time=$(FUZZ_SECONDS) -dict=dictionaries/csv.dict
