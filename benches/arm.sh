#!/usr/bin/env bash
# What ARM boards can be expected to do, without one: builds the kernels for aarch64, finds the
# innermost loop of each in the disassembly, has llvm-mca count its cycles, and works out bases a
# second from the built-in models' arithmetic. Prints Markdown:
#     benches/arm.sh > benches/arm.md
# Needs llvm-objdump and llvm-mca 16 or later (Debian: llvm-19) and what .ci/run cross-builds with.
set -euo pipefail
cd "$(dirname "$0")/.."

llvm=${LLVM:--19}
target=aarch64-unknown-linux-gnu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

env RUSTC="${ARM_RUSTC:-/usr/bin/rustc}" \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    cargo build --quiet --release --target "$target" --no-default-features --lib
"llvm-objdump$llvm" -d --no-show-raw-insn --demangle "target/$target/release/libstrandline.rlib" \
    >"$work/all" 2>/dev/null

# For each kind of multiply-accumulate, the innermost loop of the kernels that holds most of them:
# WORK/KIND.s, and its multiply-accumulates in WORK/KIND.macs.
awk -v out="$work" '
function macs(op, args) {
    if (op == "sdot") return 16
    if (op == "smmla") return 32
    if (op == "smull" || op == "smlal") return 8
    if (op == "fmla" && args ~ /\.8h/) return 8
    if (op == "fmla" && args ~ /\.4s/) return 4
    return 0
}
/^[0-9a-f]+ <.*>:$/ { wanted = /kernels::isa::(float_)?neon/; n = 0; split("", line); next }
!wanted || !/^ *[0-9a-f]+:/ { next }
{
    at = $1; sub(/:/, "", at)
    args = $0; sub(/^ *[0-9a-f]+:[ \t]*[^ \t]+[ \t]*/, "", args); sub(/ *\/\/.*/, "", args)
    n++; line[at] = n; ops[n] = $2; rest[n] = args; back[n] = 0
    if ($2 !~ /^(b|b\..*|cbn?z|tbn?z)$/ || !match(args, /0x[0-9a-f]+ </)) next
    to = substr(args, RSTART + 2, RLENGTH - 4)
    if (!(to in line)) next
    back[n] = 1
    total = widening = inner = 0; kind = ""
    for (i = line[to]; i <= n; i++) {
        if (ops[i] == "bl" || (back[i] && i < n)) inner = 1
        m = macs(ops[i], rest[i]); total += m
        if (m) kind = ops[i] rest[i]
        if (ops[i] ~ /^fcvtl/) widening = 1
    }
    if (inner || !total) next
    if (kind ~ /^sdot/) name = "sdot"
    else if (kind ~ /^smmla/) name = "smmla"
    else if (kind ~ /^sm/) name = "smull"
    else if (kind ~ /8h/) name = "fp16"
    else name = widening ? "widened" : "f32"
    if (total <= best[name]) next
    best[name] = total
    body = "loop:\n"
    for (i = line[to]; i <= n; i++) {
        a = rest[i]; sub(/0x[0-9a-f]+ <.*>/, "loop", a)
        body = body ops[i] " " a "\n"
    }
    printf "%s", body > (out "/" name ".s"); close(out "/" name ".s")
    print total > (out "/" name ".macs"); close(out "/" name ".macs")
}' "$work/all"

# rate KIND MODEL: multiply-accumulates a cycle.
rate() {
    local rounds=200
    "llvm-mca$llvm" -march=aarch64 -mcpu="$2" -mattr=+dotprod,+i8mm,+fullfp16 \
        -iterations=$rounds "$work/$1.s" 2>"$work/errors" |
        awk -v macs="$(cat "$work/$1.macs")" -v rounds=$rounds \
            '/^Total Cycles:/ { printf "%.1f", macs * rounds / $3; found = 1 }
            END { exit !found }'
}

cat <<'END'
# ARM, estimated

No board was used for this page. These are llvm-mca's figures for the innermost loops, with every
load a hit in L1, and what follows from them. To measure, run `cargo bench --bench kernels` on the
board. `benches/arm.sh` prints this page.

## Multiply-accumulates a cycle

| loop | set | A55 | A57 | A72 | N1 (A76, A78) | N2 |
| --- | --- | --- | --- | --- | --- | --- |
END
row() {
    printf '| %s | `%s` |' "$1" "$2"
    local core
    for core in "${@:4}"; do
        if [[ $core == - ]]; then printf ' |'; else printf ' %s |' "$(rate "$3" "$core")"; fi
    done
    echo
}
all=(cortex-a55 cortex-a57 cortex-a72 neoverse-n1 neoverse-n2)
row 'int8, `smull` `smlal` `sadalp`' neon smull "${all[@]}"
row 'int8, `sdot`' neondot sdot cortex-a55 - - neoverse-n1 neoverse-n2
row 'int8, `smmla`' neoni8mm smmla - - - - neoverse-n2
row 'f32' neon f32 "${all[@]}"
row 'fp16 weights widened to f32' neon widened "${all[@]}"
row 'fp16' neondot fp16 cortex-a55 - - neoverse-n1 neoverse-n2

cat <<'END'

A55, A57 and A72 are Cortex cores, N1 and N2 Neoverse. Where a field is empty the core lacks the
instructions. LLVM has no models of its own for A76, A78 and Carmel. The first two stand with
Neoverse N1, which is an A76 with other caches.

## Bases a second

