//! Non-linearities on 16 lanes, the same on every instruction set to the bit.
//!
//! - `exp`, `sigmoid`: the sequences of [`math::exp`](super::math::exp) and
//!   [`math::sigmoid`](super::math::sigmoid), lane by lane.
//! - `tanh`: the rational approximation of XLA and Eigen, an odd polynomial of degree 13 over an
//!   even one of degree 6, within 4e-7 (absolute).
//! - GELU, x · Φ(x): with `u = x² · 2/5.25² - 1` for x clamped to [-5.25, 5.25], Φ(x) - 1/2 is x
//!   times a polynomial of degree 12 in `u`, fitted by least squares with weights iterated towards
//!   the least largest error (Lawson); that is clamped to [-1/2, 1/2], which makes GELU exactly 0
//!   or x beyond ±5.25. Within 2e-6 · max(1, |x|), without a division.
//! - GELU by tanh, x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))), as some networks are trained with;
//!   within 5e-7 · max(1, |x|).
//! - ln(1 + e^x) is max(x, 0) + ln(1 + t) with t = e^-|x|, and ln(1 + t) = 2 artanh(t / (2 + t)) by
//!   eight terms of its power series; within 3e-7 · max(1, |x|).
//! - Mish, x · tanh(ln(1 + e^x)), is x · n / (n + 2) with n = e^x · (e^x + 2), x in the exponent at
//!   most 20: beyond, the quotient is 1. Within 4e-7 · max(1, |x|).

use super::lanes::{Kernel, Lanes, dispatch};
use super::{Isa, LANES, Real};
use serde::{Deserialize, Serialize};
use std::f32::consts::LOG2_E;

/// A function of one value. A graph's text has its name in lower case, `gelu_tanh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x.
    Identity,
    /// max(x, 0).
    Relu,
    /// max(x, 0) before something is added to x, nothing after it. Where nothing is added, the same
    /// as [`Activation::Relu`].
    ReluFirst,
    /// x · Φ(x).
    Gelu,
    /// GELU by tanh.
    GeluTanh,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// x · σ(x · rate): SiLU and Swish.
    Swish {
        /// Multiplied to x before the logistic function.
        rate: Real,
    },
    /// ln(1 + e^x).
    Softplus,
    /// x · tanh(ln(1 + e^x)).
    Mish,
    /// x, and x · slope below 0.
    LeakyRelu {
        /// Multiplied to negative values.
        slope: Real,
    },
    /// x · above, and below · (e^(x · rate) - 1) below 0: ELU, SELU and CELU.
    Elu {
        /// Multiplied to values from 0 on.
        above: Real,
        /// Multiplied to e^(x · rate) - 1, for values below 0.
        below: Real,
        /// Multiplied to x in the exponent.
        rate: Real,
    },
    /// x, no less and no more than this.
    Clip {
        /// The least value.
        low: Real,
        /// The greatest value.
        high: Real,
    },
    /// x · factor + term, no less than 0 and no more than 1.
    HardSigmoid {
        /// Multiplied to x.
        factor: Real,
        /// Added.
        term: Real,
    },
    /// x · (x / 6 + 1/2), the bracket no less than 0 and no more than 1.
    HardSwish,
    /// e^x, for x clamped to [-87, 88]. No graph names it.
    #[serde(skip)]
    Exp,
}

impl Activation {
    /// Applies it to each of `values`, which must be finite, in place.
    pub fn apply(self, isa: Isa, values: &mut [f32]) {
        dispatch(
            isa,
            Apply {
                activation: self,
                values,
            },
        );
    }

    /// Of one value, finite.
    pub fn one(self, x: f32) -> f32 {
        self.lanes(super::lanes::ScalarLanes, [x; LANES])[0]
    }

