//! The table of what is lowered in `models/README.md`: each row is a network that is packed here.
//!
//! After a change: `STRANDLINE_BLESS=1 cargo test --release --features full --test lowering table`.

use super::draft::{Draft, Rows, Shape, attribute};
use super::exported::{BASES, THREE, TOKENS};
use super::{Terms, sequence};
use std::fs;
use std::path::Path;
use strandline::compile::check::Check;
use strandline::compile::pack::pack;
use strandline::model::manifest::Precision;

/// One vector a sequence.
const WHOLE: Terms = Terms {
    context: 0,
    ..BASES
};

const ROWS: Rows = Rows {
    width: 16,
    heads: 2,
    rotary: false,
    masked: false,
};

/// What is between the first layer, of 8 channels or 16 columns, and the last.
type Write = fn(&mut Draft, &str) -> String;

struct Row {
    what: &'static str,
    terms: Terms,
    write: Write,
}

/// Behind a convolution.
fn bases(what: &'static str, write: Write) -> Row {
    Row {
        what,
        terms: BASES,
        write,
    }
}

/// Behind embedded tokens.
fn tokens(what: &'static str, write: Write) -> Row {
    Row {
        what,
        terms: TOKENS,
        write,
    }
}

/// Behind a convolution, one vector a sequence.
fn whole(what: &'static str, write: Write) -> Row {
    Row {
        what,
        terms: WHOLE,
        write,
    }
}