One core, int8, 80 % of the loop's bound, both strands, without reading, calling and writing. The
default tier of splice, `auto`, lies between the two tiers, and `tf` is at every base. Expression is
in 5'UTRs of 200 nt a second, DNABERT in windows of 70 bases of one strand: a network of the
published size, 12 layers of 768 channels. The loop is `sdot` on A76 and A78, else `smull`; Carmel
is rated as an A72.

END

# Thousands of multiply-accumulates, as the program lists them.
listed=$(cargo run --release --quiet -- models)
kmac() {
    awk -v model="^$1" -v tier="$2" '
        $0 ~ model { own = 1 }
        own && $0 ~ tier { in_tier = 1 }
        in_tier && / kMAC / { print $1; exit }' <<<"$listed"
}
fast=$(kmac splice '--tier fast')
accurate=$(kmac splice '--tier accurate')
promoter=$(kmac promoter '--tier fast')
tf=$(kmac tf-binding '')
expression=$(kmac expression '')
# Tokens times 12 layers of four projections and two layers four times as wide, and attention.
dnabert=$(awk 'BEGIN {
    t = 67; w = 768
    printf "%.0f", 12 * (t * w * 12 * w + 2 * t * t * w) / 1000
}')
cat <<END
| model | kMAC |
| --- | --- |
| splice, tier fast | $fast a base |
| splice, tier accurate | $accurate a base |
| promoter, tier fast | $promoter a base |
| tf | $tf a base |
| expression | $expression a 5'UTR |
| DNABERT | $dnabert a window |

| board | core | fast | accurate | promoter | tf | expression | DNABERT |
| --- | --- | --- | --- | --- | --- | --- | --- |
END
# board NAME CORE GHZ KIND MODEL
board() {
    awk -v name="$1" -v core="$2" -v ghz="$3" -v rate="$(rate "$4" "$5")" \
        -v fast="$fast" -v accurate="$accurate" -v promoter="$promoter" -v tf="$tf" \
        -v utr="$expression" -v window="$dnabert" '
    function human(x) {
        return x >= 1e6 ? sprintf("%.1f Mb/s", x / 1e6) : sprintf("%.0f kb/s", x / 1e3)
    }
    BEGIN {
        kmacs = 0.8 * ghz * 1e6 * rate
        printf "| %s | %s, %s GHz | %s | %s | %s | %s | %d | %.1f |\n", name, core, ghz,
            human(kmacs / fast / 2), human(kmacs / accurate / 2), human(kmacs / promoter / 2),
            human(kmacs / tf / 2), kmacs / utr, kmacs / window
    }'
}
board 'Pi 4' Cortex-A72 1.5 smull cortex-a72
board 'Pi 4, later' Cortex-A72 1.8 smull cortex-a72
board 'Pi 5' Cortex-A76 2.4 sdot neoverse-n1
board 'Jetson Nano' Cortex-A57 1.43 smull cortex-a57
board 'Jetson Xavier' Carmel 2.26 smull cortex-a72
board 'Jetson Orin' Cortex-A78AE 2.2 sdot neoverse-n1

env RUSTC="${ARM_RUSTC:-/usr/bin/rustc}" \
    CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    cargo build --quiet --release --target "$target" --features full --example count
counts() {
    python3 benches/count.py "target/$target/release/examples/count" --cpu "$1"
}
counts cortex-a76 >"$work/a76.counts"
counts cortex-a57 >"$work/a57.counts"
cat <<END

## Instructions a base

Counted, not estimated: \`benches/count.py\` runs \`examples/count.rs\` on an emulated core, with
splice and promoter on both strands of sample reads. "Whole" is a read from a file, "live" the same
as frames of the link, 400 bases at a time; "everywhere" a model alone, on both strands: the one
of transcription factors, and \`dnabert-small\` of 101 bases, a window every 51. \`.ci/run\` counts
again. It fails where a figure of the first table has grown by more than 5 %, or a live base costs
more than 1.35 whole ones.

Cortex-A76, with \`sdot\`:

$(cat "$work/a76.counts")

Cortex-A57, as A72, without:

$(cat "$work/a57.counts")

Channels of 400 bases a second that a core would then carry live, and of the last windows a second,
if it completes half as many instructions a cycle as it can decode, which nobody has measured:

| board | core | instructions a cycle | fast | auto | tf | dnabert-small |
| --- | --- | --- | --- | --- | --- | --- |
END
# carries NAME CORE GHZ DECODED COUNTS : channels of 400 bases a second, and windows a second
carries() {
    awk -F'|' -v name="$1" -v core="$2" -v ghz="$3" -v rate="$(awk "BEGIN { print $4 / 2 }")" '
    / live / { sub(/,.*/, "", $2); gsub(/ /, "", $2); cost[$2] = $3 }
    / tf, / { cost["tf"] = $3 }
    / dnabert-small, / { cost["dnabert"] = $3 * 51 / 2 }
    function second(what) { return ghz * 1e9 * rate / cost[what] }
    function channels(what) { return sprintf("%d", second(what) / 400) }
    END {
        printf "| %s | %s, %s GHz | %s | %s | %s | %s | %d |\n", name, core, ghz, rate,
            channels("fast"), channels("auto"), channels("tf"), second("dnabert")
    }' "$work/$5.counts"
}
carries 'Raspberry Pi 4, later' Cortex-A72 1.8 3 a57
carries 'Raspberry Pi 5' Cortex-A76 2.4 4 a76
carries 'Jetson Orin' Cortex-A78AE 2.2 4 a76
