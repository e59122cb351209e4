//! Random convolutions, in buffers that end with the last value that may be touched.

use proptest::prelude::*;
use strandline::kernels::{
    Activation, ConvInt8, ConvShape, Isa, Output, PAIR_LIMIT, Real, Residual, Scratch, Target,
    View, padded,
};

/// A small generator, so that a failing case is named by one number.
pub struct Bytes(pub u64);

impl Bytes {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 20) as usize % end
    }

    pub fn float(&mut self, scale: f32) -> f32 {
        ((self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * scale
    }

    /// Extremes often: they are what could saturate.
    pub fn unsigned(&mut self) -> u8 {
        match self.below(4) {
            0 => 255,
            _ => self.below(256) as u8,
        }
    }

    pub fn signed(&mut self) -> i8 {
        match self.below(4) {
            0 => 127,
            1 => -127,
            _ => (self.below(255) as i16 - 127) as i8,
        }
    }
}

/// Where rows lie: row 0 at `first`, `pitch` apart, nothing behind the last.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub first: usize,
    pub pitch: usize,
    pub rows: usize,
    pub channels: usize,
}

impl Place {
    /// Rows as close as they may be, or with gaps between them and room before the first.
    pub fn new(rows: usize, channels: usize, gap: usize) -> Place {
        Place {
            first: 3 * gap,
            pitch: channels + gap,
            rows,
            channels,
        }
    }

    pub fn len(&self) -> usize {
        let last = |rows: usize| (rows - 1) * self.pitch + self.channels;
        self.first + if self.rows == 0 { 0 } else { last(self.rows) }
    }

    pub fn at(&self, row: usize, channel: usize) -> usize {
        self.first + row * self.pitch + channel
    }

    pub fn view<'a, T>(&self, data: &'a [T]) -> View<'a, T> {
        View {
            data,
            first: self.first,
            pitch: self.pitch,
        }
    }

    pub fn target<'a, T>(&self, data: &'a mut [T]) -> Target<'a, T> {
        Target {
            data,
            first: self.first,
            pitch: self.pitch,
        }
    }

    /// The values of the rows. Those between them must still be `untouched`.
    pub fn rows_of<T: Copy + PartialEq>(&self, data: &[T], untouched: T) -> Vec<T> {
        let mut values = Vec::with_capacity(self.rows * self.channels);
        for (i, &value) in data.iter().enumerate() {
            let inside = i >= self.first && (i - self.first) % self.pitch < self.channels;
            if inside {
                values.push(value);
            } else {
                assert!(value == untouched, "written between rows, at {i}");
            }
        }
        values
    }
}

/// What is added before the activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Addend {
    None,
    Unsigned,
    Signed,
    Float,
}

pub const ADDENDS: [Addend; 4] = [
    Addend::None,
    Addend::Unsigned,
    Addend::Signed,
    Addend::Float,
];

/// Every function that a convolution applies.
pub fn activations() -> [Activation; 5] {
    [
        Activation::Identity,
        Activation::Relu,
        Activation::ReluFirst,
        Activation::Gelu,
        leaky(),
    ]
}

/// A leaky ReLU whose slope no power of two makes exact.
pub fn leaky() -> Activation {
    Activation::LeakyRelu {
        slope: Real::try_from(0.3).unwrap(),
    }
}

/// What a GELU is multiplied by.
pub const GAIN: f32 = 1.7;

/// The scale of a residual in eight bits.
pub const ADDEND_SCALE: f32 = 0.37;

/// What a kernel reads: here, or between guard pages.
#[derive(Clone, Copy)]
pub struct Buffers<'a> {
    pub input: &'a [u8],
    pub weights: &'a [i8],
    pub scale: &'a [f32],
    pub bias: &'a [f32],
    pub bytes: &'a [u8],
    pub floats: &'a [f32],
}

/// Weights; paired where the input is unsigned.
pub fn weights(numbers: &mut Bytes, count: usize, signed: bool) -> Vec<i8> {
    let mut weights: Vec<i8> = (0..count).map(|_| numbers.signed()).collect();
    if !signed {
        // The inputs of a pair lie side by side.
        for pair in weights.chunks_exact_mut(2) {
            let (first, second) = (i32::from(pair[0]), i32::from(pair[1]));
            let (low, high) = (-PAIR_LIMIT - first.min(0), PAIR_LIMIT - first.max(0));
            pair[1] = second.clamp(low, high) as i8;
        }
    }
    weights
}

/// An int8 convolution with all it needs.
pub struct Case {
    pub shape: ConvShape,
    pub positions: usize,
    pub signed: bool,
    pub row_scales: bool,
    /// Row 0 of it is the first row that is read.
    pub place_in: Place,
    pub place_out: Place,
    pub input: Vec<u8>,
    pub weights: Vec<i8>,
    pub scale: Vec<f32>,
    pub bias: Vec<f32>,
    /// The residual in eight bits, at `place_out`; unsigned and signed.
    pub bytes: [Vec<u8>; 2],
    /// The residual in float, at `place_out`.
    pub floats: Vec<f32>,
}

