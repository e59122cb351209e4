//! Random convolutions.

use strandline::kernels::{ConvInt8, ConvShape, Isa, Output, Rows, padded};

/// A small generator, so that a failing case is named by one number.
pub struct Bytes(pub u64);

impl Bytes {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn float(&mut self, scale: f32) -> f32 {
        ((self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * scale
    }
}

/// An int8 convolution with all it needs.
pub struct Case {
    pub shape: ConvShape,
    pub rows: Rows,
    pub signed: bool,
    pub input: Vec<u8>,
    pub weights: Vec<i8>,
    pub scale: Vec<f32>,
    pub bias: Vec<f32>,
    pub residual: Vec<u8>,
}

impl Case {
    pub fn new(shape: ConvShape, positions: usize, signed: bool, seed: u64) -> Case {
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

    pub fn conv(&self, residual: bool) -> ConvInt8<'_> {
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

    /// All outputs, as bytes; see [`every_output`].
    pub fn outputs(&self, isa: Isa, residual: bool) -> Vec<u8> {
        let conv = self.conv(residual);
        every_output(self.shape, self.rows, |out| conv.run(isa, out))
    }
}

/// Unsigned, signed and float outputs with and without ReLU, one after the other as bytes. Halo rows must be left as they were.
pub fn every_output(shape: ConvShape, rows: Rows, mut run: impl FnMut(&mut Output)) -> Vec<u8> {
    let channels = shape.channels_out;
    let mut all = Vec::new();
    for signed in [false, true] {
        let mut out = vec![0xa5u8; rows.len(channels)];
        run(&mut if signed {
            Output::Signed(&mut out)
        } else {
            Output::Unsigned(&mut out)
        });
        let halo = rows.halo * channels;
        let (before, data) = out.split_at(halo);
        let (data, after) = data.split_at(rows.positions * channels);
        assert!(
            before.iter().chain(after).all(|&b| b == 0xa5),
            "halo written"
        );
        all.extend(data);
    }
    for relu in [false, true] {
        let mut out = vec![f32::NAN; rows.positions * channels];
        let target = &mut out[..];
        run(&mut Output::Float { out: target, relu });
        all.extend(out.iter().flat_map(|x| x.to_bits().to_le_bytes()));
    }
    all
}
