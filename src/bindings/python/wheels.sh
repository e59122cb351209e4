#!/usr/bin/env bash
# Wheels for glibc 2.27 and later and Python 3.9 and later:
#
#     src/bindings/python/wheels.sh FOLDER ARCHITECTURE...
#
# The architectures are x86_64 and aarch64. maturin and the linkers are installed where they are
# missing. That of another machine takes a compiler that has the standard library of it: RUSTC
# names one, or else rustup installs the library.
set -euo pipefail
cd "$(dirname "$0")/../../.."
if (($# < 2)); then
    echo "usage: $0 FOLDER x86_64|aarch64..." >&2
    exit 2
fi
folder=$1
shift

tools=target/maturin
if [[ ! -x $tools/bin/maturin ]]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install -q maturin==1.16.0
fi
linkers=$(.ci/linkers.sh)
for architecture in "$@"; do
    options=()
    # What is of this machine is built where all else is, and shares what stands below it.
    if [[ $architecture != "$(uname -m)" ]]; then
        target=$architecture-unknown-linux-gnu
        options=(--target "$target")
        if [[ -z ${RUSTC:-} ]] && command -v rustup >/dev/null; then
            rustup target add "$target"
        fi
    fi
    "$tools/bin/maturin" build --release "${options[@]}" --compatibility manylinux_2_27 \
        -m src/bindings/python/Cargo.toml -o "$folder" -- -C linker="$linkers/$architecture"
done
# What an index takes, and a board loads in no time.
most=15000000
for wheel in "$folder"/*.whl; do
    size=$(stat -c %s "$wheel")
    echo "$wheel: $size bytes"
    if ((size > most)); then
        echo "more than $most" >&2
        exit 1
    fi
done
