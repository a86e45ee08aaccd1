#!/usr/bin/env bash
# Checks licences, bans and sources of all dependencies, and known vulnerabilities
# where the advisory database can be reached. Installs cargo-deny if need be.
set -euo pipefail
cd "$(dirname "$0")/.."

tools="${XDG_CACHE_HOME:-$HOME/.cache}/rco/tools"
export PATH="$tools/bin:$PATH"
if ! command -v cargo-deny >/dev/null; then
    cargo install --locked --root "$tools" cargo-deny
fi
cargo deny --log-level error --locked check licenses bans sources
if timeout 20 git ls-remote https://github.com/rustsec/advisory-db HEAD >/dev/null 2>&1; then
    cargo deny --log-level error --locked check advisories
else
    echo "advisories skipped: the advisory database cannot be reached"
fi
