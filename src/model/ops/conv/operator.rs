//! A convolution as a graph sees it.

use super::code_rows::code_rows;
use super::float;
use super::int8::Int8;
use super::spec::{Added, ConvSpec};
use crate::kernels::Real;
use crate::kernels::{self, BASES, Rows, View, padded};
use crate::model::manifest::Precision;
use crate::model::ops::form::{Input, RowKind, Written};
use crate::model::ops::operator::{
    Attributes, Extent, Need, Operand, Operator, Run, bytes, check_size, floats, weight_type,
};
use crate::model::ops::scratch::{OneHotRows, Scratch, ScratchBytes};
use crate::model::ops::wanted::each_range;
use tract_core::internal::*;

/// Most weights, before they are padded.
const MOST_WEIGHTS: u64 = 1 << 31;

/// Farthest that a convolution over codes may reach.
const MOST_REACH: usize = 1 << 16;

impl Operator for ConvSpec {
    fn name(&self) -> &'static str {
        if self.codes {
            "strandline_codes_conv"
        } else if self.shape.width == 1 && self.step == 1 {
            "strandline_linear"
        } else if self.added != Added::None {
            "strandline_conv_add"
        } else {
            "strandline_conv"
        }
    }

    fn validate(&self, precision: Precision, halo: usize) -> Result<(), String> {
        let s = &self.shape;
        for (name, value) in [
            ("channels_in", s.channels_in),
            ("channels_out", s.channels_out),
            ("width", s.width),
            ("dilation", s.dilation),
            ("stride", s.stride),
            ("step", self.step),
        ] {
            check_size(name, value)?;
        }
        let weights = s.channels_in as u64 * s.channels_out as u64 * s.width as u64;
        if weights > MOST_WEIGHTS {
            return Err(format!("a convolution of {weights} weights"));
        }
        if s.before >= s.width || !s.channels_out.is_multiple_of(self.step) {
            return Err(format!("a convolution of {s:?} in steps of {}", self.step));
        }
        // Codes have no halo of their own: their rows are made for each run.
        let reach = s.reach().saturating_add(self.step);
        if self.codes && (reach > MOST_REACH || s.channels_in != BASES) {
            return Err(format!("a convolution over codes of {s:?}"));
        }
        if !self.codes && s.reach() > halo {
            return Err(format!("{s:?} reaches beyond a halo of {halo}"));
        }
        if precision == Precision::Int8 && !s.channels_in.is_multiple_of(4) {
            return Err(format!(
                "{} input channels: no multiple of 4",
                s.channels_in
            ));
        }
        if self.row_scales && (s.width, s.stride) != (1, 1) {
            return Err(format!("rows with scales of their own and {s:?}"));
        }
        if self.row_scales && self.codes {
            return Err("codes have no scales of their own".to_string());
        }
        if !self.activation.follows_convolution() {
            let activation = self.activation;
            return Err(format!("{activation:?} does not follow a convolution"));
        }
        Ok(())
    }

    fn tensors(&self, precision: Precision) -> Vec<Need> {
        let lanes = padded(self.shape.channels_out);
        let mut all = vec![
            Need::new("weight", weight_type(precision), self.shape.packed_len()),
            Need::floats("bias", lanes),
        ];
        if precision == Precision::Int8 {
            all.push(Need::floats("scale", lanes));
        }
        all
    }

    fn operands(&self, precision: Precision) -> Vec<Operand> {
        let kind = match precision {
            Precision::Int8 if self.row_scales => RowKind::Dynamic,
            Precision::Int8 => RowKind::Unsigned(Real::ONE),
            Precision::Fp16 | Precision::F32 => RowKind::Float,
        };
        let first = if self.codes {
            Operand::Codes
        } else {
            Operand::Rows(self.shape.channels_in, kind)
        };
        let added = self.added.kind();
        let added = added.map(|kind| Operand::Rows(self.channels(), kind));
        [first, Operand::Length].into_iter().chain(added).collect()
    }

    fn input(&self) -> Input {
        if self.codes {
            Input::Codes
        } else {
            Input::Rows
        }
    }

    fn written(&self) -> Written {
        self.output
    }

    fn channels(&self) -> usize {
        self.row_channels()
    }

    fn rate(&self) -> usize {
        self.rate
    }

    fn rows_ratio(&self) -> (usize, usize) {
        (self.step, self.shape.stride)
    }

    fn reach(&self) -> usize {
        if self.step == 1 && self.shape.stride == 1 {
            return self.shape.reach();
        }
        // A step writes several rows.
        let taps = (self.shape.width - 1).saturating_mul(self.shape.dilation);
        taps.saturating_add(self.step)
    }

    fn scratch(&self, attributes: &Attributes, tile: usize) -> ScratchBytes {
        if !self.codes {
            return ScratchBytes::default();
        }
        let rows = Rows {
            halo: self.shape.reach(),
            positions: tile,
        };
        let size = match attributes.precision {
            Precision::Int8 => size_of::<u8>(),
            Precision::Fp16 | Precision::F32 => size_of::<f32>(),
        };
        ScratchBytes {
            one_hot: rows.len(BASES) * size,
            ..ScratchBytes::default()
        }
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let Run {
            attributes,
            extent,
            inputs,
            output,
            scratch,
            wanted,
            spread,
            ..
        } = run;
        let Scratch {
            one_hot,
            step,
            kernels,
            ..
        } = scratch;
        let OneHotRows {
            integers,
            floats: values,
        } = one_hot;
        let integer = attributes.precision == Precision::Int8;
        let (first, reach) = (&inputs[0], self.shape.reach());
        let added = inputs.get(2);
        if integer {
            let input = if self.codes {
                let codes = &bytes(first)?[..extent.rows_in];
                code_rows(codes, reach, integers, kernels::one_hot)
            } else {
                self.rows(attributes, first, extent, bytes(first)?)?
            };
            let mut conv = Int8 {
                spec: self,
                attributes,
                added,
                output,
                step,
                kernels,
            };
            let count = extent.rows_out;
            return each_range(wanted, spread, count, self.step, |rows| {
                conv.run(rows, input)
            });
        }
        let input = if self.codes {
            let codes = &bytes(first)?[..extent.rows_in];
            code_rows(codes, reach, values, kernels::float::one_hot)
        } else {
            self.rows(attributes, first, extent, floats(first)?)?
        };
        float::run(self, attributes, added, output, (extent.rows_out, input))
    }
}

impl ConvSpec {
    /// Input rows with halo as a kernel reads them.
    fn rows<'a, T>(
        &self,
        attributes: &Attributes,
        value: &Tensor,
        extent: Extent,
        data: &'a [T],
    ) -> TractResult<View<'a, T>> {
        let channels = self.shape.channels_in;
        let pitch = if self.row_scales {
            RowKind::Dynamic.pitch(channels)
        } else {
            channels
        };
        let rows = attributes.rows_of(value, pitch, extent.rows_in)?;
        Ok(rows.view(data, pitch))
    }
}
