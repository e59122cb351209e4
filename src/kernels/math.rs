//! Exponential and logistic functions by our own polynomials, the same on every platform to the
//! bit: only multiplications, fused multiply-adds, one division and integer operations, each
//! correctly rounded.

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts: the first has few enough bits that `n · LN2_HIGH` is exact for |n| < 2^9.
pub(super) const LN2_HIGH: f32 = 0.693_359_4;
pub(super) const LN2_LOW: f32 = -2.121_944_4e-4;

/// Coefficients of Cephes expf (Moshier), for e^r on [-ln 2 / 2, ln 2 / 2], from the highest power
/// down.
pub(super) const EXP: [f32; 6] = [
    1.987_569_1e-4,
    1.398_199_9e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_5e-1,
    0.5,
];

/// e^x. Relative error below 2e-7 for x in [-87, 88]; outside, the value at the nearer end.
#[inline]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let n = (x * LOG2_E).round_ties_even();
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = EXP[0];
    for c in &EXP[1..] {
        p = p.mul_add(r, *c);
    }
    let y = (p * r).mul_add(r, r) + 1.0;
    // n is within [-126, 127], so the exponent stays normal.
    y * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

/// 1 / (1 + e^-x), in [0, 1].
#[inline]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere() {
        let mut x = -87.0f32;
        while x < 88.0 {
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2e-7, "exp({x}) is off by {error:e}");
            x += 0.013_7;
        }
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn sigmoid_is_symmetric_monotone_and_bounded() {
        let mut last = 0.0;
        for i in -20_000..=20_000 {
            let x = i as f32 * 0.005;
            let y = sigmoid(x);
            assert!((0.0..=1.0).contains(&y) && y >= last);
            assert!((y + sigmoid(-x) - 1.0).abs() < 2e-7);
            last = y;
        }
        assert_eq!(sigmoid(0.0), 0.5);
    }
}