fn rows() -> Vec<Row> {
    let halves = Terms {
        multiple: 2,
        ..BASES
    };
    vec![
        bases("`Conv`, dilated", |d, x| {
            let shape = Shape {
                dilation: 5,
                ..THREE
            };
            d.conv(x, 8, 8, shape, 1, 1)
        }),
        bases("`Conv` of groups", |d, x| d.conv(x, 8, 8, THREE, 2, 1)),
        Row {
            terms: halves,
            ..bases(
                "`Conv` with a stride, nearest `Resize` behind it",
                |d, x| {
                    let x = d.conv(x, 8, 8, THREE, 1, 2);
                    d.upsample(&x, 2)
                },
            )
        },
        bases("`BatchNormalization`", |d, x| {
            let x = d.conv(x, 8, 8, THREE, 1, 1);
            d.batch_norm(&x, 8)
        }),
        bases("`Add` of two layers", |d, x| {
            let y = d.conv(x, 8, 8, THREE, 1, 1);
            d.op("Add", &[x, &y], &[])
        }),
        bases("`Mul` of two layers: a gate", |d, x| {
            let [a, b] = ["Tanh", "Sigmoid"].map(|function| {
                let y = d.conv(x, 8, 8, THREE, 1, 1);
                d.op(function, &[&y], &[])
            });
            d.op("Mul", &[&a, &b], &[])
        }),
        bases("`Relu`", |d, x| d.op("Relu", &[x], &[])),
        bases("`LeakyRelu`", |d, x| {
            d.op("LeakyRelu", &[x], &[attribute("alpha", 0.1)])
        }),
        bases(
            "`PRelu`, one slope or one a channel, none above 1",
            |d, x| {
                let slopes = [0.3, -0.2, 0.0, 1.0, 0.25, 0.1, 0.7, 0.5];
                let slope = d.floats(&[8, 1], &slopes);
                d.op("PRelu", &[x, &slope], &[])
            },
        ),
        bases("`Elu`, `Selu`, `Celu`", |d, x| {
            let x = d.op("Elu", &[x], &[]);
            let x = d.conv(&x, 8, 8, THREE, 1, 1);
            let x = d.op("Selu", &[&x], &[]);
            let x = d.conv(&x, 8, 8, THREE, 1, 1);
            d.op("Celu", &[&x], &[attribute("alpha", 0.6)])
        }),
        bases("`Gelu`, in parts by `Erf`, too", |d, x| {
            let x = d.op("Gelu", &[x], &[]);
            let x = d.conv(&x, 8, 8, THREE, 1, 1);
            d.function(&x, 2)
        }),
        bases("SiLU and Swish (`Sigmoid`, `Mul`)", |d, x| {
            let y = d.op("Sigmoid", &[x], &[]);
            d.op("Mul", &[x, &y], &[])
        }),
        bases("`Softplus`, `Mish`", |d, x| {
            let x = d.op("Softplus", &[x], &[]);
            let x = d.conv(&x, 8, 8, THREE, 1, 1);
            d.op("Mish", &[&x], &[])
        }),
        bases("`Sigmoid`, `Tanh`", |d, x| {
            let x = d.op("Sigmoid", &[x], &[]);
            let x = d.conv(&x, 8, 8, THREE, 1, 1);
            d.op("Tanh", &[&x], &[])
        }),
        bases("`HardSigmoid`, `HardSwish`, `Clip`", |d, x| {
            let x = d.op("HardSigmoid", &[x], &[]);
            let x = d.conv(&x, 8, 8, THREE, 1, 1);
            let x = d.op("HardSwish", &[&x], &[]);
            let x = d.conv(&x, 8, 8, THREE, 1, 1);
            let (low, high) = (d.scalar(-0.5), d.scalar(0.4));
            d.op("Clip", &[&x, &low, &high], &[])
        }),
        Row {
            terms: halves,
            ..bases("`MaxPool`, `AveragePool`, stride 2", |d, x| {
                let x = d.pool(x, true, 2, 0, 2, false);
                let x = d.upsample(&x, 2);
                let x = d.conv(&x, 8, 8, THREE, 1, 1);
                let x = d.pool(&x, false, 2, 0, 2, false);
                d.upsample(&x, 2)
            })
        },
        bases("`Concat` of channels, `Slice`, `Split`", |d, x| {
            let y = d.conv(x, 8, 8, THREE, 1, 1);
            let parts = d.parts("Split", &[&y], &[attribute("axis", 1)], 2);
            d.op("Concat", &[&parts[1], &parts[0]], &[attribute("axis", 1)])
        }),
        bases("`Softmax` over channels, at the end", |d, x| {
            let x = d.conv(x, 8, 3, THREE, 1, 1);
            d.op("Softmax", &[&x], &[attribute("axis", 1)])
        }),
        whole("`GlobalAveragePool`, `Gemm`", |d, x| {
            let x = d.op("GlobalAveragePool", &[x], &[]);
            let x = d.op("Flatten", &[&x], &[]);
            d.dense(&x, 8, 3)
        }),
        tokens("`Gather` of tokens, learned positions", |d, _| {
            d.embedding(16, Some(24))
        }),
        tokens("`MatMul`, `Add`", |d, x| d.linear(x, 16, 16)),
        tokens("SwiGLU (`Split`, `Sigmoid`, `Mul`)", |d, x| {
            let both = d.linear(x, 16, 32);
            let parts = d.parts("Split", &[&both], &[attribute("axis", -1)], 2);
            let open = d.op("Sigmoid", &[&parts[0]], &[]);
            let a = d.op("Mul", &[&parts[0], &open], &[]);
            d.op("Mul", &[&a, &parts[1]], &[])
        }),
        tokens("`LayerNormalization`", |d, x| d.layer_norm(x, 16)),
        tokens("`RMSNormalization`", |d, x| {
            let scale = d.around(1.0, 16);
            d.op("RMSNormalization", &[x, &scale], &[attribute("axis", -1)])
        }),
        tokens("`Attention` of opset 23", |d, x| {
            let heads = [attribute("q_num_heads", 2), attribute("kv_num_heads", 2)];
            d.op("Attention", &[x, x, x], &heads)
        }),
        tokens("attention in parts", |d, x| {
            d.transformer_block(x, &ROWS, false, 0)
        }),
        tokens("the same, rotated", |d, x| {
            let rotary = Rows {
                rotary: true,
                ..ROWS
            };
            d.transformer_block(x, &rotary, true, 2)
        }),
        tokens("`Attention` that is causal", |d, x| {
            let heads = [("q_num_heads", 2), ("kv_num_heads", 2), ("is_causal", 1)];
            let heads = heads.map(|(name, value)| attribute(name, value));
            d.op("Attention", &[x, x, x], &heads)
        }),
        tokens("attention whose mask depends on tokens", |d, x| {
            let (one, axes) = (d.scalar_index(1), d.integers(&[2], &[1, 2]));
            let mask = d.op("Less", &["ids", &one], &[]);
            let mask = d.op("Not", &[&mask], &[]);
            let mask = d.op("Unsqueeze", &[&mask, &axes], &[]);
            let heads = [attribute("q_num_heads", 2), attribute("kv_num_heads", 2)];
            d.op("Attention", &[x, x, x, &mask], &heads)
        }),
        bases("`Sin`", |d, x| d.op("Sin", &[x], &[])),
        bases("`InstanceNormalization`", |d, x| {
            let (scale, bias) = (d.around(1.0, 8), d.around(0.0, 8));
            d.op("InstanceNormalization", &[x, &scale, &bias], &[])
        }),
        bases("`ConvTranspose`", |d, x| {
            let weight = d.weights(&[8, 8, 3], 24);
            d.op(
                "ConvTranspose",
                &[x, &weight],
                &[attribute("pads", vec![1, 1])],
            )
        }),
    ]
}

