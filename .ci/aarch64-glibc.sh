#!/usr/bin/env bash
# Builds the program for aarch64 so that it runs where glibc is 2.27 or later (JetPack 4, Ubuntu
# 18.04), and checks that it needs no newer symbol. Arguments go to cargo. Needs Debian's compilers
# of Rust and C for aarch64.
set -euo pipefail
cd "$(dirname "$0")/.."

newest=2.27
target=aarch64-unknown-linux-gnu
compiler=aarch64-linux-gnu-gcc
# By the name of the usual one, so that what was compiled for other programs serves this one, too.
named=$(.ci/linkers.sh)/named
mkdir -p "$named"
ln -sf ../aarch64 "$named/$compiler"
# One that the usual linker has made is made again.
touch src/main.rs
# Debian's compiler, whose standard library comes for aarch64.
env PATH="$named:$PATH" \
    RUSTC=/usr/bin/rustc \
    CC_aarch64_unknown_linux_gnu=$compiler \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$compiler \
    cargo build --release --target "$target" "$@" --bin strandline

program=target/$target/release/strandline
needed=$(aarch64-linux-gnu-objdump -T "$program" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
echo "$program needs $needed"
latest=$(printf '%s\n' "GLIBC_$newest" "$needed" | sort -V | tail -n 1)
if [[ $latest != "GLIBC_$newest" ]]; then
    echo "newer than GLIBC_$newest" >&2
    exit 1
fi
