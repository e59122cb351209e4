//! Networks and packed files that are right, to be made wrong: every operator of the compiler's
//! tests and the built-in models.

use crate::draft::{Draft, Rows, Shape, attribute};
use std::path::Path;
use strandline::annotate::{Task, builtin};
use strandline::compile::check::Check;
use strandline::compile::pack::pack;
use strandline::model::file::ModelFile;
use strandline::model::manifest::{Manifest, Precision};
use strandline::model::map::Bytes;

const ONE: Shape = Shape {
    width: 1,
    dilation: 1,
    before: 0,
};

const THREE: Shape = Shape {
    width: 3,
    dilation: 1,
    before: 1,
};

const WIDE: Shape = Shape {
    width: 5,
    dilation: 3,
    before: 2,
};

/// A network and what its manifest says.
pub struct Network {
    pub name: &'static str,
    /// It reads token ids, not bases.
    pub ids: bool,
    pub onnx: Vec<u8>,
    /// As TOML.
    pub manifest: String,
}

/// One network of each kind.
pub fn networks() -> Vec<Network> {
    vec![
        residual(),
        strided(),
        pooled(),
        foreign(),
        transformer("masked", true, false),
        transformer("rotary", false, true),
    ]
}

fn network(name: &'static str, draft: Draft, output: &str, columns: usize, ids: bool) -> Network {
    let mut manifest = format!(
        "name = \"{name}\"\nversion = \"1\"\ntask = \"raw\"\ndescription = \"\"\n\
         alphabet = \"ACGT\"\ntokeniser = \"{}\"\nstride = 1\nlicence = \"\"\ntile = 80\n\
         multiple = {}\ncontext = {{ left = 20, right = 20 }}\n\
         training = {{ data = \"\", split = \"\", recipe = \"\" }}\n",
        if ids { "ids" } else { "one-hot" },
        if name == "strided" { 2 } else { 1 },
    );
    for column in 0..columns {
        manifest +=
            &format!("[[outputs]]\nname = \"c{column}\"\nmeaning = \"\"\nlink = \"identity\"\n");
    }
    Network {
        name,
        ids,
        onnx: draft.finish(output),
        manifest,
    }
}

fn residual() -> Network {
    let mut d = Draft::bases(1);
    let x = d.conv("x", 4, 8, WIDE, 1, 1);
    let x = d.batch_norm(&x, 8);
    let x = d.function(&x, 1);
    let y = d.conv(&x, 8, 8, THREE, 2, 1);
    let y = d.function(&y, 2);
    let z = d.op("Add", &[&x, &y], &[]);
    let out = d.conv(&z, 8, 3, ONE, 1, 1);
    let out = d.op("Softmax", &[&out], &[attribute("axis", 1)]);
    network("residual", d, &out, 3, false)
}

fn strided() -> Network {
    let mut d = Draft::bases(2);
    let full = d.conv("x", 4, 12, THREE, 1, 1);
    let full = d.function(&full, 1);
    let pool = d.pool(&full, true, 2, 0, 2, false);
    let mean = d.pool(&full, false, 2, 0, 2, true);
    let both = d.op("Concat", &[&pool, &mean], &[attribute("axis", 1)]);
    let coarse = d.conv(&both, 24, 8, THREE, 1, 1);
    let up = d.upsample(&coarse, 2);
    let all = d.op("Concat", &[&full, &up], &[attribute("axis", 1)]);
    let out = d.conv(&all, 20, 2, ONE, 1, 1);
    network("strided", d, &out, 2, false)
}

fn pooled() -> Network {
    let mut d = Draft::bases(3);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let x = d.function(&x, 1);
    let x = d.op("GlobalAveragePool", &[&x], &[]);
    let x = d.op("Flatten", &[&x], &[]);
    let x = d.dense(&x, 8, 9);
    let x = d.function(&x, 3);
    let out = d.dense(&x, 9, 2);
    network("pooled", d, &out, 2, false)
}

fn foreign() -> Network {
    let mut d = Draft::bases(4);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let y = d.op("Softsign", &[&x], &[]);
    let y = d.conv(&y, 8, 8, ONE, 1, 1);
    let y = d.op("Add", &[&x, &y], &[]);
    let out = d.conv(&y, 8, 2, ONE, 1, 1);
    network("foreign", d, &out, 2, false)
}

fn transformer(name: &'static str, masked: bool, rotary: bool) -> Network {
    let (width, heads) = (16, 2);
    let mut d = Draft::ids(5, masked);
    let rows = Rows {
        width,
        heads,
        masked,
        rotary,
    };
    let x = d.embedding(width, (!rotary).then_some(80));
    let x = d.layer_norm(&x, width);
    let x = d.transformer_block(&x, &rows, rotary, usize::from(rotary) + 1);
    let out = d.linear(&x, width, 3);
    network(name, d, &out, 3, true)
}

/// Packed files: the built-in ones, and the networks at each precision.
pub fn packed(folder: &Path) -> Vec<(bool, ModelFile)> {
    let mut all: Vec<(bool, ModelFile)> = Task::ALL
        .into_iter()
        .map(|task| builtin::file(task).unwrap())
        .map(|file| (file.manifest().tokeniser.reads_ids(), file))
        .collect();
    let samples: Vec<Vec<u32>> = (0..8)
        .map(|n| (0..80).map(|at| (at * (n + 1) + at / 7) % 4).collect())
        .collect();
    for network in networks() {
        let onnx = folder.join("seed.onnx");
        std::fs::write(&onnx, &network.onnx).unwrap();
        for precision in [Precision::Int8, Precision::Fp16, Precision::F32] {
            let mut manifest = Manifest::from_toml(&network.manifest).unwrap();
            manifest.precision = precision;
            let packed = pack(&onnx, &manifest, &samples, Check::Skip).unwrap();
            let bytes = Bytes::copy_of(&packed.bytes).unwrap();
            all.push((network.ids, ModelFile::parse(bytes, network.name).unwrap()));
        }
    }
    all
}
