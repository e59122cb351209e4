//! What a manifest says of a network beside its layers: what lies beyond a read's ends, and how
//! much noise int8 may add.

use super::draft::{Draft, Shape};
use super::{Terms, sequence};
use std::fs;
use strandline::compile::check::Check;
use strandline::compile::pack::{Packed, pack};
use strandline::model::manifest::{Ends, Link, Manifest, Precision};
use strandline::model::{ModelError, Parallel};
use strandline::{Annotator, Options};

const CONTEXT: usize = 40;
const TERMS: Terms = Terms {
    ids: false,
    columns: 2,
    context: CONTEXT,
    tile: 320,
    multiple: 1,
};

/// Two layers whose biases fill even a stretch of N, and reach some 26 bases.
fn network() -> Vec<u8> {
    let mut d = Draft::bases(5);
    let wide = |dilation| Shape {
        width: 5,
        dilation,
        before: 2,
    };
    let x = d.conv("x", 4, 8, wide(1), 1, 1);
    let x = d.batch_norm(&x, 8);
    let x = d.op("Relu", &[&x], &[]);
    let x = d.conv(&x, 8, 8, wide(12), 1, 1);
    let x = d.op("Relu", &[&x], &[]);
    let out = d.conv(&x, 8, 2, wide(1), 1, 1);
    d.finish(&out)
}

fn packed(change: impl FnOnce(&mut Manifest), check: Check) -> Result<Packed, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("draft.onnx");
    fs::write(&path, network()).unwrap();
    let mut manifest = TERMS.manifest(Precision::Int8);
    change(&mut manifest);
    let samples: Vec<Vec<u32>> = (0..9).map(|seed| sequence(seed, 700, 5)).collect();
    pack(&path, &manifest, &samples, check)
}

fn codes(seed: u32, length: usize) -> Vec<u8> {
    let codes = sequence(seed, length, 5);
    codes.into_iter().map(|code| code as u8).collect()
}

#[test]
fn n_around_a_sequence_is_computed_through_all_layers() {
    let padded = packed(|m| m.ends = Some(Ends::NPadded), Check::Precision).unwrap();
    let masked = packed(|_| (), Check::Precision).unwrap();
    assert_eq!(padded.model.manifest().ends, Some(Ends::NPadded));
    assert_eq!(masked.model.manifest().ends, None);
    let mut runner = padded.model.spawn().unwrap();
    let mut other = masked.model.spawn().unwrap();
    let mut threads = Parallel::new(&padded.model, 3).unwrap();
    // One base, less than the context, as much as fits a tile, and more.
    for length in [1, 7, 2 * CONTEXT, 320 - 2 * CONTEXT, 320, 321, 1000] {
        let own = codes(length as u32, length);
        let n = vec![4u8; CONTEXT];
        let rows = other.run(&[&n, &own[..], &n].concat()).unwrap().to_vec();
        let expected = &rows[2 * CONTEXT..rows.len() - 2 * CONTEXT];
        assert_eq!(runner.run(&own).unwrap(), expected, "{length}");
        assert_eq!(threads.run(&own).unwrap(), expected, "{length}");
        let unlike = other.run(&own).unwrap() != expected;
        assert!(unlike, "{length}: the ends make no difference");
    }
}

#[test]
fn a_growing_read_has_n_beyond_its_ends_alone() {
    let scanning = |manifest: &mut Manifest| {
        manifest.task = "splice".to_string();
        for (output, kind) in manifest.outputs.iter_mut().zip(["acceptor", "donor"]) {
            output.kind = Some(kind.to_string());
            (output.link, output.threshold) = (Link::Identity, -100.0);
            (output.separation, output.base_rate) = (2, 0.01);
        }
    };
    let padded = |manifest: &mut Manifest| {
        manifest.ends = Some(Ends::NPadded);
        scanning(manifest);
    };
    assert!(packed(scanning, Check::Skip).unwrap().model.keeps_rows());
    let annotate = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let model = packed(padded, Check::Skip).unwrap().model;
        assert!(!model.keeps_rows());
        let annotator = Annotator::new(vec![model], Options::default()).unwrap();
        let (mut read, mut calls) = (annotator.read(), vec![]);
        pieces.for_each(|piece| read.push_codes(piece, &mut calls).unwrap());
        read.finish(&mut calls).unwrap();
        let mut calls: Vec<_> = calls
            .iter()
            .map(|call| {
                (
                    call.start,
                    call.strand.symbol(),
                    call.kind,
                    call.score.to_bits(),
                )
            })
            .collect();
        calls.sort_unstable();
        calls
    };
    let own = codes(3, 900);
    let whole = annotate(&mut [&own[..]].into_iter());
    assert!(whole.len() > 100);
    for size in [17, 100, 333] {
        assert_eq!(annotate(&mut own.chunks(size)), whole, "{size}");
    }
}

#[test]
fn rows_with_more_noise_than_allowed_stay_float() {
    let all = packed(|m| m.min_snr = Some(0.0), Check::Precision).unwrap();
    let none = packed(|m| m.min_snr = Some(90.0), Check::Precision).unwrap();
    assert!(all.kept.is_empty() && all.model.manifest().reproducible.is_some());
    // The first convolution reads bases, which have no noise.
    assert_eq!(none.kept.len(), 2, "{:?}", none.kept);
    assert!(none.plain.is_empty() && none.model.manifest().reproducible.is_none());
    let layers = &none.model.manifest().layers;
    assert!(layers.iter().all(|layer| layer.signal_to_noise.is_none()));
    let [all, none] = [all, none].map(|packed| packed.agreement.unwrap());
    // What is left is the rounding of the first convolution's weights.
    assert!(none.largest < all.largest / 2.0, "{none}, {all}");
    assert!(
        1.0 - none.cosine < (1.0 - all.cosine) / 4.0,
        "{none}, {all}"
    );
}

#[test]
fn ends_are_for_rows_of_bases() {
    let text = |tokeniser: &str| {
        let mut manifest = TERMS.manifest(Precision::Int8);
        manifest.ends = Some(Ends::NPadded);
        let text = toml::to_string(&manifest).unwrap();
        text.replace("one-hot", tokeniser)
    };
    assert!(Manifest::from_toml(&text("one-hot")).is_ok());
    let refused = Manifest::from_toml(&text("ids")).unwrap_err();
    assert!(refused.contains("n-padded"), "{refused}");
}

#[test]
fn many_outputs_fit_as_long_as_a_tile_of_them_does() {
    let manifest = |outputs: usize, tile: usize| {
        let mut manifest = TERMS.manifest(Precision::Int8);
        let output = manifest.outputs[0].clone();
        (manifest.outputs, manifest.tile) = (vec![output; outputs], tile);
        manifest.validate()
    };
    assert_eq!(manifest(20_000, 1024), Ok(()));
    assert!(manifest(1 << 16, 128).is_err_and(|e| e.contains("outputs")));
    assert!(manifest(1 << 15, 1 << 12).is_err_and(|e| e.contains("tile")));
}