    /// Of 16 lanes.
    #[inline(always)]
    pub(crate) fn lanes<S: Lanes>(self, s: S, x: S::F) -> S::F {
        match self {
            Activation::Identity => x,
            Activation::Relu | Activation::ReluFirst => s.max(x, s.splat(0.0)),
            Activation::Gelu => gelu(s, x),
            Activation::GeluTanh => gelu_tanh(s, x),
            Activation::Sigmoid => sigmoid(s, x),
            Activation::Tanh => tanh(s, x),
            Activation::Swish { rate } => s.mul(x, sigmoid(s, s.mul(x, s.splat(rate.get())))),
            Activation::Softplus => softplus(s, x),
            Activation::Mish => mish(s, x),
            Activation::LeakyRelu { slope } => leaky_relu(s, x, s.splat(slope.get())),
            Activation::Elu { above, below, rate } => {
                let e = exp(s, s.mul(s.min(x, s.splat(0.0)), s.splat(rate.get())));
                let low = s.mul(s.sub(e, s.splat(1.0)), s.splat(below.get()));
                let high = s.mul(x, s.splat(above.get()));
                s.select_less(x, s.splat(0.0), low, high)
            }
            Activation::Clip { low, high } => {
                s.min(s.max(x, s.splat(low.get())), s.splat(high.get()))
            }
            Activation::HardSigmoid { factor, term } => {
                unit(s, s.fma(x, s.splat(factor.get()), s.splat(term.get())))
            }
            Activation::HardSwish => s.mul(x, unit(s, s.fma(x, s.splat(1.0 / 6.0), s.splat(0.5)))),
            Activation::Exp => exp(s, x),
        }
    }

    /// True for those that convolutions apply.
    pub fn follows_convolution(self) -> bool {
        use Activation::{Gelu, Identity, LeakyRelu, Relu, ReluFirst};
        match self {
            // A slope above 1 would leave the bounds of what integers are made of.
            LeakyRelu { slope } => slope.get().abs() <= 1.0,
            _ => matches!(self, Identity | Relu | ReluFirst | Gelu),
        }
    }
}

/// x, and x · slope below 0.
#[inline(always)]
pub(super) fn leaky_relu<S: Lanes>(s: S, x: S::F, slope: S::F) -> S::F {
    s.fma(s.min(x, s.splat(0.0)), slope, s.max(x, s.splat(0.0)))
}

struct Apply<'a> {
    activation: Activation,
    values: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let (chunks, tail) = self.values.as_chunks_mut::<LANES>();
        for chunk in chunks {
            s.store(self.activation.lanes(s, s.load(chunk)), chunk);
        }
        if !tail.is_empty() {
            s.store_part(self.activation.lanes(s, s.load_part(tail)), tail);
        }
    }
}

/// Coefficients from the highest power down.
#[inline(always)]
fn polynomial<S: Lanes>(s: S, x: S::F, coefficients: &[f32]) -> S::F {
    let mut y = s.splat(coefficients[0]);
    for c in &coefficients[1..] {
        y = s.fma(y, x, s.splat(*c));
    }
    y
}

/// e^x; see [`math::exp`](super::math::exp).
#[inline(always)]
pub(crate) fn exp<S: Lanes>(s: S, x: S::F) -> S::F {
    let x = s.min(s.max(x, s.splat(-87.0)), s.splat(88.0));
    let n = s.round(s.mul(x, s.splat(LOG2_E)));
    let high = s.fma(n, s.splat(-super::math::LN2_HIGH), x);
    let r = s.fma(n, s.splat(-super::math::LN2_LOW), high);
    let p = polynomial(s, r, &super::math::EXP);
    let y = s.add(s.fma(s.mul(p, r), r, r), s.splat(1.0));
    let exponent = s.to_exponent(s.add_i(s.to_int(n), s.splat_i(127)));
    s.mul(y, s.float_of_bits(exponent))
}

/// 1 / (1 + e^-x); see [`math::sigmoid`](super::math::sigmoid).
#[inline(always)]
pub(crate) fn sigmoid<S: Lanes>(s: S, x: S::F) -> S::F {
    let e = exp(s, s.sub(s.splat(0.0), x));
    s.div(s.splat(1.0), s.add(s.splat(1.0), e))
}

/// From here on tanh is taken for ±1.
const TANH_END: f32 = 9.0;
const TANH_NUMERATOR: [f32; 7] = [
    -2.760_768_5e-16,
    2.000_188e-13,
    -8.604_672e-11,
    5.122_297_1e-8,
    1.485_722_4e-5,
    6.372_619_3e-4,
    4.893_524_6e-3,
];
const TANH_DENOMINATOR: [f32; 4] = [1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_6e-3, 4.893_525e-3];

/// tanh x, in [-1, 1].
#[inline(always)]
pub(crate) fn tanh<S: Lanes>(s: S, x: S::F) -> S::F {
    let inside = s.min(s.max(x, s.splat(-TANH_END)), s.splat(TANH_END));
    let square = s.mul(inside, inside);
    let numerator = s.mul(inside, polynomial(s, square, &TANH_NUMERATOR));
    let y = s.div(numerator, polynomial(s, square, &TANH_DENOMINATOR));
    let y = s.min(s.max(y, s.splat(-1.0)), s.splat(1.0));
    // The quotient stays a little short of 1, which would leave GELU a share of large values.
    let sign = s.and_i(s.bits(x), s.splat_i(i32::MIN));
    let end = s.float_of_bits(s.or_i(sign, s.bits(s.splat(1.0))));
    s.select_less(s.abs(x), s.splat(TANH_END), y, end)
}

