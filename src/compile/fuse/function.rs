//! Functions of single elements that tract would take apart, or that are written out of two
//! operators: as one operator each, so that nothing between is rounded to int8.

use super::net::Net;
use super::node::{self, Value, label, node, with};
use crate::kernels::{Activation, Real};
use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

/// The operator that such a function becomes.
pub const FUNCTION: &str = "strandline.Function";

/// A function by its operator, or at the product that ends it.
pub fn function(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = &net.nodes[at];
    if op.op_type == "Where" {
        let same = settled(net, op)?;
        return Some(vec![node(
            "Identity",
            label(op),
            &[&same],
            &[op.output.first()?],
        )]);
    }
    let (x, function) = match op.op_type.as_str() {
        "Mul" => product(net, op)?,
        "Log" => logarithm(net, op)?,
        _ => (op.input.first()?.clone(), by_name(net, op)?),
    };
    let made = node(FUNCTION, label(op), &[&x], &[op.output.first()?]);
    let text = serde_json::to_string(&function).ok()?;
    Some(vec![with(made, "function", Value::Text(text))])
}

fn real(value: f32) -> Option<Real> {
    Real::try_from(value).ok()
}

/// The function of an operator that is one, with ONNX's defaults.
fn by_name(net: &Net, op: &NodeProto) -> Option<Activation> {
    let attribute = |name: &str, default: f32| real(node::float(op, name).unwrap_or(default));
    Some(match (op.domain.as_str(), op.op_type.as_str()) {
        ("com.microsoft", "QuickGelu") => Activation::Swish {
            rate: attribute("alpha", 1.702)?,
        },
        ("" | "ai.onnx", name) => match name {
            "Softplus" => Activation::Softplus,
            "Mish" => Activation::Mish,
            "HardSwish" => Activation::HardSwish,
            "Swish" => Activation::Swish {
                rate: attribute("alpha", 1.0)?,
            },
            "LeakyRelu" => Activation::LeakyRelu {
                slope: attribute("alpha", 0.01)?,
            },
            "PRelu" => Activation::LeakyRelu {
                slope: real(same(&net.floats(op.input.get(1)?)?)?)?,
            },
            "HardSigmoid" => Activation::HardSigmoid {
                factor: attribute("alpha", 0.2)?,
                term: attribute("beta", 0.5)?,
            },
            "Elu" => Activation::Elu {
                above: Real::ONE,
                below: attribute("alpha", 1.0)?,
                rate: Real::ONE,
            },
            "Selu" => {
                let (alpha, gamma) = (
                    attribute("alpha", 1.673_263_2)?,
                    attribute("gamma", 1.050_701)?,
                );
                Activation::Elu {
                    above: gamma,
                    below: real(alpha.get() * gamma.get())?,
                    rate: Real::ONE,
                }
            }
            "Celu" => {
                let alpha = attribute("alpha", 1.0)?;
                Activation::Elu {
                    above: Real::ONE,
                    below: alpha,
                    rate: real(1.0 / alpha.get())?,
                }
            }
            "Clip" => {
                let (low, high) = (bound(net, op, 1, "min")?, bound(net, op, 2, "max")?);
                Activation::Clip {
                    low: real(low)?,
                    high: real(high)?,
                }
            }
            _ => return None,
        },
        _ => return None,
    })
}

/// The one value of all of these.
fn same(values: &[f32]) -> Option<f32> {
    let first = *values.first()?;
    values.iter().all(|x| *x == first).then_some(first)
}

/// A limit of a `Clip` of floats: an input, or an attribute before opset 11.
fn bound(net: &Net, op: &NodeProto, slot: usize, name: &str) -> Option<f32> {
    match op.input.get(slot) {
        Some(input) => {
            let constant = net.constants.get(input)?;
            let float = constant.data_type == DataType::Float as i32;
            float.then(|| net.scalar(input)).flatten()
        }
        None => node::float(op, name),
    }
}

