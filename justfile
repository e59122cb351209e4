# The usual commands; `just` lists them. They need nothing that CONTRIBUTING.md does not name.

full := "--release --features full"
lean := "--release --no-default-features"

_default:
    @just --list --unsorted

# What every change must pass; quick once tract is built
check:
    cargo fmt --all --check
    cargo clippy {{full}} --workspace --all-targets -- -D warnings
    cargo test {{lean}} -p firmware_bridge
    cargo test {{lean}} --lib --test house

# The program: lean, without the model compiler
build:
    cargo build --release

# All tests
test:
    cargo test {{full}}

# The C interface
c:
    cargo test --release -p strandline-c
    cargo build --release -p strandline-c
    src/bindings/c/test.sh

# The documentation, and the commands of the guide
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc {{full}} --no-deps --workspace
    cargo test {{full}} --test documents

# Every stage and kernel, or the benches that are named: just bench kernels model
bench *names:
    cargo bench --features full {{ replace_regex(names, '(\w+)', '--bench $1') }}

# A fuzz target for a minute: fastx, shards, model_file, manifest, onnx, frame, link, fleet,
# vcf, cells_mtx, cells_npz, cells_labels or c (nightly)
fuzz target="fastx":
    cargo +nightly fuzz run --fuzz-dir tests/fuzz {{target}} -- -max_total_time=60

# Beside ONNX Runtime (Python packages of benches/peers/requirements.txt)
peers *arguments:
    cargo build {{full}}
    python benches/peers/compare.py {{arguments}}

# Licences and double versions (cargo-deny)
deny:
    cargo deny check

# What a release comes with: the licences of all that it is linked with (cargo-about)
notice:
    cargo about generate --features full,parquet -c docs/notice/about.toml docs/notice/about.hbs \
        -o target/third-party.md
