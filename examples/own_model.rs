//! Opens a packed model file and runs it on a sequence: raw numbers, for any task.
//!
//! ```sh
//! cargo run --release --example own_model [MODEL.safetensors]
//! ```

use std::path::{Path, PathBuf};
use strandline::{Model, nucleotide};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    run(&given.unwrap_or_else(|| repository().join("models/promoter.safetensors")))
}

/// Runs a model on a sample gene and prints the highest of each output.
pub fn run(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    // The file is mapped and checked. The model is shared; a runner belongs to one thread.
    let model = Model::open(path)?;
    let mut runner = model.spawn()?;
    let manifest = model.manifest();
    println!(
        "{} {}: {}",
        manifest.name, manifest.version, manifest.description
    );

    let file = std::fs::File::open(repository().join("tests/data/genes.fa.gz"))?;
    let text = std::io::read_to_string(flate2::read::MultiGzDecoder::new(file))?;
    let gene: String = text
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('>'))
        .collect();
    let mut codes = Vec::new();
    nucleotide::encode(gene.as_bytes(), &mut codes);

    // A row a base, a column an output.
    let columns = manifest.outputs.len();
    let raw = runner.run(&codes)?;
    assert_eq!(raw.len(), codes.len() * columns);
    for (column, output) in manifest.outputs.iter().enumerate() {
        let values = raw.iter().skip(column).step_by(columns).enumerate();
        let best = values.max_by(|a, b| a.1.total_cmp(b.1)).ok_or("no bases")?;
        println!("{}: highest at {}, {:.3}", output.name, best.0, best.1);
        if manifest.name == "promoter" && column == 0 {
            assert_eq!(best.0, 232);
        }
    }
    Ok(())
}

/// The repository, which holds the built-in models and the sample genes.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