impl Case {
    /// Seeds that are multiples of three have no gaps between rows; those of four have row scales,
    /// where the shape allows it.
    pub fn new(shape: ConvShape, positions: usize, signed: bool, seed: u64) -> Case {
        let mut numbers = Bytes(seed | 1);
        let gap = (seed % 3) as usize * 5;
        let row_scales = seed.is_multiple_of(4) && shape.width == 1 && shape.stride == 1;
        let tail = if row_scales { 4 } else { 0 };
        let rows = match positions {
            0 => 0,
            _ => (positions - 1) * shape.stride + (shape.width - 1) * shape.dilation + 1,
        };
        let mut place_in = Place::new(rows, shape.channels_in + tail, gap);
        if positions == 0 {
            // Rows before row 0 are asked for even then.
            place_in.first += shape.before * shape.dilation * place_in.pitch;
        }
        let place_out = Place::new(positions, shape.channels_out, gap);
        let mut input: Vec<u8> = (0..place_in.len())
            .map(|_| {
                if signed {
                    numbers.signed() as u8
                } else {
                    numbers.unsigned()
                }
            })
            .collect();
        if row_scales {
            for row in 0..rows {
                let at = place_in.at(row, shape.channels_in);
                let scale = numbers.float(0.5) + 0.3;
                input[at..at + 4].copy_from_slice(&scale.to_le_bytes());
            }
        }
        let lanes = padded(shape.channels_out);
        let mut floats = |count: usize, scale: f32| -> Vec<f32> {
            (0..count).map(|_| numbers.float(scale)).collect()
        };
        let (scale, bias) = (floats(lanes, 0.002), floats(lanes, 100.0));
        let floats = floats(place_out.len(), 100.0);
        Case {
            shape,
            positions,
            signed,
            row_scales,
            place_in,
            place_out,
            input,
            weights: weights(&mut numbers, shape.packed_len(), signed),
            scale,
            bias,
            bytes: [
                (0..place_out.len()).map(|_| numbers.unsigned()).collect(),
                (0..place_out.len())
                    .map(|_| numbers.signed() as u8)
                    .collect(),
            ],
            floats,
        }
    }

    pub fn buffers(&self, addend: Addend) -> Buffers<'_> {
        Buffers {
            input: &self.input,
            weights: &self.weights,
            scale: &self.scale,
            bias: &self.bias,
            bytes: &self.bytes[usize::from(addend == Addend::Signed)],
            floats: &self.floats,
        }
    }

    pub fn conv<'a>(
        &self,
        buffers: Buffers<'a>,
        addend: Addend,
        activation: Activation,
    ) -> ConvInt8<'a> {
        let back = match self.positions {
            0 => 0,
            _ => self.shape.before * self.shape.dilation * self.place_in.pitch,
        };
        let bytes = self.place_out.view(buffers.bytes);
        ConvInt8 {
            shape: self.shape,
            positions: self.positions,
            signed_input: self.signed,
            input: View {
                data: buffers.input,
                first: self.place_in.first + back,
                pitch: self.place_in.pitch,
            },
            row_scales: self.row_scales,
            weights: buffers.weights,
            scale: buffers.scale,
            bias: buffers.bias,
            residual: match addend {
                Addend::None => Residual::None,
                Addend::Unsigned => Residual::Unsigned(bytes, ADDEND_SCALE),
                Addend::Signed => Residual::Signed(bytes, ADDEND_SCALE),
                Addend::Float => Residual::Float(self.place_out.view(buffers.floats)),
            },
            activation,
            gain: GAIN,
        }
    }

    /// All outputs, as bytes; see [`every_output`].
    pub fn outputs(&self, isa: Isa, addend: Addend, activation: Activation) -> Vec<u8> {
        let conv = self.conv(self.buffers(addend), addend, activation);
        let scratch = &mut Scratch::default();
        every_output(self.place_out, |out| conv.run(isa, scratch, out))
    }

    pub fn floats_out(&self, isa: Isa, addend: Addend, activation: Activation) -> Vec<f32> {
        let mut out = vec![1e30; self.place_out.len()];
        let conv = self.conv(self.buffers(addend), addend, activation);
        let target = self.place_out.target(&mut out);
        conv.run(isa, &mut Scratch::default(), &mut Output::Float(target));
        self.place_out.rows_of(&out, 1e30)
    }
}

/// Unsigned, signed and float outputs, one after the other as bytes. What lies between rows must be
/// left as it was.
pub fn every_output(place: Place, mut run: impl FnMut(&mut Output)) -> Vec<u8> {
    let mut all = Vec::new();
    for signed in [false, true] {
        let mut out = vec![0xa5u8; place.len()];
        let target = place.target(&mut out);
        run(&mut if signed {
            Output::Signed(target)
        } else {
            Output::Unsigned(target)
        });
        all.extend(place.rows_of(&out, 0xa5));
    }
    let mut out = vec![1e30f32; place.len()];
    run(&mut Output::Float(place.target(&mut out)));
    let values = place.rows_of(&out, 1e30);
    all.extend(values.iter().flat_map(|x| x.to_bits().to_le_bytes()));
    all
}

/// Any shape; width 1 often, since linear layers are.
pub fn shapes() -> impl Strategy<Value = ConvShape> {
    let width = prop_oneof![Just(1usize), 1usize..=11];
    (1usize..=12, 1usize..=70, width, 1usize..=9, 1usize..=4).prop_flat_map(
        |(quads, channels_out, width, dilation, stride)| {
            (0..width).prop_map(move |before| ConvShape {
                channels_in: quads * 4,
                channels_out,
                width,
                dilation,
                before,
                stride,
            })
        },
    )
}
