#!/bin/bash
set -euo pipefail

# The compiler is conda's.
rm rust-toolchain.toml
cargo-bundle-licenses --format yaml --output THIRDPARTY.yml
RUST_BACKTRACE=1 cargo install --verbose --locked --no-track --features full --root "$PREFIX" \
    --path .
