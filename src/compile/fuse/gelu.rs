//! GELU written out: products of x, one half and one plus an error function or a tanh, in any
//! order.

use super::dim::Dim;
use super::net::Net;
use super::node::{self, PREFIX, Value, label, node, with};
use super::view::open_shape;
use tract_onnx::pb::NodeProto;

/// Factors of a product: tensors, and what the constants among them make.
struct Product {
    factors: Vec<String>,
    constant: f32,
}

/// The tensor behind reshapes that only add or drop axes of one.
fn settled(net: &Net, name: &str) -> String {
    let kept = |name: &str| -> Option<Vec<Dim>> {
        Some(
            net.shape(name)?
                .into_iter()
                .filter(|d| *d != Dim::ONE)
                .collect(),
        )
    };
    let mut name = name.to_string();
    while let Some(node) = net.producer(&name)
        && ["Reshape", "Squeeze", "Unsqueeze", "Identity"].contains(&node.op_type.as_str())
        && kept(&name).is_some()
        && kept(&name) == kept(&node.input[0])
    {
        name = node.input[0].clone();
    }
    name
}

/// The node of this operator behind a tensor.
fn behind<'a>(net: &'a Net, name: &str, operator: &str) -> Option<&'a NodeProto> {
    net.producer_of(&settled(net, name), operator)
}

/// Takes a product apart, at most so many operators deep, and not what is called `leaf`.
fn product(net: &Net, name: &str, depth: usize, leaf: &str) -> Product {
    let name = settled(net, name);
    let name = name.as_str();
    if let Some(constant) = net.scalar(name) {
        return Product {
            factors: vec![],
            constant,
        };
    }
    let whole = || Product {
        factors: vec![name.to_string()],
        constant: 1.0,
    };
    let Some(node) = net
        .producer(name)
        .filter(|n| depth > 0 && n.input.len() == 2 && name != leaf)
    else {
        return whole();
    };
    match node.op_type.as_str() {
        "Mul" => {
            let (a, b) = (
                product(net, &node.input[0], depth - 1, leaf),
                product(net, &node.input[1], depth - 1, leaf),
            );
            Product {
                factors: [a.factors, b.factors].concat(),
                constant: a.constant * b.constant,
            }
        }
        "Div" => match net.scalar(&node.input[1]) {
            Some(by) => {
                let of = product(net, &node.input[0], depth - 1, leaf);
                Product {
                    factors: of.factors,
                    constant: of.constant / by,
                }
            }
            None => whole(),
        },
        "Pow" => match net.scalar(&node.input[1]) {
            Some(power) if power == 2.0 || power == 3.0 => Product {
                factors: vec![settled(net, &node.input[0]); power as usize],
                constant: 1.0,
            },
            _ => whole(),
        },
        _ => whole(),
    }
}

fn near(a: f32, b: f32) -> bool {
    // Constants of a quantised file carry the error of eight bits.
    (a - b).abs() < 4e-3 * b.abs()
}

/// The other operand of an addition whose one operand is a constant.
fn plus_constant(net: &Net, name: &str, constant: f32) -> Option<String> {
    // A quantised file states that the bracket is never negative.
    let name = behind(net, name, "Relu").map_or(name, |relu| &relu.input[0]);
    let sum = behind(net, name, "Add")?;
    let is = |at: usize| {
        net.scalar(sum.input.get(at)?)
            .filter(|c| near(*c, constant))
    };
    match (is(0), is(1)) {
        (Some(_), _) => Some(settled(net, &sum.input[1])),
        (_, Some(_)) => Some(settled(net, &sum.input[0])),
        _ => None,
    }
}

/// The x of `erf(x / √2)`.
fn erf_of(net: &Net, name: &str) -> Option<String> {
    let erf = behind(net, name, "Erf")?;
    let inner = product(net, &erf.input[0], 1, "");
    let one = near(inner.constant, std::f32::consts::FRAC_1_SQRT_2) && inner.factors.len() == 1;
    one.then(|| inner.factors[0].clone())
}

