#!/usr/bin/env bash
# Builds the HiGHS solver once, from the sources inside the pinned highs-sys crate,
# into a cache folder, and prints the folder that PKG_CONFIG_PATH must name.
# Without this, cargo builds HiGHS again for every profile and feature selection,
# ten minutes on two cores each time.
set -euo pipefail
cd "$(dirname "$0")/.."

manifest=$(cargo metadata --format-version 1 --locked |
    python3 -c 'import json, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == "highs-sys":
        print(package["version"], package["manifest_path"])')
version=${manifest%% *}
source=$(dirname "${manifest#* }")/HiGHS
target="${XDG_CACHE_HOME:-$HOME/.cache}/rco/highs/$version"

if [ ! -f "$target/lib/pkgconfig/highs.pc" ]; then
    build=$(mktemp -d)
    trap 'rm -rf "$build"' EXIT
    {
        cmake -S "$source" -B "$build" -DCMAKE_BUILD_TYPE=Release -DFAST_BUILD=ON \
            -DBUILD_SHARED_LIBS=OFF -DBUILD_CXX_EXE=OFF -DBUILD_EXAMPLES=OFF -DBUILD_TESTING=OFF \
            -DZLIB=OFF -DCMAKE_INTERPROCEDURAL_OPTIMIZATION=FALSE \
            -DCMAKE_INSTALL_PREFIX="$build/installed" -DCMAKE_INSTALL_LIBDIR=lib
        cmake --build "$build" --parallel "$(nproc)"
        cmake --install "$build"
    } >&2
    # The file that HiGHS installs lacks what a static library needs.
    cat >"$build/installed/lib/pkgconfig/highs.pc" <<'PC'
prefix=${pcfiledir}/../..
libdir=${prefix}/lib
includedir=${prefix}/include/highs

Name: HiGHS
Description: Linear Optimization Software
Version: @VERSION@
Libs: -L${libdir} -lhighs -lstdc++ -lm -lpthread
Cflags: -I${includedir}
PC
    sed -i "s/@VERSION@/$version/" "$build/installed/lib/pkgconfig/highs.pc"
    mkdir -p "$(dirname "$target")"
    rm -rf "$target"
    mv "$build/installed" "$target"
fi
echo "$target/lib/pkgconfig"
