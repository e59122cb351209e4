//! Dense layers on one vector.

use super::activation::Activation;
use super::float::Weights;
use super::{Isa, LANES, padded};

/// Outputs whose sums wait in registers together.
const TOGETHER: usize = 4 * LANES;

/// A dense layer on one vector, then `activation`: `bias[o] + Σ input[i] · weight[i][o]`, added in
/// order of `i` with fused multiply-adds, which makes it the same to the bit everywhere. Weights
/// are `[input][outputs rounded up to 16]`.
///
/// # Panics
/// Where a length does not fit.
#[allow(unsafe_code)]
pub fn dense(
    isa: Isa,
    input: &[f32],
    weights: Weights,
    bias: &[f32],
    activation: Activation,
    out: &mut [f32],
) {
    let lanes = padded(out.len());
    assert_eq!(bias.len(), lanes);
    assert_eq!(Some(weights.len()), input.len().checked_mul(lanes));
    let relu = matches!(activation, Activation::Relu | Activation::ReluFirst);
    for (part, out) in out.chunks_mut(TOGETHER).enumerate() {
        let first = part * TOGETHER;
        let count = TOGETHER.min(lanes - first);
        let mut sums = [[0f32; LANES]; TOGETHER / LANES];
        sums.as_flattened_mut()[..count].copy_from_slice(&bias[first..first + count]);
        let part = Columns {
            input,
            weights,
            first,
            lanes,
        };
        let sums = &mut sums[..count / LANES];
        // SAFETY: an Isa is one that this machine has; the lengths have been checked above.
        unsafe { (isa.kernels().dense)(&part, sums) };
        for (value, &y) in out.iter_mut().zip(sums.as_flattened()) {
            *value = if !relu || y > 0.0 { y } else { 0.0 };
        }
    }
    if !relu && activation != Activation::Identity {
        activation.apply(isa, out);
    }
}

/// Whole blocks of output columns of a dense layer, from column `first`; lengths have been checked.
pub(super) struct Columns<'a> {
    pub(super) input: &'a [f32],
    pub(super) weights: Weights<'a>,
    pub(super) first: usize,
    /// Padded outputs: from one input's weights to the next's.
    pub(super) lanes: usize,
}

/// The reference.
pub(super) fn scalar(part: &Columns, sums: &mut [[f32; LANES]]) {
    for (i, x) in part.input.iter().enumerate() {
        for (c, sum) in sums.as_flattened_mut().iter_mut().enumerate() {
            let at = i * part.lanes + part.first + c;
            let w = match part.weights {
                Weights::F16(w) => w[at].to_f32(),
                Weights::F32(w) => w[at],
            };
            *sum = x.mul_add(w, *sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn dense_adds_in_order() {
        let mut w = vec![0.0; 2 * 16];
        w[0] = 2.0;
        w[1] = -1.0;
        w[16] = 3.0;
        w[17] = -4.0;
        let mut bias = vec![0.0; 16];
        bias[0] = 1.0;
        let mut out = [0.0; 2];
        let isa = Isa::selected();
        dense(
            isa,
            &[1.0, 0.5],
            Weights::F32(&w),
            &bias,
            Activation::Relu,
            &mut out,
        );
        assert_eq!(out, [4.5, 0.0]);
        let halves: Vec<f16> = w.iter().map(|&x| f16::from_f32(x)).collect();
        dense(
            isa,
            &[1.0, 0.5],
            Weights::F16(&halves),
            &bias,
            Activation::Identity,
            &mut out,
        );
        assert_eq!(out, [4.5, -3.0]);
    }
}