/// The x of `tanh(√(2/π) (x + 0.044715 x³))`, or of x times `1 + 0.044715 x²` in the bracket.
fn tanh_of(net: &Net, name: &str, leaf: &str) -> Option<String> {
    let tanh = behind(net, name, "Tanh")?;
    let inner = product(net, &tanh.input[0], 1, "");
    let factor = (2.0 / std::f32::consts::PI).sqrt();
    if near(inner.constant, factor)
        && let [sum] = inner.factors.as_slice()
    {
        let sum = behind(net, sum, "Add")?;
        let (a, b) = (
            &settled(net, sum.input.first()?),
            &settled(net, sum.input.get(1)?),
        );
        let is_cube = |cube: &str, x: &str| {
            let cube = product(net, cube, 4, x);
            let all = cube.factors.iter().all(|f| f == x);
            near(cube.constant, 0.044_715) && cube.factors.len() == 3 && all
        };
        return match (is_cube(a, b), is_cube(b, a)) {
            (true, _) => Some(b.clone()),
            (_, true) => Some(a.clone()),
            _ => None,
        };
    }
    let inner = product(net, &tanh.input[0], 2, leaf);
    if !near(inner.constant, factor) || inner.factors.len() != 2 {
        return None;
    }
    for (x, bracket) in [(0, 1), (1, 0)] {
        if let Some(square) = plus_constant(net, &inner.factors[bracket], 1.0) {
            let square = product(net, &square, 3, &inner.factors[x]);
            let all = square.factors.iter().all(|f| *f == inner.factors[x]);
            if near(square.constant, 0.044_715) && square.factors.len() == 2 && all {
                return Some(inner.factors[x].clone());
            }
        }
    }
    None
}

/// What the error functions in the factors of a product are of.
fn arguments(net: &Net, name: &str, depth: usize) -> Vec<String> {
    let name = settled(net, name);
    if let Some(bracket) = plus_constant(net, &name, 1.0) {
        let of = erf_of(net, &bracket).or_else(|| tanh_of(net, &bracket, ""));
        return of.into_iter().collect();
    }
    match net.producer(&name).filter(|_| depth > 0) {
        Some(node) if ["Mul", "Div"].contains(&node.op_type.as_str()) => {
            let inputs = node.input.iter();
            inputs
                .flat_map(|input| arguments(net, input, depth - 1))
                .collect()
        }
        _ => vec![],
    }
}

/// True for what is multiplied by a constant next.
fn is_scaled(net: &Net, name: &str) -> bool {
    net.readers(name).iter().any(|&at| {
        let reader = &net.nodes[at];
        let constant = reader.input.iter().any(|input| net.scalar(input).is_some());
        ["Mul", "Div"].contains(&reader.op_type.as_str()) && constant
    })
}

/// `Gelu`, and its two written forms at their last product.
pub fn gelu(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    let out = &op.output[0];
    // An optimiser may have moved the half, or what else is multiplied, elsewhere.
    let write = |net: &mut Net, x: &str, tanh: bool, factor: f32| {
        if !near(factor, 1.0) {
            let (gelu, by) = (format!("{out}.gelu"), format!("{out}.factor"));
            let by = net.add_floats(by, &[1], &[factor]);
            let how = Value::Text(if tanh { "tanh" } else { "none" }.into());
            let made = node("Gelu", label(&op), &[x], &[&gelu]);
            return Some(vec![
                with(made, "approximate", how),
                node("Mul", out, &[&gelu, &by], &[out]),
            ]);
        }
        let made = node(&format!("{PREFIX}Gelu"), label(&op), &[x], &[out]);
        let mut made = with(
            made,
            "approximate",
            Value::Text(if tanh { "tanh" } else { "none" }.into()),
        );
        if net.fact(x).shape == net.fact(out).shape {
            return Some(vec![made]);
        }
        let hidden = format!("{out}.plain");
        made.output = vec![hidden.clone()];
        let sizes = open_shape(&net.shape(out)?)?;
        let target = net.add_integers(format!("{out}.shape"), &sizes);
        Some(vec![
            made,
            node("Reshape", out, &[&hidden, &target], &[out]),
        ])
    };
    if op.op_type == "Gelu" && op.domain != node::DOMAIN {
        let tanh = node::text(&op, "approximate").is_some_and(|a| a == "tanh");
        return write(net, op.input.first()?, tanh, 1.0);
    }
    if op.op_type != "Mul" && op.op_type != "Div" {
        return None;
    }
    // What GELU is of may be a product itself, which is not to be taken apart.
    let mut leaves = vec![String::new()];
    leaves.extend(arguments(net, &op.output[0], 3));
    for (depth, leaf) in (1..4).flat_map(|depth| leaves.iter().map(move |leaf| (depth, leaf))) {
        let whole = product(net, &op.output[0], depth, leaf);
        if whole.factors.len() != 2 {
            continue;
        }
        let factor = whole.constant / 0.5;
        if !near(factor, 1.0) && is_scaled(net, &op.output[0]) {
            continue;
        }
        for (x, bracket) in [(0, 1), (1, 0)] {
            let Some(inner) = plus_constant(net, &whole.factors[bracket], 1.0) else {
                continue;
            };
            let x = &whole.factors[x];
            if erf_of(net, &inner).as_ref() == Some(x) {
                return write(net, x, false, factor);
            }
            if tanh_of(net, &inner, leaf).as_ref() == Some(x) {
                return write(net, x, true, factor);
            }
        }
    }
    None
}
