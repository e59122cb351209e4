//! Every buffer between pages that must not be touched, flush with the one after it or with the one
//! before it.
#![allow(unsafe_code)]

use crate::case::{ADDENDS, Addend, Buffers, Case, Place, leaky};
use crate::float::Floats;
use std::ops::{Deref, DerefMut};
use std::ptr;
use strandline::kernels::dense::dense;
use strandline::kernels::float::{ConvFloat, Weights};
use strandline::kernels::{Activation, ConvInt8, ConvShape, Isa, Output, Scratch, View};

/// Where a buffer lies between its guard pages.
#[derive(Clone, Copy, Debug)]
pub enum Flush {
    Start,
    End,
}

/// A copy of a slice, a fault on either side.
pub struct Guarded<T: Copy> {
    map: *mut u8,
    map_len: usize,
    data: *mut T,
    len: usize,
}

impl<T: Copy> Guarded<T> {
    pub fn new(values: &[T], flush: Flush) -> Guarded<T> {
        let bytes = size_of_val(values);
        // SAFETY: a query without pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).unwrap();
        let inner = bytes.next_multiple_of(page);
        let map_len = inner + 2 * page;
        // SAFETY: a fresh anonymous mapping; protecting its first and last page leaves `inner`
        // bytes between them, which hold the values at an address aligned for T, since a page and
        // size_of::<T>() are multiples of T's alignment.
        unsafe {
            let map = libc::mmap(
                ptr::null_mut(),
                map_len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(map, libc::MAP_FAILED);
            let map = map.cast::<u8>();
            for guard in [map, map.add(page + inner)] {
                assert_eq!(libc::mprotect(guard.cast(), page, libc::PROT_NONE), 0);
            }
            let offset = match flush {
                Flush::Start => page,
                Flush::End => page + inner - bytes,
            };
            let data = map.add(offset).cast::<T>();
            ptr::copy_nonoverlapping(values.as_ptr(), data, values.len());
            Guarded {
                map,
                map_len,
                data,
                len: values.len(),
            }
        }
    }
}

impl<T: Copy> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, unmapped once.
        unsafe { libc::munmap(self.map.cast(), self.map_len) };
    }
}

impl<T: Copy> Deref for Guarded<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `new` wrote len values at data.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl<T: Copy> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and self is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.len) }
    }
}

/// Shapes at, below and above every tile and block size, with buffers as small as they may be.
fn shapes() -> impl Iterator<Item = (ConvShape, usize)> {
    let shapes = [
        (4, 1, 1, 1, 0, 1),
        (4, 16, 1, 1, 0, 1),
        (4, 16, 7, 1, 3, 1),
        (8, 17, 3, 2, 1, 1),
        (12, 15, 2, 1, 0, 2),
        (16, 32, 5, 1, 4, 1),
        (16, 16, 24, 1, 8, 8),
        (20, 33, 3, 4, 2, 1),
        (36, 48, 7, 1, 3, 3),
        (32, 3, 11, 2, 5, 1),
        (64, 80, 1, 1, 0, 1),
    ];
    let positions = [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 16, 17, 29];
    shapes.into_iter().flat_map(
        move |(channels_in, channels_out, width, dilation, before, stride)| {
            let shape = ConvShape {
                channels_in,
                channels_out,
                width,
                dilation,
                before,
                stride,
            };
            positions.into_iter().map(move |p| (shape, p))
        },
    )
}

/// Runs with every kind of output, each guarded.
fn run_guarded(conv: &ConvInt8, isa: Isa, place: Place, flush: Flush) {
    let mut bytes = Guarded::new(&vec![0u8; place.len()], flush);
    let scratch = &mut Scratch::default();
    conv.run(
        isa,
        scratch,
        &mut Output::Unsigned(place.target(&mut bytes)),
    );
    conv.run(isa, scratch, &mut Output::Signed(place.target(&mut bytes)));
    let mut floats = Guarded::new(&vec![0f32; place.len()], flush);
    conv.run(isa, scratch, &mut Output::Float(place.target(&mut floats)));
}

#[test]
fn int8_convolutions_stay_inside() {
    for (shape, positions) in shapes() {
        for flush in [Flush::Start, Flush::End] {
            // 3 and 12 leave no gaps between rows, 4 and 12 ask for row scales.
            for (seed, signed) in [(3, false), (4, false), (7, true), (12, true)] {
                let case = Case::new(shape, positions, signed, seed);
                let input = Guarded::new(&case.input, flush);
                let weights = Guarded::new(&case.weights, flush);
                let scale = Guarded::new(&case.scale, flush);
                let bias = Guarded::new(&case.bias, flush);
                let bytes = Guarded::new(&case.bytes[0], flush);
                let floats = Guarded::new(&case.floats, flush);
                let buffers = Buffers {
                    input: &input,
                    weights: &weights,
                    scale: &scale,
                    bias: &bias,
                    bytes: &bytes,
                    floats: &floats,
                };
                for isa in Isa::available() {
                    for addend in ADDENDS {
                        for activation in [Activation::Identity, Activation::Gelu, leaky()] {
                            // Epilogues of their own: a GELU, and a leaky ReLU of nothing added.
                            let own = match activation {
                                Activation::Identity => true,
                                Activation::Gelu => addend == Addend::Float,
                                _ => addend == Addend::None,
                            };
                            if !own {
                                continue;
                            }
                            let conv = case.conv(buffers, addend, activation);
                            run_guarded(&conv, isa, case.place_out, flush);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn float_convolutions_stay_inside() {
    for (shape, positions) in shapes() {
        // Float rows need no multiple of four.
        for channels_in in [shape.channels_in, shape.channels_in - 1] {
            let shape = ConvShape {
                channels_in,
                ..shape
            };
            for (flush, seed) in [(Flush::Start, 3), (Flush::End, 3), (Flush::End, 4)] {
                let case = Floats::new(shape, positions, seed);
                let singles = Guarded::new(&case.weights, flush);
                let halves = Guarded::new(&case.halves, flush);
                let input = Guarded::new(&case.input, flush);
                let bias = Guarded::new(&case.bias, flush);
                let residual = Guarded::new(&case.residual, flush);
                let mut out = Guarded::new(&case.residual, flush);
                for isa in Isa::available() {
                    for weights in [Weights::F32(&singles), Weights::F16(&halves)] {
                        for residual in [None, Some(case.place_out.view(&residual[..]))] {
                            let own = case.conv(false, false, Activation::Relu);
                            let conv = ConvFloat {
                                input: View {
                                    data: &input,
                                    ..own.input
                                },
                                weights,
                                bias: &bias,
                                residual,
                                ..own
                            };
                            conv.run(isa, &mut case.place_out.target(&mut out));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn dense_layers_stay_inside() {
    for (inputs, outputs) in [
        (0, 1),
        (1, 16),
        (3, 33),
        (5, 64),
        (2, 65),
        (4, 113),
        (7, 128),
    ] {
        for flush in [Flush::Start, Flush::End] {
            let case = Floats::new(ConvShape::linear(inputs.max(1), outputs), 1, 3);
            let count = inputs * case.bias.len();
            let singles = Guarded::new(&case.weights[..count], flush);
            let halves = Guarded::new(&case.halves[..count], flush);
            let input = Guarded::new(&case.input[..inputs], flush);
            let bias = Guarded::new(&case.bias, flush);
            let mut out = Guarded::new(&vec![0f32; outputs], flush);
            for isa in Isa::available() {
                for weights in [Weights::F32(&singles), Weights::F16(&halves)] {
                    dense(isa, &input, weights, &bias, Activation::Relu, &mut out);
                }
            }
        }
    }
}
