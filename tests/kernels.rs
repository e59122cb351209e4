//! Every instruction set of this machine against the scalar reference, to the bit, over random shapes.

use proptest::prelude::*;
use strandline::kernels::{ConvInt8, ConvShape, Isa, Output, Rows, padded};

/// A small generator, so that a failing case is named by one number.
struct Bytes(u64);

impl Bytes {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn float(&mut self, scale: f32) -> f32 {
        ((self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * scale
    }
}

struct Case {
    shape: ConvShape,
    rows: Rows,
    signed: bool,
    input: Vec<u8>,
    weights: Vec<i8>,
    scale: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<u8>,
}

impl Case {
    fn new(shape: ConvShape, positions: usize, signed: bool, seed: u64) -> Case {
        let mut bytes = Bytes(seed | 1);
        let rows = Rows {
            halo: shape.reach() + (seed % 3) as usize,
            positions,
        };
        let mut input = vec![0u8; rows.len(shape.channels_in)];
        let data = rows.halo * shape.channels_in..(rows.halo + positions) * shape.channels_in;
        for x in &mut input[data] {
            // Extremes often: they are what could saturate.
            *x = match bytes.next() % 4 {
                0 => 127,
                1 if signed => (-127i8) as u8,
                _ if signed => ((bytes.next() % 255) as i16 - 127) as i8 as u8,
                _ => (bytes.next() % 128) as u8,
            };
        }
        let lanes = padded(shape.channels_out);
        let weights = (0..shape.packed_len())
            .map(|_| match bytes.next() % 4 {
                0 => 127,
                1 => -127,
                _ => ((bytes.next() % 255) as i16 - 127) as i8,
            })
            .collect();
        let scale = (0..lanes).map(|_| bytes.float(0.002)).collect();
        let bias = (0..lanes).map(|_| bytes.float(100.0)).collect();
        let residual = (0..rows.len(shape.channels_out))
            .map(|_| (bytes.next() % 128) as u8)
            .collect();
        Case {
            shape,
            rows,
            signed,
            input,
            weights,
            scale,
            bias,
            residual,
        }
    }

    fn conv(&self, residual: bool) -> ConvInt8<'_> {
        ConvInt8 {
            shape: self.shape,
            rows: self.rows,
            signed_input: self.signed,
            input: &self.input,
            weights: &self.weights,
            scale: &self.scale,
            bias: &self.bias,
            residual: residual.then_some((&self.residual[..], 0.37)),
        }
    }

    /// Unsigned, signed and float outputs with and without ReLU, as bytes.
    fn outputs(&self, isa: Isa, residual: bool) -> Vec<u8> {
        let conv = self.conv(residual);
        let len = self.rows.len(self.shape.channels_out);
        let mut unsigned = vec![0u8; len];
        conv.run(isa, &mut Output::Unsigned(&mut unsigned));
        let mut signed = vec![0u8; len];
        conv.run(isa, &mut Output::Signed(&mut signed));
        let mut all = unsigned;
        all.extend(signed);
        for relu in [false, true] {
            let mut out = vec![0f32; self.rows.positions * self.shape.channels_out];
            let mut target = Output::Float {
                out: &mut out,
                relu,
            };
            conv.run(isa, &mut target);
            all.extend(out.iter().flat_map(|x| x.to_bits().to_le_bytes()));
        }
        all
    }
}

fn shapes() -> impl Strategy<Value = ConvShape> {
    (1usize..=12, 1usize..=70, 1usize..=11, 1usize..=9).prop_flat_map(
        |(quads, channels_out, width, dilation)| {
            (0..width).prop_map(move |before| ConvShape {
                channels_in: quads * 4,
                channels_out,
                width,
                dilation,
                before,
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn every_instruction_set_gives_the_bits_of_the_reference(
        shape in shapes(), positions in 0usize..45, signed: bool, residual: bool, seed: u64,
    ) {
        let case = Case::new(shape, positions, signed, seed);
        let expected = case.outputs(Isa::Scalar, residual);
        for isa in Isa::available() {
            prop_assert_eq!(&case.outputs(isa, residual), &expected, "{}", isa);
        }
    }
}
