#!/usr/bin/env bash
# Builds for aarch64 so that the result runs where glibc is 2.27 or later (JetPack 4, Ubuntu 18.04),
# and checks that it needs no newer symbol. Arguments go to cargo; by default the release binary is
# built. Needs cargo-zigbuild, and zig, for instance from the Python package ziglang, which carry
# that glibc's symbol versions.
set -euo pipefail
cd "$(dirname "$0")/.."

newest=2.27
target=aarch64-unknown-linux-gnu
if (($# == 0)); then
    set -- build --release --bin strandline
fi

# Debian's compiler, whose standard library comes for aarch64.
command=$1
shift
env RUSTC=/usr/bin/rustc cargo zigbuild --help >/dev/null
case $command in
build)
    env RUSTC=/usr/bin/rustc cargo zigbuild "$@" --target "$target.$newest" \
        --message-format json-render-diagnostics
    ;;
*)
    echo "usage: $0 [build CARGO_ARGUMENT...]" >&2
    exit 2
    ;;
esac >target/aarch64-glibc.json

mapfile -t programs < <(
    grep -o '"executable":"[^"]*"' target/aarch64-glibc.json | cut -d '"' -f 4
)
((${#programs[@]})) || { echo "nothing was built that runs" >&2; exit 1; }
for program in "${programs[@]}"; do
    needed=$(
        aarch64-linux-gnu-objdump -T "$program" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1
    )
    echo "$program needs $needed"
    latest=$(printf '%s\n' "GLIBC_$newest" "$needed" | sort -V | tail -n 1)
    if [[ $latest != "GLIBC_$newest" ]]; then
        echo "newer than GLIBC_$newest" >&2
        exit 1
    fi
done
