#!/usr/bin/env bash
# A Cortex-M3 in QEMU streams reads out of its flash over a UART. The UART is a pseudo-terminal
# here, which the program opens as a serial port. The calls must be those of the same reads from a
# file, byte for byte.
#     tests/cortex_m3/run.sh PROGRAM
# Needs Debian's rustc-web, rust-web-src and qemu-system-arm.
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill "${qemu:-}" 2>/dev/null || true; rm -rf "$work"' EXIT

# The toolchain's own linker; Debian's compiler has none for bare metal.
lld=$(find "$(rustc --print sysroot)/lib/rustlib" -path '*/bin/rust-lld' | head -n 1)

# A stable compiler builds core, for a target without a ready-made one, only with RUSTC_BOOTSTRAP.
env -u CARGO_TARGET_DIR RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
    CARGO_TARGET_THUMBV7M_NONE_EABI_LINKER="${lld:-ld.lld}" \
    cargo build --quiet --release -Z build-std=core
image=target/thumbv7m-none-eabi/release/cortex_m3

qemu-system-arm -M lm3s6965evb -display none -monitor none -serial pty -kernel "$image" \
    >"$work/qemu" 2>&1 &
qemu=$!
for _ in $(seq 100); do
    pty=$(grep -o '/dev/pts/[0-9]*' "$work/qemu" || true)
    [[ -n $pty ]] && break
    sleep 0.1
done
[[ -n $pty ]] || { cat "$work/qemu"; exit 1; }

timeout 120 "$program" annotate --tier fast --threads 1 \
    "serial://$pty?baud=921600&once" -o "$work/serial.tsv"
"$program" annotate --quiet --tier fast --threads 1 reads.fa -o "$work/file.tsv"
sort "$work/serial.tsv" >"$work/serial"
sort "$work/file.tsv" >"$work/file"
cmp "$work/serial" "$work/file"
calls=$(($(wc -l <"$work/file") - 1))
((calls > 10))
echo "$calls calls of $(grep -c '>' reads.fa) reads: the same from the board and from a file"
