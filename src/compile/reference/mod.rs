//! The fused operators of a float graph, computed plainly in f32: what a lowered network is
//! compared with, and what calibration runs.
//!
//! One type, [`Fused`], so that the lowering can match on it. Shapes: `rows` is `[1, T, D]`,
//! channel-first tensors are `[1, C, T]`; T may be a symbol.

mod arithmetic;

use crate::kernels::pool::Pooling;
use crate::kernels::{Activation, Real};
use arithmetic::{apply, attention, gelu, gelu_tanh, layer_norm, rotate};
use serde::{Deserialize, Serialize};
use tract_nnef::internal::*;
use tract_nnef::tract_core::ops::einsum::EinSum;
use tract_nnef::tract_core::ops::math::add;
use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    Expansion, InferenceOp, InferenceResult, Solver, TensorProxy, check_output_arity, expand,
};

/// A fused operator. Floats are kept as their bits, for `Eq`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fused {
    /// Inputs: x `[1, T, D]` or `[1, D]`, gamma `[D]`, beta `[D]`. `(x - mean) / sqrt(variance +
    /// epsilon) · gamma + beta` over D.
    LayerNorm {
        /// Bits of epsilon.
        epsilon: u32,
        /// False where 0 is taken for the mean.
        centred: bool,
    },
    /// Input: any x. `x · Φ(x)`, or its approximation by a tanh.
    Gelu {
        /// True for `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
        tanh: bool,
    },
    /// Input: any x. A function of each value.
    Function(Activation),
    /// Inputs: x `[1, T, K]`, weight `[K, N]` and, if there is one, bias `[N]`. Output `[1, T, N]`.
    Linear,
    /// Inputs: q, k, v `[1, T, D]` and, with `real`, a mask `[1, T]`. Output `[1, T, D]`; columns
    /// are heads side by side.
    Attention {
        /// Heads; D is a multiple.
        heads: usize,
        /// Bits of the factor on q · k.
        scale: u32,
        /// Bits of the base of the rotation of q and k by position, halves of a head apart: angle t
        /// · base^(-2 j / d).
        rotary: Option<u32>,
        /// The value of the mask that means a real token; others get no attention.
        real: Option<i64>,
    },
    /// Inputs: ids `[1, T]`, table `[V, D]` and, if there are learned positions, their table `[P,
    /// D]`, P ≥ T. Output `[1, T, D]`.
    Embedding,
    /// Inputs: x and, with `real`, a mask `[1, T]`. Output `[1, D]`.
    Pool {
        /// What is kept.
        kind: Pooling,
        /// The axis of positions: 1 of `[1, T, D]`, 2 of `[1, C, T]`.
        axis: usize,
        /// The value of the mask that means a real token; others do not count.
        real: Option<i64>,
    },
    /// Inputs: values `[1, T]`, weight `[D]` and, if there is one, bias `[D]`. Output `[1, T, D]`:
    /// each value, clamped, times the weight, plus the bias.
    Scalar {
        /// Bits of the least value.
        least: u32,
        /// Bits of the greatest one.
        most: u32,
    },
    /// Input `[1, T]`: sums of all values up to each.
    CumSum,
    /// Input `[1, C, T]`, output `[1, C, factor · T]`: every position so many times.
    Upsample {
        /// How many times.
        factor: usize,
    },
}

impl Op for Fused {
    fn name(&self) -> StaticName {
        match self {
            Fused::LayerNorm { .. } => "strandline_layer_norm",
            Fused::Gelu { .. } => "strandline_gelu",
            Fused::Function(_) => "strandline_function",
            Fused::Linear => "strandline_linear",
            Fused::Attention { .. } => "strandline_attention",
            Fused::Embedding => "strandline_embedding",
            Fused::Pool { .. } => "strandline_pool",
            Fused::Upsample { .. } => "strandline_upsample",
            Fused::CumSum => "strandline_cumsum",
            Fused::Scalar { .. } => "strandline_scalar",
        }
        .into()
    }

    op_as_typed_op!();
}

