//! Whole blocks of channels, which have loops of their own, to the bit against channels alone.

use proptest::prelude::*;
use strandline::kernels::affine::{Affine, Sink, Source};
use strandline::kernels::{Activation, Isa, Real};

fn run(
    isa: Isa,
    (factor, term): (&[f32], &[f32]),
    activation: Activation,
    values: &[f32],
    signed: bool,
) -> Vec<u8> {
    let mut bytes = vec![0; values.len()];
    let affine = Affine {
        factor,
        term,
        activation,
        gain: 0.75,
        source: Source::Float(values),
    };
    let sink = if signed {
        Sink::Signed(&mut bytes)
    } else {
        Sink::Unsigned(&mut bytes)
    };
    affine.run(isa, sink);
    bytes
}

proptest! {
    #[test]
    fn whole_blocks_are_as_channels_alone(
        blocks in 1usize..4,
        values in prop::collection::vec(-300f32..300.0, 3 * 48),
        constants in prop::collection::vec(-2f32..2.0, 2 * 48),
        signed: bool,
    ) {
        let width = 16 * blocks;
        let values = &values[..values.len() / width * width];
        let (factor, term) = (&constants[..width], &constants[48..][..width]);
        let slope = Real::try_from(0.1).unwrap();
        let leaky = Activation::LeakyRelu { slope };
        for activation in [Activation::Identity, Activation::Relu, leaky, Activation::Gelu] {
            for isa in Isa::available() {
                let found = run(isa, (factor, term), activation, values, signed);
                for at in 0..width {
                    let own: Vec<f32> = values.iter().skip(at).step_by(width).copied().collect();
                    let one = (&factor[at..][..1], &term[at..][..1]);
                    let expected = run(Isa::SCALAR, one, activation, &own, signed);
                    let found: Vec<u8> = found.iter().skip(at).step_by(width).copied().collect();
                    prop_assert_eq!(found, expected, "{}, {:?}, {}", isa, activation, at);
                }
            }
        }
    }
}
