//! What a file must hold for a layer, and whether the layer can be run.

use super::spec::*;
use crate::kernels::{attention, padded};
use crate::model::manifest::Precision;
use safetensors::tensor::Dtype;

/// Largest number of channels, taps or rows that a graph may ask for; keeps products far from
/// overflow.
const MOST: usize = 1 << 16;

/// A tensor that a layer needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Its name behind the layer's label and a dot.
    pub name: &'static str,
    /// Its type.
    pub dtype: Dtype,
    /// How many values.
    pub len: usize,
}

impl Spec {
    /// The tensors it needs, in order.
    pub fn tensors(&self, precision: Precision) -> Vec<Need> {
        let need = |name, dtype, len| Need { name, dtype, len };
        match self {
            Spec::Conv(c) => {
                let lanes = padded(c.shape.channels_out);
                let dtype = match precision {
                    Precision::Int8 => Dtype::I8,
                    Precision::Fp16 => Dtype::F16,
                    Precision::F32 => Dtype::F32,
                };
                let mut all = vec![
                    need("weight", dtype, c.shape.packed_len()),
                    need("bias", Dtype::F32, lanes),
                ];
                if precision == Precision::Int8 {
                    all.push(need("scale", Dtype::F32, lanes));
                }
                all
            }
            Spec::Dense(d) => {
                let dtype = match precision {
                    Precision::F32 => Dtype::F32,
                    _ => Dtype::F16,
                };
                let lanes = padded(d.outputs);
                vec![
                    need("weight", dtype, d.inputs * lanes),
                    need("bias", Dtype::F32, lanes),
                ]
            }
            Spec::Affine { channels, .. } => vec![
                need("factor", Dtype::F32, *channels),
                need("term", Dtype::F32, *channels),
            ],
            Spec::Norm { channels, .. } => vec![
                need("gamma", Dtype::F32, *channels),
                need("beta", Dtype::F32, *channels),
            ],
            Spec::Attention { width, rotary, .. } if *rotary > 0 => vec![
                need("cos", Dtype::F32, rotary * width / 2),
                need("sin", Dtype::F32, rotary * width / 2),
            ],
            Spec::Embed {
                channels,
                vocabulary,
                positions,
            } => {
                let dtype = match precision {
                    Precision::Int8 => Dtype::I8,
                    Precision::Fp16 => Dtype::F16,
                    Precision::F32 => Dtype::F32,
                };
                let tables = [
                    ("tokens", "token_scales", *vocabulary),
                    ("positions", "position_scales", *positions),
                ];
                let mut all = vec![];
                for (name, scales, rows) in tables.into_iter().filter(|(_, _, rows)| *rows > 0) {
                    all.push(need(name, dtype, rows * channels));
                    if precision == Precision::Int8 {
                        all.push(need(scales, Dtype::F32, rows));
                    }
                }
                all
            }
            _ => vec![],
        }
    }

    /// The reason why this cannot be run, if there is one; `halo` rows are there at each end.
    pub fn validate(&self, precision: Precision, halo: usize) -> Result<(), String> {
        let size = |name: &str, value: usize| match value {
            0 => Err(format!("{name} is 0")),
            _ if value > MOST => Err(format!("{name} {value} is above {MOST}")),
            _ => Ok(()),
        };
        size("rate", self.rate())?;
        size("channels", self.channels_out())?;
        match self {
            Spec::Conv(c) => {
                let s = &c.shape;
                for (name, value) in [
                    ("channels_in", s.channels_in),
                    ("channels_out", s.channels_out),
                    ("width", s.width),
                    ("dilation", s.dilation),
                    ("stride", s.stride),
                    ("step", c.step),
                ] {
                    size(name, value)?;
                }
                let weights = s.channels_in as u64 * s.channels_out as u64 * s.width as u64;
                if weights > 1 << 31 {
                    return Err(format!("a convolution of {weights} weights"));
                }
                if s.before >= s.width || !s.channels_out.is_multiple_of(c.step) {
                    return Err(format!("a convolution of {s:?} in steps of {}", c.step));
                }
                // Codes have no halo of their own: their rows are made for each run.
                let reach = s.reach() + c.step;
                if c.codes && (reach > MOST || s.channels_in != 4) {
                    return Err(format!("a convolution over base codes of {s:?}"));
                }
                if !c.codes && s.reach() > halo {
                    return Err(format!("{s:?} reaches beyond a halo of {halo}"));
                }
                if precision == Precision::Int8 && !s.channels_in.is_multiple_of(4) {
                    return Err(format!(
                        "{} input channels: no multiple of 4",
                        s.channels_in
                    ));
                }
            }
            Spec::Dense(d) => size("inputs", d.inputs)?,
            Spec::Embed {
                vocabulary,
                positions,
                ..
            } if *vocabulary == 0 || *vocabulary > 1 << 24 || *positions > 1 << 24 => {
                return Err(format!(
                    "a vocabulary of {vocabulary}, {positions} positions"
                ));
            }
            Spec::Norm { epsilon, scale, .. } if epsilon.get() <= 0.0 || scale.get() <= 0.0 => {
                return Err("epsilon and scale are positive".to_string());
            }
            Spec::Quantise { scale, .. } if scale.get() <= 0.0 => {
                return Err("the scale is positive".to_string());
            }
            Spec::Attention {
                heads,
                width,
                scale,
                output_scale,
                rotary,
                ..
            } => {
                size("heads", *heads)?;
                if *width == 0 || *width > attention::MAX_WIDTH {
                    return Err(format!("heads of {width}"));
                }
                if scale.get() <= 0.0 || output_scale.get() <= 0.0 {
                    return Err("scales are positive".to_string());
                }
                if *rotary > attention::MAX_TOKENS || (*rotary > 0 && width % 2 != 0) {
                    return Err(format!("{rotary} rotations of heads of {width}"));
                }
            }
            Spec::Repeat { factor, .. } => size("factor", *factor)?,
            Spec::Widen { channels, to, .. } => {
                size("channels", *channels)?;
                if channels > to {
                    return Err(format!("{channels} channels widened to {to}"));
                }
            }
            Spec::Window {
                width,
                stride,
                before,
                ..
            } => {
                size("width", *width)?;
                size("stride", *stride)?;
                if before >= width {
                    return Err(format!("a window of {width} with {before} before it"));
                }
            }
            Spec::Join { channels, rows, .. } => {
                if channels.len() != rows.len() || channels.is_empty() {
                    return Err(format!("{} kinds of rows for {channels:?}", rows.len()));
                }
                for channels in channels {
                    size("channels", *channels)?;
                }
            }
            _ => (),
        }
        Ok(())
    }
}