impl EvalOp for Fused {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let facts: TVec<TypedFact> = inputs
            .iter()
            .map(|v| v.datum_type().fact(v.shape()))
            .collect();
        let shape = self.output_shape(&facts.iter().collect::<TVec<_>>())?;
        let shape: TVec<usize> = shape
            .iter()
            .map(|d| Ok(d.to_usize()?))
            .collect::<TractResult<_>>()?;
        let mut output = Tensor::zero::<f32>(&shape)?;
        self.compute(
            &inputs,
            output.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?,
        )?;
        Ok(tvec!(output.into()))
    }
}

impl TypedOp for Fused {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(self.output_shape(inputs)?)))
    }

    /// A product of matrices is worth tract's own kernels: calibration runs large networks.
    fn codegen(
        &self,
        model: &TypedModel,
        node: &TypedNode,
    ) -> TractResult<Option<TypedModelPatch>> {
        if *self != Fused::Linear {
            return Ok(None);
        }
        let mut patch = TypedModelPatch::default();
        let taps = patch.taps(model, &node.inputs)?;
        let product = EinSum::new("amk,kn->amn".parse()?, f32::datum_type());
        let mut output = patch.wire_node(&node.name, product, &taps[..2])?[0];
        if let Some(&bias) = taps.get(2) {
            let name = format!("{}.bias", node.name);
            let bias = patch.wire_node(format!("{name}.0"), AxisOp::Add(0), &[bias])?;
            let bias = patch.wire_node(format!("{name}.1"), AxisOp::Add(0), &bias)?;
            output = patch.wire_node(name, add(), &[output, bias[0]])?[0];
        }
        patch.shunt_outside(model, node.id.into(), output)?;
        Ok(Some(patch))
    }
}

fn floats(value: &Tensor) -> TractResult<&[f32]> {
    value.try_as_plain_ram()?.as_slice::<f32>()
}

/// True where a position counts.
fn real_positions(mask: Option<(&TValue, i64)>, rows: usize) -> TractResult<Vec<bool>> {
    let Some((mask, real)) = mask else {
        return Ok(vec![true; rows]);
    };
    let mask = mask.cast_to::<i64>()?;
    let mask = mask.try_as_plain_ram()?.as_slice::<i64>()?;
    ensure!(
        mask.len() == rows,
        "a mask of {} for {rows} positions",
        mask.len()
    );
    Ok(mask.iter().map(|&m| m == real).collect())
}

