//! Every buffer between pages that must not be touched, flush with the one after it or with the one before it.
#![allow(unsafe_code)]

use crate::case::{Bytes, Case};
use half::f16;
use std::ops::{Deref, DerefMut};
use std::ptr;
use strandline::kernels::float::{ConvFloat, Weights};
use strandline::kernels::table::ConvCodes;
use strandline::kernels::{ConvInt8, ConvShape, Isa, Output, Rows, padded};

/// Where a buffer lies between its guard pages.
#[derive(Clone, Copy, Debug)]
enum Flush {
    Start,
    End,
}

/// A copy of a slice, a fault on either side.
struct Guarded<T: Copy> {
    map: *mut u8,
    map_len: usize,
    data: *mut T,
    len: usize,
}

impl<T: Copy> Guarded<T> {
    fn new(values: &[T], flush: Flush) -> Guarded<T> {
        let bytes = size_of_val(values);
        // SAFETY: a query without pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).unwrap();
        let inner = bytes.next_multiple_of(page);
        let map_len = inner + 2 * page;
        // SAFETY: a fresh anonymous mapping; protecting its first and last page leaves `inner` bytes between them, which hold
        // the values at an address aligned for T, since a page and size_of::<T>() are multiples of T's alignment.
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

/// Shapes at, below and above every tile and block size, with halos as small as they may be.
fn shapes() -> impl Iterator<Item = (ConvShape, usize)> {
    let shapes = [
        (4, 1, 1, 1, 0),
        (4, 16, 1, 1, 0),
        (8, 17, 3, 2, 1),
        (12, 15, 2, 1, 0),
        (16, 32, 5, 1, 4),
        (20, 33, 3, 4, 2),
        (36, 48, 7, 1, 3),
        (32, 3, 11, 2, 5),
    ];
    let positions = [0, 1, 2, 3, 4, 5, 6, 9, 11, 12, 13, 14, 15, 29];
    shapes.into_iter().flat_map(
        move |(channels_in, channels_out, width, dilation, before)| {
            let shape = ConvShape {
                channels_in,
                channels_out,
                width,
                dilation,
                before,
            };
            positions.into_iter().map(move |p| (shape, p))
        },
    )
}

/// Runs with every kind of output, each guarded.
fn run_guarded(shape: ConvShape, rows: Rows, flush: Flush, mut run: impl FnMut(&mut Output)) {
    let mut bytes = Guarded::new(&vec![0u8; rows.len(shape.channels_out)], flush);
    run(&mut Output::Unsigned(&mut bytes));
    run(&mut Output::Signed(&mut bytes));
    let mut floats = Guarded::new(&vec![0f32; rows.positions * shape.channels_out], flush);
    let out = &mut floats[..];
    run(&mut Output::Float { out, relu: true });
}

#[test]
fn int8_convolutions_stay_inside() {
    for (shape, positions) in shapes() {
        for flush in [Flush::Start, Flush::End] {
            // Multiples of three leave the halo at the reach.
            for (seed, signed) in [(3, false), (6, true)] {
                let case = Case::new(shape, positions, signed, seed);
                let input = Guarded::new(&case.input, flush);
                let weights = Guarded::new(&case.weights, flush);
                let scale = Guarded::new(&case.scale, flush);
                let bias = Guarded::new(&case.bias, flush);
                let residual = Guarded::new(&case.residual, flush);
                for isa in Isa::available() {
                    for residual in [None, Some((&residual[..], 0.5))] {
                        let conv = ConvInt8 {
                            shape,
                            rows: case.rows,
                            signed_input: signed,
                            input: &input,
                            weights: &weights,
                            scale: &scale,
                            bias: &bias,
                            residual,
                        };
                        run_guarded(shape, case.rows, flush, |out| conv.run(isa, out));
                    }
                }
            }
        }
    }
}

#[test]
fn tables_stay_inside() {
    for (shape, positions) in shapes() {
        for flush in [Flush::Start, Flush::End] {
            let shape = ConvShape {
                channels_in: 4,
                ..shape
            };
            let rows = Rows { halo: 1, positions };
            let lanes = padded(shape.channels_out);
            let mut bytes = Bytes(5);
            let codes: Vec<u8> = (0..positions).map(|_| (bytes.next() % 5) as u8).collect();
            let codes = Guarded::new(&codes, flush);
            let table = Guarded::new(&vec![1i8; ConvCodes::table_len(&shape)], flush);
            let scale = Guarded::new(&vec![1f32; lanes], flush);
            let bias = Guarded::new(&vec![1f32; lanes], flush);
            for isa in Isa::available() {
                let conv = ConvCodes {
                    shape,
                    rows,
                    codes: &codes,
                    table: &table,
                    scale: &scale,
                    bias: &bias,
                };
                run_guarded(shape, rows, flush, |out| conv.run(isa, out));
            }
        }
    }
}

#[test]
fn float_convolutions_stay_inside() {
    for (shape, positions) in shapes() {
        for flush in [Flush::Start, Flush::End] {
            let rows = Rows {
                halo: shape.reach(),
                positions,
            };
            let singles = Guarded::new(&vec![0.5f32; shape.packed_len()], flush);
            let halves = Guarded::new(&vec![f16::ONE; shape.packed_len()], flush);
            let input = Guarded::new(&vec![1f32; rows.len(shape.channels_in)], flush);
            let bias = Guarded::new(&vec![1f32; padded(shape.channels_out)], flush);
            let residual = Guarded::new(&vec![1f32; rows.len(shape.channels_out)], flush);
            for isa in Isa::available() {
                for weights in [Weights::F32(&singles), Weights::F16(&halves)] {
                    let conv = ConvFloat {
                        shape,
                        rows,
                        input: &input,
                        weights,
                        bias: &bias,
                        residual: Some(&residual),
                        relu: true,
                    };
                    for halo in [0, rows.halo] {
                        let len = (positions + 2 * halo) * shape.channels_out;
                        let mut out = Guarded::new(&vec![0f32; len], flush);
                        conv.run(isa, &mut out, halo > 0 || rows.halo == 0);
                    }
                }
            }
        }
    }
}