/// The x of a function that writes `name`, and the function.
fn written(net: &Net, name: &str) -> Option<(String, Activation)> {
    let made = net.producer_of(name, FUNCTION)?;
    let function = serde_json::from_str(&node::text(made, "function")?).ok()?;
    Some((made.input.first()?.clone(), function))
}

/// x times a function of x.
fn product(net: &Net, op: &NodeProto) -> Option<(String, Activation)> {
    let [a, b] = op.input.as_slice() else {
        return None;
    };
    [(a, b), (b, a)].into_iter().find_map(|(x, factor)| {
        let (of, function) = if let Some(sigmoid) = net.producer_of(factor, "Sigmoid") {
            let of = sigmoid.input.first()?;
            let (of, rate) = scaled(net, of, x)?;
            let rate = real(rate)?;
            (of, Activation::Swish { rate })
        } else if let Some(tanh) = net.producer_of(factor, "Tanh") {
            match written(net, tanh.input.first()?)? {
                (of, Activation::Softplus) => (of, Activation::Mish),
                _ => return None,
            }
        } else {
            match written(net, factor)? {
                (of, Activation::HardSigmoid { factor, term })
                    if (factor.get() * 6.0 - 1.0).abs() < 1e-5 && term.get() == 0.5 =>
                {
                    (of, Activation::HardSwish)
                }
                _ => return None,
            }
        };
        (of == *x).then_some((of, function))
    })
}

/// What the input of a logistic function is of x: x, or a product with a constant.
fn scaled(net: &Net, of: &str, x: &str) -> Option<(String, f32)> {
    if of == x {
        return Some((x.to_string(), 1.0));
    }
    let product = net.producer_of(of, "Mul")?;
    let [a, b] = product.input.as_slice() else {
        return None;
    };
    let (of, rate) = match (net.scalar(a), net.scalar(b)) {
        (None, Some(rate)) => (a, rate),
        (Some(rate), None) => (b, rate),
        _ => return None,
    };
    Some((of.clone(), rate))
}

/// ln(1 + e^x).
fn logarithm(net: &Net, op: &NodeProto) -> Option<(String, Activation)> {
    let sum = net.producer_of(op.input.first()?, "Add")?;
    let [a, b] = sum.input.as_slice() else {
        return None;
    };
    let power = match (net.scalar(a), net.scalar(b)) {
        (Some(1.0), None) => b,
        (None, Some(1.0)) => a,
        _ => return None,
    };
    let exp = net.producer_of(power, "Exp")?;
    Some((exp.input.first()?.clone(), Activation::Softplus))
}

/// From here on ln(1 + e^x) is x, to the last bit of an f32.
const STRAIGHT: f32 = 17.0;

/// A softplus that is replaced with x where x is large, as PyTorch writes it: `Where(b x > 20, x,
/// softplus(b x) / b)`.
fn settled(net: &Net, op: &NodeProto) -> Option<String> {
    let [condition, x, curve] = op.input.as_slice() else {
        return None;
    };
    let greater = net.producer_of(condition, "Greater")?;
    let large = net.scalar(greater.input.get(1)?)? >= STRAIGHT;
    let (of, rate) = scaled(net, greater.input.first()?, x)?;
    let (inner, factor) = match net.producer(curve)? {
        div if div.op_type == "Div" => (&div.input[0], net.scalar(div.input.get(1)?)?),
        mul if mul.op_type == "Mul" => (&mul.input[0], 1.0 / net.scalar(mul.input.get(1)?)?),
        _ => (curve, 1.0),
    };
    let (argument, function) = written(net, inner)?;
    let (argument, own) = scaled(net, &argument, x)?;
    let same = of == *x && argument == *x && own == rate && (factor - rate).abs() < 1e-6 * rate;
    (large && same && function == Activation::Softplus).then(|| curve.clone())
}