impl Fused {
    fn output_shape(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TDim>> {
        let arity = match self {
            Fused::LayerNorm { .. } => 3..=3,
            Fused::Linear | Fused::Embedding | Fused::Scalar { .. } => 2..=3,
            Fused::Attention { real, .. } if real.is_some() => 4..=4,
            Fused::Attention { .. } => 3..=3,
            Fused::Pool { real, .. } if real.is_some() => 2..=2,
            Fused::Gelu { .. }
            | Fused::Function(_)
            | Fused::Pool { .. }
            | Fused::CumSum
            | Fused::Upsample { .. } => 1..=1,
        };
        ensure!(
            arity.contains(&inputs.len()),
            "{} inputs of {self:?}",
            inputs.len()
        );
        let shape = |at: usize| -> TVec<TDim> { inputs[at].shape.to_tvec() };
        let mut out = shape(0);
        let three = || -> TractResult<()> {
            ensure!(
                shape(0).len() == 3,
                "{self:?} of {:?}, not of three axes",
                inputs[0]
            );
            ensure!(
                shape(0)[0] == 1.to_dim(),
                "{self:?} of a batch of {}",
                shape(0)[0]
            );
            Ok(())
        };
        let same = |a: &TDim, b: &TDim| -> TractResult<()> {
            ensure!(a == b, "{self:?}: {a} and {b} should be equal");
            Ok(())
        };
        match self {
            Fused::LayerNorm { .. } => {
                let last = out.len().saturating_sub(1);
                if out.len() != 2 {
                    three()?;
                }
                for (at, input) in inputs.iter().enumerate().skip(1) {
                    ensure!(input.rank() == 1, "{self:?} with {:?}", input);
                    same(&shape(at)[0], &out[last])?;
                }
            }
            Fused::Gelu { .. } | Fused::Function(_) => {}
            Fused::CumSum => ensure!(out.len() == 2, "{self:?} of {:?}", inputs[0]),
            Fused::Linear => {
                three()?;
                let weight = shape(1);
                ensure!(weight.len() == 2, "{self:?} with {:?}", inputs[1]);
                same(&weight[0], &out[2])?;
                out[2] = weight[1].clone();
                if inputs.len() == 3 {
                    ensure!(inputs[2].rank() == 1, "{self:?} with {:?}", inputs[2]);
                    same(&shape(2)[0], &out[2])?;
                }
            }
            Fused::Attention { heads, .. } => {
                three()?;
                let width = out[2].to_usize()?;
                ensure!(
                    *heads > 0 && width.is_multiple_of(*heads),
                    "{heads} heads in {width} columns"
                );
                for at in 1..3 {
                    ensure!(
                        shape(at) == out,
                        "{self:?} of {:?} and {:?}",
                        inputs[0],
                        inputs[at]
                    );
                }
            }
            Fused::Embedding => {
                let table = shape(1);
                ensure!(out.len() == 2 && table.len() == 2, "{self:?} of {inputs:?}");
                out.push(table[1].clone());
                if inputs.len() == 3 {
                    ensure!(inputs[2].rank() == 2, "{self:?} with {:?}", inputs[2]);
                    same(&shape(2)[1], &table[1])?;
                }
            }
            Fused::Scalar { .. } => {
                let weight = shape(1);
                ensure!(
                    out.len() == 2 && weight.len() == 1,
                    "{self:?} of {inputs:?}"
                );
                if inputs.len() == 3 {
                    ensure!(inputs[2].rank() == 1, "{self:?} with {:?}", inputs[2]);
                    same(&shape(2)[0], &weight[0])?;
                }
                out.push(weight[0].clone());
            }
            Fused::Pool { axis, .. } => {
                three()?;
                ensure!((1..3).contains(axis), "a pool over axis {axis}");
                out.remove(*axis);
            }
            Fused::Upsample { factor } => {
                three()?;
                out[2] = out[2].clone() * *factor;
            }
        }
        Ok(out)
    }

    fn compute(&self, inputs: &[TValue], out: &mut [f32]) -> TractResult<()> {
        let shape = inputs[0].shape();
        match self {
            Fused::LayerNorm { epsilon, centred } => {
                let (x, gamma, beta) = (
                    floats(&inputs[0])?,
                    floats(&inputs[1])?,
                    floats(&inputs[2])?,
                );
                let width = gamma.len().max(1);
                for (row, out) in x.chunks(width).zip(out.chunks_mut(width)) {
                    layer_norm(row, gamma, beta, f32::from_bits(*epsilon), *centred, out);
                }
            }
            Fused::Gelu { tanh } => {
                let x = floats(&inputs[0])?;
                let one = if *tanh { gelu_tanh } else { gelu };
                out.iter_mut().zip(x).for_each(|(o, &x)| *o = one(x));
            }
            Fused::Function(function) => {
                let x = floats(&inputs[0])?;
                for (o, &x) in out.iter_mut().zip(x) {
                    *o = apply(*function, f64::from(x)) as f32;
                }
            }
            Fused::Linear => {
                let (x, weight) = (floats(&inputs[0])?, floats(&inputs[1])?);
                let (depth, width) = (inputs[1].shape()[0].max(1), inputs[1].shape()[1].max(1));
                for (row, out) in x.chunks(depth).zip(out.chunks_mut(width)) {
                    if let Some(bias) = inputs.get(2) {
                        out.copy_from_slice(floats(bias)?);
                    }
                    for (x, weight) in row.iter().zip(weight.chunks(width)) {
                        out.iter_mut().zip(weight).for_each(|(o, w)| *o += x * w);
                    }
                }
            }
            Fused::Attention {
                heads,
                scale,
                rotary,
                real,
            } => {
                let real = real_positions(inputs.get(3).zip(*real), shape[1])?;
                let (mut q, mut k) = (floats(&inputs[0])?.to_vec(), floats(&inputs[1])?.to_vec());
                if let Some(base) = rotary {
                    rotate(&mut q, shape[2], *heads, f32::from_bits(*base));
                    rotate(&mut k, shape[2], *heads, f32::from_bits(*base));
                }
                let rows = [&q, &k, floats(&inputs[2])?];
                attention(rows, shape[2], *heads, f32::from_bits(*scale), &real, out);
            }
            Fused::Embedding => {
                let ids = inputs[0].cast_to::<i64>()?;
                let ids = ids.try_as_plain_ram()?.as_slice::<i64>()?;
                let (count, width) = (inputs[1].shape()[0], inputs[1].shape()[1].max(1));
                let table = floats(&inputs[1])?;
                for (t, (&id, out)) in ids.iter().zip(out.chunks_mut(width)).enumerate() {
                    let row = usize::try_from(id).ok().filter(|&i| i < count);
                    let id = row.with_context(|| {
                        format!("token {id}, at {t}, is beyond the {count} of the table")
                    })?;
                    out.copy_from_slice(&table[id * width..(id + 1) * width]);
                    if let Some(positions) = inputs.get(2) {
                        let row = floats(positions)?.chunks(width).nth(t);
                        let row = row.with_context(|| format!("no learned position {t}"))?;
                        out.iter_mut().zip(row).for_each(|(o, p)| *o += p);
                    }
                }
            }
            Fused::Pool { kind, axis, real } => {
                let x = floats(&inputs[0])?;
                let (rows, columns) = (shape[*axis], shape[3 - *axis]);
                let real = real_positions(inputs.get(1).zip(*real), rows)?;
                let at = |t: usize, c: usize| match axis {
                    1 => x[t * columns + c],
                    _ => x[c * rows + t],
                };
                let count = real.iter().filter(|&&r| r).count();
                ensure!(
                    count > 0 && (*kind != Pooling::First || real[0]),
                    "a pool over no positions"
                );
                for (c, out) in out.iter_mut().enumerate() {
                    let values = (0..rows).filter(|&t| real[t]).map(|t| at(t, c));
                    *out = match kind {
                        Pooling::Mean => values.sum::<f32>() / count as f32,
                        Pooling::Max => values.fold(f32::NEG_INFINITY, f32::max),
                        Pooling::First => at(0, c),
                    };
                }
            }
            Fused::Scalar { least, most } => {
                let (least, most) = (f32::from_bits(*least), f32::from_bits(*most));
                let (values, weight) = (floats(&inputs[0])?, floats(&inputs[1])?);
                for (value, out) in values.iter().zip(out.chunks_mut(weight.len().max(1))) {
                    if let Some(bias) = inputs.get(2) {
                        out.copy_from_slice(floats(bias)?);
                    }
                    let value = value.clamp(least, most);
                    out.iter_mut()
                        .zip(weight)
                        .for_each(|(o, w)| *o += value * w);
                }
            }
            Fused::CumSum => {
                let mut sum = 0.0;
                for (o, &x) in out.iter_mut().zip(floats(&inputs[0])?) {
                    sum += x;
                    *o = sum;
                }
            }
            Fused::Upsample { factor } => {
                let x = floats(&inputs[0])?;
                for (out, x) in out.chunks_mut((*factor).max(1)).zip(x) {
                    out.fill(*x);
                }
            }
        }
        Ok(())
    }
}

/// A fused node of an ONNX graph on its way into tract.
#[derive(Debug, Clone)]
struct Import(Fused);

impl Expansion for Import {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        // Shapes of all inputs, one behind the other; only then is the output's known.
        fn shapes<'r, 'p: 'r>(
            op: &'r Fused,
            s: &mut Solver<'r>,
            inputs: &'p [TensorProxy],
            output: &'p TensorProxy,
            known: Vec<TVec<TDim>>,
        ) -> InferenceResult {
            match inputs.get(known.len()) {
                Some(input) => s.given(&input.shape, move |s, shape| {
                    let mut known = known.clone();
                    known.push(shape);
                    shapes(op, s, inputs, output, known)
                }),
                None => {
                    let facts: Vec<TypedFact> = known.iter().map(f32::fact).collect();
                    let shape = op.output_shape(&facts.iter().collect::<Vec<_>>())?;
                    s.equals(&output.shape, shape)
                }
            }
        }
        shapes(&self.0, s, inputs, &outputs[0], vec![])
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.0.clone(), inputs)
    }
}

