//! Networks of scGPT's architecture, as `models/convert/scgpt.py` writes them: packed, and compared
//! with the published forward pass, which `tests/onnx/cells_networks.py` has run.

use std::fs;
use std::path::{Path, PathBuf};
use strandline::cells::model::{CellModel, Kind};
use strandline::compile::check::Check;
use strandline::compile::pack::pack;
use strandline::kernels::Isa;
use strandline::model::file::ModelFile;
use strandline::model::genes::{Cells, join, split};
use strandline::model::manifest::{Manifest, Precision, Reproducible};
use strandline::model::map::Bytes;
use strandline::model::{Model, Runner};

const HEADS: [&str; 4] = ["embedding", "annotation", "expression", "perturbation"];

fn data(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cells/scgpt");
    folder.join(name)
}

fn manifest(head: &str, precision: Precision) -> Manifest {
    let text = fs::read_to_string(data(&format!("{head}.toml"))).unwrap();
    let mut manifest = Manifest::from_toml(&text).unwrap();
    let cells = manifest.cells.as_mut().unwrap();
    let names = fs::read_to_string(data(&cells.genes)).unwrap();
    cells.names = names.lines().map(str::to_string).collect();
    manifest.precision = precision;
    manifest
}

/// Cells as words, and what the published pass gives for each.
fn cells(head: &str) -> Vec<(Vec<u32>, Vec<f32>)> {
    let text = fs::read_to_string(data(&format!("{head}.tsv"))).unwrap();
    let line = |line: &str| {
        let (tokens, outputs) = line.split_once('\t').unwrap();
        let (mut ids, mut values, mut flags) = (vec![], vec![], vec![]);
        for token in tokens.split(' ') {
            let parts: Vec<&str> = token.split(':').collect();
            ids.push(parts[0].parse().unwrap());
            values.push(parts[1].parse().unwrap());
            flags.push(parts[2].parse().unwrap());
        }
        let outputs = outputs.split(' ').map(|x| x.parse().unwrap());
        (join(&ids, &values, &flags), outputs.collect())
    };
    text.lines().map(line).collect()
}

fn packed(head: &str, precision: Precision) -> (Vec<u8>, Model) {
    let samples: Vec<Vec<u32>> = cells(head).into_iter().map(|(words, _)| words).collect();
    let manifest = manifest(head, precision);
    let path = data(&format!("{head}.onnx"));
    let check = match precision {
        // Thirty-two channels of random weights are rounded to eight bits.
        Precision::Int8 => Check::Cosine(0.95),
        _ => Check::Precision,
    };
    let packed = pack(&path, &manifest, &samples, check).unwrap();
    assert_eq!(packed.plain, [""; 0], "{head}");
    (packed.bytes, packed.model)
}

fn outputs(runner: &mut Runner, words: &[u32]) -> Vec<f32> {
    runner.run_sample(words).unwrap().to_vec()
}

#[test]
fn packed_networks_give_what_the_published_pass_gives() {
    for head in HEADS {
        for precision in [Precision::F32, Precision::Fp16, Precision::Int8] {
            let (_, model) = packed(head, precision);
            let bits = model.manifest().reproducible == Some(Reproducible::Bits);
            assert_eq!(bits, precision == Precision::Int8, "{head}");
            let mut runner = model.spawn().unwrap();
            for (at, (words, expected)) in cells(head).iter().enumerate() {
                let own = outputs(&mut runner, words);
                assert_eq!(own.len(), expected.len(), "{head}");
                let pairs = || own.iter().zip(expected);
                let off = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
                    pairs().map(|(a, b)| of(f64::from(*a), f64::from(*b))).sum()
                };
                let cosine = sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt();
                let near = match precision {
                    Precision::F32 => off < 1e-5,
                    Precision::Fp16 => off < 1e-2,
                    Precision::Int8 => cosine > 0.99,
                };
                assert!(
                    near,
                    "{head} {precision} cell {at}: off by {off:e}, cosine {cosine:.5}"
                );
            }
        }
    }
}

#[test]
fn int8_has_the_same_bits_on_every_instruction_set() {
    for head in HEADS {
        let (bytes, model) = packed(head, Precision::Int8);
        let mut runner = model.spawn().unwrap();
        let cells = cells(head);
        let expected: Vec<Vec<f32>> = cells.iter().map(|(w, _)| outputs(&mut runner, w)).collect();
        for isa in Isa::available() {
            let file = ModelFile::parse(Bytes::copy_of(&bytes).unwrap(), head).unwrap();
            let model = Model::build_on(file, isa).unwrap();
            let mut runner = model.spawn().unwrap();
            // Backwards: a cell does not depend on the one before.
            for ((words, _), expected) in cells.iter().zip(&expected).rev() {
                let own = outputs(&mut runner, words);
                let bits = |all: &[f32]| all.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
                assert_eq!(bits(&own), bits(expected), "{head} {isa}");
            }
        }
    }
}