const GELU_END: f32 = 5.25;
/// 2 / 5.25².
const GELU_SCALE: f32 = 0.072_562_36;
const GELU: [f32; 13] = [
    0.001_005_221_2,
    -0.002_854_709,
    0.003_049_071_2,
    -0.003_553_946_5,
    0.007_930_574,
    -0.013_703_234,
    0.018_825_201,
    -0.024_827_113,
    0.031_967_4,
    -0.039_783_966,
    0.049_650_602,
    -0.067_126_28,
    0.134_659_29,
];

/// x · Φ(x).
#[inline(always)]
pub(crate) fn gelu<S: Lanes>(s: S, x: S::F) -> S::F {
    let inside = s.min(s.max(x, s.splat(-GELU_END)), s.splat(GELU_END));
    let u = s.fma(s.mul(inside, inside), s.splat(GELU_SCALE), s.splat(-1.0));
    let e = s.mul(inside, polynomial(s, u, &GELU));
    let e = s.min(s.max(e, s.splat(-0.5)), s.splat(0.5));
    s.mul(x, s.add(e, s.splat(0.5)))
}

/// Clamped to [0, 1].
#[inline(always)]
fn unit<S: Lanes>(s: S, x: S::F) -> S::F {
    s.min(s.max(x, s.splat(0.0)), s.splat(1.0))
}

/// 2/15, 2/13 and so on to 2/1.
const ARTANH: [f32; 8] = [
    2.0 / 15.0,
    2.0 / 13.0,
    2.0 / 11.0,
    2.0 / 9.0,
    2.0 / 7.0,
    2.0 / 5.0,
    2.0 / 3.0,
    2.0,
];

/// ln(1 + e^x).
#[inline(always)]
fn softplus<S: Lanes>(s: S, x: S::F) -> S::F {
    let t = exp(s, s.sub(s.splat(0.0), s.abs(x)));
    let y = s.div(t, s.add(t, s.splat(2.0)));
    let log = s.mul(y, polynomial(s, s.mul(y, y), &ARTANH));
    s.add(s.max(x, s.splat(0.0)), log)
}

/// From here on Mish is x.
const MISH_END: f32 = 20.0;

/// x · tanh(ln(1 + e^x)).
#[inline(always)]
fn mish<S: Lanes>(s: S, x: S::F) -> S::F {
    let e = exp(s, s.min(x, s.splat(MISH_END)));
    let n = s.mul(e, s.add(e, s.splat(2.0)));
    s.mul(x, s.div(n, s.add(n, s.splat(2.0))))
}

/// √(2/π).
const ROOT_2_OVER_PI: f32 = 0.797_884_6;