/// tract's ONNX operators, as ONNX defines them: tract 0.23.9 leaves alpha out of the negative
/// branch of Celu, and of Swish (opset 24) altogether.
pub fn onnx() -> Onnx {
    let mut onnx = tract_onnx::onnx();
    onnx.op_register.insert("Celu", |_, node| {
        let alpha = alpha(node)?;
        function(Activation::Elu {
            above: Real::ONE,
            below: real(alpha)?,
            rate: real(1.0 / alpha)?,
        })
    });
    onnx.op_register.insert("Swish", |_, node| {
        let rate = real(alpha(node)?)?;
        function(Activation::Swish { rate })
    });
    // Shapes stated for the unfused graph may name its symbols otherwise.
    onnx.with_ignore_value_info(true)
}

fn alpha(node: &NodeProto) -> TractResult<f32> {
    Ok(node.get_attr_opt::<f32>("alpha")?.unwrap_or(1.0))
}

fn real(x: f32) -> TractResult<Real> {
    Real::try_from(x).map_err(|e| format_err!("{e}"))
}

fn function(function: Activation) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    Ok((expand(Import(Fused::Function(function))), vec![]))
}

/// The same and the fused ones.
pub fn framework() -> Onnx {
    let mut onnx = onnx();
    for name in [
        "strandline.LayerNorm",
        "strandline.Gelu",
        "strandline.Function",
        "strandline.Linear",
        "strandline.Attention",
        "strandline.Embedding",
        "strandline.Pool",
        "strandline.Upsample",
        "strandline.CumSum",
        "strandline.Scalar",
    ] {
        onnx.op_register.insert(name, read);
    }
    onnx
}

