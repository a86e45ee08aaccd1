#!/usr/bin/env bash
# Installs what the build needs and is missing: a Rust toolchain with rustfmt and
# clippy has to be there; CMake, a C++ compiler, libclang and pkg-config (for
# HiGHS and llama.cpp) and ccache come from apt on Debian and its relatives.
set -euo pipefail

if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust from https://rustup.rs first" >&2
    exit 1
fi
if command -v rustup >/dev/null; then
    for component in rustfmt clippy; do
        cargo "${component/rust/}" --version >/dev/null 2>&1 || rustup component add "$component"
    done
fi

missing=()
command -v cmake >/dev/null || missing+=(cmake)
command -v c++ >/dev/null || missing+=(g++)
command -v clang >/dev/null || missing+=(clang)
command -v pkg-config >/dev/null || missing+=(pkg-config)
command -v ccache >/dev/null || missing+=(ccache)
command -v python3 >/dev/null || missing+=(python3)
ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* >/dev/null 2>&1 || missing+=(libclang-dev)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null; then
    sudo=sudo
else
    echo "missing: ${missing[*]}; install them (no root and no sudo here)" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]}; install them (no apt-get here)" >&2
    exit 1
fi
$sudo apt-get update
DEBIAN_FRONTEND=noninteractive $sudo apt-get install --yes --no-install-recommends "${missing[@]}"
