#!/usr/bin/env bash
# Makes linkers for Linux with glibc 2.27 and later (JetPack 4, Ubuntu 18.04), and prints the folder
# that they lie in, by architecture: x86_64 and aarch64. Given to cargo for one program,
#
#     cargo rustc --release --bin strandline -- -C linker="$(.ci/linkers.sh)/x86_64"
#
# they link what this machine's compilers have made. zig, which has the symbol versions of that
# glibc, and cargo-zigbuild, which speaks to it as to any linker, come from Python packages.
set -euo pipefail
cd "$(dirname "$0")/.."

zig=target/zig
if [[ ! -x $zig/bin/cargo-zigbuild ]]; then
    python3 -m venv "$zig"
    "$zig/bin/pip" install -q cargo-zigbuild==0.24.1 ziglang==0.17.1 >&2
fi
folder=$PWD/target/linkers
mkdir -p "$folder"
for architecture in x86_64 aarch64; do
    printf '#!/bin/sh\nPATH="%s:$PATH" exec cargo-zigbuild zig cc -- -target %s "$@"\n' \
        "$PWD/$zig/bin" "$architecture-linux-gnu.2.27" >"$folder/$architecture"
    chmod +x "$folder/$architecture"
done
echo "$folder"