/// x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))).
#[inline(always)]
pub(crate) fn gelu_tanh<S: Lanes>(s: S, x: S::F) -> S::F {
    let cubic = s.fma(s.mul(x, x), s.splat(0.044_715), s.splat(1.0));
    let t = tanh(s, s.mul(s.mul(x, s.splat(ROOT_2_OVER_PI)), cubic));
    s.mul(s.mul(x, s.splat(0.5)), s.add(t, s.splat(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::math;

    fn one(activation: Activation, x: f32) -> f32 {
        let mut x = [x];
        activation.apply(Isa::SCALAR, &mut x);
        x[0]
    }

    /// Φ by its power series, in f64: x · φ(x) · Σ x^2k / (1 · 3 · ... · (2k + 1)) + 1/2.
    fn normal(x: f64) -> f64 {
        let (mut term, mut sum, mut k) = (x, x, 1.0);
        while term.abs() > 1e-18 * sum.abs() {
            k += 2.0;
            term *= x * x / k;
            sum += term;
        }
        0.5 + sum * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
    }

    #[test]
    fn accuracy() {
        let mut worst = [0f64; 3];
        for i in -80_000..=80_000 {
            let x = i as f32 * 1.251e-4;
            let wide = f64::from(x);
            let bound = wide.abs().max(1.0);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044_715 * wide.powi(3));
            let expected = [
                wide.tanh(),
                wide * normal(wide),
                0.5 * wide * (1.0 + inner.tanh()),
            ];
            let found = [Activation::Tanh, Activation::Gelu, Activation::GeluTanh];
            for ((worst, found), expected) in worst.iter_mut().zip(found).zip(expected) {
                *worst = worst.max((f64::from(one(found, x)) - expected).abs() / bound);
            }
        }
        let [tanh, gelu, gelu_tanh] = worst;
        assert!(tanh < 4e-7, "{tanh:e}");
        assert!(gelu < 2e-6, "{gelu:e}");
        assert!(gelu_tanh < 5e-7, "{gelu_tanh:e}");
    }

    #[test]
    fn functions_with_an_exponential() {
        let real = |x: f32| Real::try_from(x).unwrap();
        let (above, below, rate) = (real(1.050_701), real(1.758_099_3), real(0.75));
        let elu = Activation::Elu { above, below, rate };
        let swish = Activation::Swish { rate: real(1.702) };
        let mut worst = [0f64; 4];
        for i in -80_000..=80_000 {
            let x = i as f32 * 1.251e-3;
            let wide = f64::from(x);
            let softplus = wide.max(0.0) + (-wide.abs()).exp().ln_1p();
            let expected = [
                softplus,
                wide * softplus.tanh(),
                if x < 0.0 {
                    f64::from(below.get()) * (wide * 0.75).exp_m1()
                } else {
                    wide * f64::from(above.get())
                },
                wide / (1.0 + (-wide * f64::from(1.702f32)).exp()),
            ];
            let found = [Activation::Softplus, Activation::Mish, elu, swish];
            for ((worst, found), expected) in worst.iter_mut().zip(found).zip(expected) {
                let error = (f64::from(one(found, x)) - expected).abs();
                *worst = worst.max(error / wide.abs().max(1.0));
            }
        }
        let [softplus, mish, elu, swish] = worst;
        assert!(softplus < 3e-7, "{softplus:e}");
        assert!(mish < 4e-7, "{mish:e}");
        assert!(elu < 4e-7, "{elu:e}");
        assert!(swish < 4e-7, "{swish:e}");
    }

    #[test]
    fn functions_of_straight_lines() {
        let real = |x: f32| Real::try_from(x).unwrap();
        let leaky = Activation::LeakyRelu { slope: real(0.25) };
        let (low, high) = (real(-1.0), real(6.0));
        let clip = Activation::Clip { low, high };
        let (factor, term) = (real(0.25), real(0.5));
        let hard = Activation::HardSigmoid { factor, term };
        for (x, expected) in [
            (-8.0, [-2.0, -1.0, 0.0, 0.0]),
            (-0.5, [-0.125, -0.5, 0.375, -0.5 * (-0.5 / 6.0 + 0.5)]),
            (0.0, [0.0, 0.0, 0.5, 0.0]),
            (1.5, [1.5, 1.5, 0.875, 1.5 * 0.75]),
            (9.0, [9.0, 6.0, 1.0, 9.0]),
        ] {
            for (function, y) in [leaky, clip, hard, Activation::HardSwish]
                .iter()
                .zip(expected)
            {
                assert!((one(*function, x) - y).abs() < 1e-7, "{function:?} of {x}");
            }
        }
    }

    #[test]
    fn far_ends_are_exact() {
        for x in [5.25f32, 5.3, 8.0, 40.0, 1e6] {
            assert_eq!(one(Activation::Gelu, x), x);
            assert_eq!(one(Activation::Gelu, -x), 0.0);
        }
        for x in [10.0f32, 1e6] {
            assert_eq!(one(Activation::GeluTanh, x), x);
            assert_eq!(one(Activation::GeluTanh, -x), 0.0);
        }
        assert_eq!(one(Activation::Gelu, 0.0), 0.0);
    }

    #[test]
    fn lanes_have_the_bits_of_the_scalar_functions() {
        let values: Vec<f32> = (-50_000..50_000).map(|i| i as f32 * 0.002_003).collect();
        for isa in Isa::available() {
            let (mut exps, mut sigmoids) = (values.clone(), values.clone());
            Activation::Exp.apply(isa, &mut exps);
            Activation::Sigmoid.apply(isa, &mut sigmoids);
            for ((x, e), y) in values.iter().zip(&exps).zip(&sigmoids) {
                assert_eq!(e.to_bits(), math::exp(*x).to_bits(), "{isa}: exp({x})");
                assert_eq!(
                    y.to_bits(),
                    math::sigmoid(*x).to_bits(),
                    "{isa}: sigmoid({x})"
                );
            }
        }
    }
}