/// The layers that a row becomes, or why it is refused.
fn becomes(row: &Row) -> String {
    let terms = &row.terms;
    let (mut d, x);
    if terms.ids {
        d = Draft::ids(7, false).opset(23);
        x = d.embedding(16, None);
    } else {
        d = Draft::bases(7).opset(22);
        x = d.conv("x", 4, 8, THREE, 1, 1);
    }
    let y = (row.write)(&mut d, &x);
    let ends = row.what.contains("at the end") || row.what.contains("`Gemm`");
    let out = match (ends, terms.ids) {
        (true, _) => y,
        (false, true) => d.linear(&y, 16, 3),
        (false, false) => d.conv(&y, 8, 3, THREE, 1, 1),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("draft.onnx");
    fs::write(&path, d.finish(&out)).unwrap();
    let most = if terms.ids { 9 } else { 5 };
    let samples: Vec<Vec<u32>> = (0..9)
        .map(|seed| sequence(seed, terms.tile, most))
        .collect();
    let manifest = terms.manifest(Precision::Int8);
    let packed = match pack(&path, &manifest, &samples, Check::Precision) {
        Ok(packed) => packed,
        Err(error) => {
            assert!(error.to_string().contains("at once"), "{error}");
            return "refused by name".to_string();
        }
    };
    if !packed.plain.is_empty() {
        return "tract's own, float".to_string();
    }
    let mut names: Vec<String> = vec![];
    for layer in &packed.model.manifest().layers {
        let name = layer.operator.trim_start_matches("strandline_");
        let name = match layer.precision.as_str() {
            "int8" => format!("`{name}`"),
            other => format!("`{name}` ({other})"),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

#[test]
fn the_table_in_the_guide() {
    let mut table = "| ONNX | layers of a file in int8 |\n| --- | --- |\n".to_string();
    for row in rows() {
        table += &format!("| {} | {} |\n", row.what, becomes(&row));
    }
    println!("{table}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/README.md");
    let text = fs::read_to_string(&path).unwrap();
    let (start, end) = ("<!-- lowered -->\n", "<!-- /lowered -->\n");
    let from = text.find(start).unwrap() + start.len();
    let to = text.find(end).unwrap();
    if std::env::var_os("STRANDLINE_BLESS").is_some() {
        let text = [&text[..from], "\n", &table, "\n", &text[to..]].concat();
        fs::write(&path, text).unwrap();
        return;
    }
    assert_eq!(
        text[from..to].trim(),
        table.trim(),
        "see the top of tests/lowering/table.rs"
    );
}