fn read(
    _ctx: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let real = node.get_attr_opt::<i64>("real")?;
    let fused = match node.op_type.as_str() {
        "strandline.LayerNorm" => Fused::LayerNorm {
            epsilon: node.get_attr::<f32>("epsilon")?.to_bits(),
            centred: node.get_attr_opt::<i64>("centred")? != Some(0),
        },
        "strandline.Gelu" => Fused::Gelu {
            tanh: node.get_attr_opt::<&str>("approximate")? == Some("tanh"),
        },
        "strandline.Function" => {
            Fused::Function(serde_json::from_str(node.get_attr::<&str>("function")?)?)
        }
        "strandline.Linear" => Fused::Linear,
        "strandline.Attention" => Fused::Attention {
            heads: node.get_attr("heads")?,
            scale: node.get_attr::<f32>("scale")?.to_bits(),
            rotary: node.get_attr_opt::<f32>("rotary_base")?.map(f32::to_bits),
            real,
        },
        "strandline.Embedding" => Fused::Embedding,
        "strandline.Pool" => Fused::Pool {
            kind: match node.get_attr::<&str>("kind")? {
                "mean" => Pooling::Mean,
                "max" => Pooling::Max,
                "first" => Pooling::First,
                other => bail!("a pool of kind {other}"),
            },
            axis: node.get_attr("axis")?,
            real,
        },
        "strandline.CumSum" => Fused::CumSum,
        "strandline.Scalar" => Fused::Scalar {
            least: node.get_attr::<f32>("least")?.to_bits(),
            most: node.get_attr::<f32>("most")?.to_bits(),
        },
        "strandline.Upsample" => Fused::Upsample {
            factor: node.get_attr("factor")?,
        },
        other => bail!("operator {other}"),
    };
    Ok((expand(Import(fused)), vec![]))
}
