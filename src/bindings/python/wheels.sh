#!/usr/bin/env bash
# Wheels for x86-64 and aarch64, for glibc 2.28 and later and Python 3.9 and later:
#
#     src/bindings/python/wheels.sh FOLDER [TARGET]...
#
# zig links against the old C library; it, maturin and the standard library of the other target are
# installed where they are missing.
set -euo pipefail
cd "$(dirname "$0")/../../.."
folder=${1:?a folder for the wheels}
shift
targets=("$@")
if ((${#targets[@]} == 0)); then
    targets=(x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu)
fi

tools=target/maturin
if [[ ! -x $tools/bin/maturin ]]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install -q maturin==1.16.0 cargo-zigbuild==0.24.1 ziglang==0.17.1
fi
for target in "${targets[@]}"; do
    if command -v rustup >/dev/null; then
        rustup target add "$target"
    fi
    PATH="$PWD/$tools/bin:$PATH" "$tools/bin/maturin" build --release --zig --target "$target" \
        --compatibility manylinux_2_28 -m src/bindings/python/Cargo.toml -o "$folder" \
        ${MATURIN_CONFIG:+--config "$MATURIN_CONFIG"}
done
