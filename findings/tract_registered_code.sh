#!/usr/bin/env bash
# A program that links tract-core carries convolutions, matrix products and graph transforms,
# whether or not anything of it can call them: most of its bytes.
#
# Expected: a program that runs a graph of one operator, which returns its input, holds little of
# tract-core 0.23.9 beyond that, since linkers drop what nothing refers to.
# Seen: tract-core and tract-linalg enter their transforms, runtimes and kernels in registries
# (crate inventory) from static constructors. A constructor is a root for ELF linkers (LLD 22.1 and
# GNU ld 2.40 keep it and all behind it, also where a linker script discards .init_array), and from
# the transforms the way leads to nearly all operators. Without those constructors the same program
# is less than half as large and prints the same.
#
# Needs Linux on x86_64, cargo 1.91 or later, binutils and a registry of crates; minutes, as it
# builds tract-core. Exit code 0: tract-core behaves as described here.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "small"
version = "0.0.0"
edition = "2021"

[dependencies]
tract-core = "=0.23.9"
TOML
cat > src/main.rs <<'RUST'
use tract_core::internal::*;
use tract_core::ops::identity::Identity;

fn main() -> TractResult<()> {
    let mut model = TypedModel::default();
    let input = model.add_source("input", f32::fact([3]))?;
    let output = model.wire_node("same", Identity, &[input])?;
    model.select_output_outlets(&output)?;
    let found = SimplePlan::new(model)?.run(tvec!(tensor1(&[1f32, 2.0, 3.0]).into_tvalue()))?;
    println!("{:?}", found[0]);
    Ok(())
}
RUST
# The linker's own, and one that gets tract's libraries without their constructors.
cat > without.sh <<'LINKER'
#!/usr/bin/env bash
set -euo pipefail
arguments=()
for argument; do
    case $argument in
        */libtract_*.rlib)
            copy=$(dirname "$0")/$(basename "$argument")
            cp "$argument" "$copy"
            objcopy --remove-section '.init_array*' --remove-section '.rela.init_array*' "$copy"
            argument=$copy
            ;;
    esac
    arguments+=("$argument")
done
exec cc "${arguments[@]}"
LINKER
chmod +x without.sh
cargo build -q --release
cp target/release/small as_linked
cargo rustc -q --release -- -C linker="$folder/without.sh"
cp target/release/small without_constructors
for program in as_linked without_constructors; do
    strip "$program"
    "./$program" > "$program.txt"
done
cmp as_linked.txt without_constructors.txt
all=$(stat -c %s as_linked)
rest=$(stat -c %s without_constructors)
cat as_linked.txt
echo "tract-core 0.23.9, $(rustc --version): $all bytes; without constructors $rest"
((all > 2 * rest && all > 6000000)) || { echo "tract-core has changed"; exit 1; }
