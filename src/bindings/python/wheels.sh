#!/usr/bin/env bash
# Wheels for x86-64 and aarch64, for glibc 2.27 and later and Python 3.9 and later:
#
#     src/bindings/python/wheels.sh FOLDER [TARGET]... [-- CARGO_OPTION...]
#
# zig links against the old C library; it, maturin and the standard library of the other target are
# installed where they are missing. RUSTC names a compiler that has the target's library.
set -euo pipefail
cd "$(dirname "$0")/../../.."
folder=${1:?a folder for the wheels}
shift
targets=()
while (($#)) && [[ $1 != -- ]]; do
    targets+=("$1")
    shift
done
if (($#)); then
    shift
fi
if ((${#targets[@]} == 0)); then
    targets=(x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu)
fi

tools=target/maturin
if [[ ! -x $tools/bin/maturin ]]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install -q maturin==1.16.0 cargo-zigbuild==0.24.1 ziglang==0.17.1
fi
for target in "${targets[@]}"; do
    if [[ -z ${RUSTC:-} ]] && command -v rustup >/dev/null; then
        rustup target add "$target"
    fi
    PATH="$PWD/$tools/bin:$PATH" "$tools/bin/maturin" build --release --zig --target "$target" \
        --compatibility manylinux_2_27 -m src/bindings/python/Cargo.toml -o "$folder" "$@"
done