/// A network without positions takes its genes in any order.
#[test]
fn the_order_of_genes_changes_rounding_alone() {
    let (_, model) = packed("embedding", Precision::F32);
    let mut runner = model.spawn().unwrap();
    let (words, expected) = cells("embedding").remove(1);
    let mut tokens: Vec<&[u32]> = words.chunks(3).collect();
    tokens[1..].reverse();
    let own = outputs(&mut runner, &tokens.concat());
    for (a, b) in own.iter().zip(&expected) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn what_is_no_cell_is_refused_and_leaves_the_next_one_alone() {
    let (_, model) = packed("embedding", Precision::Int8);
    let mut runner = model.spawn().unwrap();
    let (words, _) = cells("embedding").remove(0);
    let (ids, values, flags) = split(&words);
    let expected = runner.run_genes(&ids, &values, &[]).unwrap().to_vec();
    let with = |at: usize, value: f32| {
        let mut values = values.clone();
        values[at] = value;
        values
    };
    let one = vec![1; ids.len()];
    for (ids, values, flags, reason) in [
        (&ids[1..], values.clone(), &flags[..], "19 genes, 20 values"),
        (
            &ids[..],
            with(3, f32::NAN),
            &flags,
            "token 3 has a value of NaN",
        ),
        (
            &ids,
            with(3, 0.5),
            &flags,
            "0.5 of token 3 is none of the model's bins",
        ),
        (&ids, with(2, 51.0), &flags, "51 of token 2"),
        (&[40; 20], values.clone(), &flags, "vocabulary"),
        (&ids, values.clone(), &one, "no flags"),
        (&[], vec![], &[], "0 genes"),
        (&[0; 33], vec![1.0; 33], &[], "33 genes"),
    ] {
        let error = runner
            .run_genes(ids, &values, flags)
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{reason}: {error}");
        assert_eq!(
            runner
                .run_genes(&words_ids(&words), &split(&words).1, &[])
                .unwrap(),
            expected
        );
    }
    let error = runner.run_ids(&[1, 2]).unwrap_err().to_string();
    assert!(error.contains("values"), "{error}");
}

fn words_ids(words: &[u32]) -> Vec<u32> {
    split(words).0
}

#[test]
fn a_model_says_what_it_is() {
    for (head, kind) in HEADS.into_iter().zip([
        Kind::Embedding,
        Kind::Type,
        Kind::Expression,
        Kind::Perturbation,
    ]) {
        let (_, model) = packed(head, Precision::Int8);
        let vectors = model.token_vectors().unwrap();
        assert_eq!(
            (vectors.width, vectors.values.len()),
            (32, 32 * 40),
            "{head}"
        );
        let own = CellModel::new(model).unwrap();
        assert_eq!(own.kind(), kind);
        assert_eq!(own.tokens().vocabulary().len(), 40);
        assert_eq!(own.flag("ko"), Ok(1));
        assert!(own.flag("oe").is_err());
    }
}

/// Outputs of one task are not read as those of another.
#[test]
fn a_task_needs_its_outputs() {
    for (head, task) in [
        ("embedding", "perturbation"),
        ("annotation", "cell-expression"),
        ("expression", "perturbation"),
        ("perturbation", "cell-type"),
    ] {
        let mut manifest = manifest(head, Precision::F32);
        manifest.task = task.to_string();
        let samples: Vec<Vec<u32>> = cells(head).into_iter().map(|(words, _)| words).collect();
        let path = data(&format!("{head}.onnx"));
        let error = pack(&path, &manifest, &samples, Check::Skip).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(&format!("task {task} has ")), "{error}");
    }
}

/// What does not fit is found before anything is written.
#[test]
fn manifests_that_do_not_fit_are_refused() {
    let samples: Vec<Vec<u32>> = cells("embedding")
        .into_iter()
        .map(|(words, _)| words)
        .collect();
    let refused = |manifest: &Manifest, reason: &str| {
        let path = data(&manifest.cells.as_ref().unwrap().genes);
        let path = path.with_extension("").with_extension("onnx");
        let error = pack(&path, manifest, &samples, Check::Precision)
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    };
    let mut short = manifest("embedding", Precision::F32);
    short.cells.as_mut().unwrap().names.pop();
    refused(&short, "39 names");
    let changed = |head: &str, change: &dyn Fn(&mut Cells)| {
        let mut manifest = manifest(head, Precision::F32);
        change(manifest.cells.as_mut().unwrap());
        manifest
    };
    let other = changed("embedding", &|cells| cells.other = Some("<other>".into()));
    refused(&other, "other is \"<other>\"");
    let cls = changed("embedding", &|cells| cells.cls = Some("CLS".into()));
    refused(&cls, "cls is \"CLS\"");
    let twice = changed("embedding", &|cells| {
        cells.names[7] = cells.names[5].clone()
    });
    refused(&twice, "line 8: ");
    // More kinds of perturbation than the network has flags.
    let all = ["ko", "kd", "oe"].map(String::from);
    let flags = changed("perturbation", &|cells| cells.perturbations = all.to_vec());
    refused(&flags, "cannot be run");
    let text = fs::read_to_string(data("embedding.toml")).unwrap();
    for (from, to, reason) in [
        ("bins = 51", "bins = 1", "bins"),
        ("normalise = 10000.0", "normalise = 0.0", "normalise"),
        ("[cells]", "[cells]\nperturbations = []", "perturbations"),
        (
            "[cells]",
            "[cells]\nperturbations = [\"ko\", \"ko\"]",
            "perturbations",
        ),
        (
            "[cells]",
            "[cells]\nperturbations = [\"crispr\"]",
            "perturbations",
        ),
        ("tokeniser = \"genes\"", "tokeniser = \"ids\"", "ids"),
        (
            "task = \"cell-embedding\"",
            "task = \"cell\"",
            "no task of cells",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        let error = Manifest::from_toml(&text.replace(from, to)).unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    // Tables tell types apart by their names.
    let text = fs::read_to_string(data("annotation.toml")).unwrap();
    for (name, reason) in [
        ("class_1", "two are called"),
        ("unknown", "has no type"),
        ("gone", "has no type"),
        (" ", "a name is empty"),
    ] {
        let changed = text.replace("\"class_0\"", &format!("{name:?}"));
        assert_ne!(changed, text);
        let error = Manifest::from_toml(&changed).unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}
