#!/usr/bin/env bash
# Makes a Debian package in target/debian:
#
#     docs/packages/build.sh amd64|arm64 [PROGRAM]
#
# Without PROGRAM the program is built, with all features and for glibc 2.27 and later. The linkers
# for that and cargo-deb are installed in target where they are missing. A PROGRAM of this machine
# may need a newer glibc, and then the package does. RUSTC names a compiler that has the standard
# library of the architecture. Notices of others come from `just notice`.
set -euo pipefail
cd "$(dirname "$0")/../.."

oldest=2.27
deb=3.8.0
architecture=${1:-}
program=${2:-}
case $architecture in
amd64) target=x86_64-unknown-linux-gnu tools=x86_64-linux-gnu- ;;
arm64) target=aarch64-unknown-linux-gnu tools=aarch64-linux-gnu- ;;
*)
    echo "usage: $0 amd64|arm64 [PROGRAM]" >&2
    exit 2
    ;;
esac

if [[ $(target/cargo-deb/bin/cargo-deb --version 2>/dev/null) != *"$deb"* ]]; then
    cargo install -q --debug --locked --root target/cargo-deb "cargo-deb@$deb"
fi

if [[ -z $program ]]; then
    linker=$(.ci/linkers.sh)/${target%%-*}
    cargo rustc --release --features full --bin strandline --target "$target" -- \
        -C linker="$linker"
    program=target/$target/release/strandline
fi

# What the program needs of the C library and of others.
newest=$(readelf -V "$program" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
latest=$(printf '%s\n' "GLIBC_$oldest" "$newest" | sort -V | tail -n 1)
variant=()
if [[ $latest != "GLIBC_$oldest" ]]; then
    if [[ $architecture != "$(dpkg --print-architecture)" ]]; then
        echo "$program needs $newest, which is newer than $oldest" >&2
        exit 1
    fi
    variant=(--variant host)
fi

rm -rf target/package
mkdir -p target/package/doc
"${tools}strip" -o target/package/strandline "$program"
cargo run -q --release --features full --example pages -- target/package
cp docs/*.md CHANGELOG.md target/package/doc/
cp models/README.md target/package/doc/model-cards.md
if [[ -f target/third-party.md ]]; then
    cp target/third-party.md target/package/doc/
else
    echo "target/third-party.md is missing: \`just notice\` makes it for what is given away" >&2
fi
target/cargo-deb/bin/cargo-deb -q --no-build --no-strip --locked --compress-system \
    --target "$target" "${variant[@]}" --output target/debian/
