//! Dense layers: the same bits everywhere, near the sum in f64.

use crate::case::Bytes;
use half::f16;
use proptest::prelude::*;
use strandline::kernels::dense::dense;
use strandline::kernels::float::Weights;
use strandline::kernels::{Activation, Isa, padded};

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn dense_layers_agree(inputs in 0usize..70, outputs in 1usize..150, relu: bool, seed: u64) {
        let mut numbers = Bytes(seed | 1);
        let lanes = padded(outputs);
        let mut floats = |count: usize| -> Vec<f32> { (0..count).map(|_| numbers.float(2.0)).collect() };
        let (input, bias, singles) = (floats(inputs), floats(lanes), floats(inputs * lanes));
        let halves: Vec<f16> = singles.iter().map(|&w| f16::from_f32(w)).collect();
        for half in [false, true] {
            let weights = if half {
                Weights::F16(&halves)
            } else {
                Weights::F32(&singles)
            };
            let activation = if relu { Activation::Relu } else { Activation::Identity };
            let mut expected = vec![f32::NAN; outputs];
            dense(Isa::SCALAR, &input, weights, &bias, activation, &mut expected);
            for (o, &found) in expected.iter().enumerate() {
                let terms = input.iter().enumerate().map(|(i, &x)| {
                    let at = i * lanes + o;
                    let w = if half { halves[at].to_f64() } else { f64::from(singles[at]) };
                    f64::from(x) * w
                });
                let y = f64::from(bias[o]) + terms.sum::<f64>();
                let y = if relu { y.max(0.0) } else { y };
                prop_assert!((f64::from(found) - y).abs() < 1e-5, "{} for {}", found, y);
            }
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; outputs];
                dense(isa, &input, weights, &bias, activation, &mut out);
                prop_assert_eq!(&out, &expected, "{}", isa);
            }
        }
    }
}
