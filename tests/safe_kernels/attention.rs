//! Attention over any number of tokens, heads and channels. Whether a run is refused is compared
//! with the rules in 128 bits, where nothing wraps.

use crate::{ABSURD, returns, sizes, wrapped};
use proptest::prelude::*;
use strandline::kernels::attention::{
    Attention, MAX_TOKENS, MAX_WIDTH, Output, Projection, Rotary,
};
use strandline::kernels::norm::Int8Rows;
use strandline::kernels::{Isa, Scratch};

/// All sizes of a run, and the lengths of its buffers.
#[derive(Debug, Clone)]
struct Sizes {
    tokens: usize,
    heads: usize,
    width: usize,
    pitch: usize,
    offset: usize,
    rows_len: usize,
    mask_len: usize,
    rotary_len: usize,
    out_len: usize,
}

/// Three tokens, two heads of four channels: it fits.
fn fitting() -> Sizes {
    Sizes {
        tokens: 3,
        heads: 2,
        width: 4,
        pitch: 9,
        offset: 1,
        rows_len: 27,
        mask_len: 3,
        rotary_len: 6,
        out_len: 24,
    }
}

impl Sizes {
    /// Buffers as long as checks that wrap would want them.
    fn wrap(mut self) -> Sizes {
        self.rows_len = wrapped(&[self.tokens, self.pitch]);
        self.mask_len = wrapped(&[self.tokens]);
        self.rotary_len = wrapped(&[self.tokens, self.width]) / 2;
        self.out_len = wrapped(&[self.tokens, self.heads, self.width]);
        self
    }

    fn fits(&self) -> bool {
        let [tokens, heads, width] = [self.tokens, self.heads, self.width].map(|n| n as u128);
        let channels = heads * width;
        tokens <= MAX_TOKENS as u128
            && heads > 0
            && (1..=MAX_WIDTH as u128).contains(&width)
            && channels + self.offset as u128 <= self.pitch as u128
            && tokens * self.pitch as u128 <= self.rows_len as u128
            && self.mask_len == self.tokens
            && width.is_multiple_of(2)
            && tokens * width / 2 <= self.rotary_len as u128
            && tokens.saturating_mul(channels) == self.out_len as u128
    }

    fn run(&self) {
        let values = vec![1.0; self.rows_len];
        let mask = vec![1; self.mask_len];
        let angles = vec![0.5; self.rotary_len];
        let projection = Projection::Float {
            values: &values,
            pitch: self.pitch,
            offset: self.offset,
        };
        let attention = Attention {
            tokens: self.tokens,
            queries: self.tokens,
            heads: self.heads,
            width: self.width,
            q: projection,
            k: projection,
            v: projection,
            scale: 1.0,
            mask: Some(&mask),
            rotary: Some(Rotary {
                cos: &angles,
                sin: &angles,
            }),
        };
        for isa in Isa::available() {
            let scratch = &mut Scratch::default();
            let mut out = vec![0.0; self.out_len];
            let returned = returns(|| attention.run_float(isa, scratch, &mut out));
            assert_eq!(returned, self.fits(), "float on {isa}: {self:?}");
            let output = Output::Float(&mut out);
            let returned = returns(|| attention.run_int8(isa, scratch, output));
            assert_eq!(returned, self.fits(), "int8 on {isa}: {self:?}");
            let mut bytes = vec![0; self.out_len];
            let output = Output::Int8(Int8Rows::Static {
                bytes: &mut bytes,
                scale: 1.0,
            });
            let returned = returns(|| attention.run_int8(isa, scratch, output));
            assert_eq!(returned, self.fits(), "bytes on {isa}: {self:?}");
        }
        self.run_dynamic();
    }

    /// Rows of bytes that end in a scale: refused at least where the others are, but for the
    /// output, which is longer.
    fn run_dynamic(&self) {
        let bytes = vec![1; self.rows_len];
        let projection = Projection::Dynamic {
            bytes: &bytes,
            pitch: self.pitch,
            offset: self.offset,
        };
        let attention = Attention {
            tokens: self.tokens,
            queries: self.tokens,
            heads: self.heads,
            width: self.width,
            q: projection,
            k: projection,
            v: projection,
            scale: 1.0,
            mask: None,
            rotary: None,
        };
        let channels = self.heads.wrapping_mul(self.width).wrapping_add(4);
        for isa in Isa::available() {
            let mut bytes = vec![0; wrapped(&[self.tokens, channels])];
            let output = Output::Int8(Int8Rows::Dynamic { bytes: &mut bytes });
            let returned = returns(|| attention.run_int8(isa, &mut Scratch::default(), output));
            let channels = self.heads as u128 * self.width as u128;
            let room = channels + self.offset as u128 + 4 <= self.pitch as u128;
            assert!(room || !returned, "{isa}: {self:?}");
        }
    }
}

fn numbers(sizes: &mut Sizes) -> [&mut usize; 5] {
    [
        &mut sizes.tokens,
        &mut sizes.heads,
        &mut sizes.width,
        &mut sizes.pitch,
        &mut sizes.offset,
    ]
}

#[test]
fn what_fits_runs() {
    assert!(fitting().fits());
    fitting().run();
}

#[test]
fn one_or_two_absurd_numbers_are_refused() {
    let count = numbers(&mut fitting()).len();
    for (first, second) in (0..count).flat_map(|a| (0..=a).map(move |b| (a, b))) {
        for size in ABSURD.into_iter().chain([0, MAX_TOKENS + 1, MAX_WIDTH + 1]) {
            for other in [1 << 60, usize::MAX / 2, 1 << 62, 4] {
                let mut sizes = fitting();
                *numbers(&mut sizes)[second] = other;
                *numbers(&mut sizes)[first] = size;
                sizes.run();
                sizes.wrap().run();
            }
        }
    }
}

#[test]
fn room_for_more_than_the_most_is_refused() {
    for (tokens, width) in [(MAX_TOKENS + 1, 4), (4, MAX_WIDTH + 1), (1 << 60, 1 << 60)] {
        assert!(!returns(
            || Scratch::default().reserve_attention(tokens, width)
        ));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn attention_of_any_size(
        all in proptest::collection::vec(sizes(), 5),
        lens in proptest::collection::vec(0usize..200, 4), wrap: bool,
    ) {
        let mut sizes = fitting();
        for (number, size) in numbers(&mut sizes).into_iter().zip(all) {
            *number = size;
        }
        [sizes.rows_len, sizes.mask_len, sizes.rotary_len, sizes.out_len] =
            [lens[0], lens[1], lens[2], lens[3]];
        if wrap {
            sizes = sizes.wrap();
        }
        sizes.run();
    }
}
