//! x86-64 with AMX: tiles of 16 rows by 64 bytes, `tdpbusd` and `tdpbssd`, which multiply 16
//! positions by 16 output channels by 64 inputs.
//!
//! Four tiles of sums at a time: 32 positions by two blocks of 16 output channels, or 64 by one.
//! Sixteen lines of packed weights are a tile as they lie; activations are read from the rows as
//! they lie, 64 bytes of a run of adjacent inputs a product. Where a run ends within 64 bytes, its
//! last weights are copied once with zeros behind them, by which whatever a load of activations
//! reads beyond the run is multiplied; a load that would leave the buffer takes a copy of the rows
//! instead. A product takes its 16 cycles however few of the 64 bytes count: with dilation a run is
//! one tap.
//!
//! A tile at the end of the rows is moved back to overlap its predecessor. Fewer than 16 positions
//! take the kernels of AVX-512, and so does every epilogue: sums go through memory, 16 registers a
//! tile. All else of this set is AVX-512 as well.
//!
//! The instructions are written as assembly because their intrinsics are not stable. Tile registers
//! are named by number, live only within [`conv_int8`], and are none that a compiler uses.
#![allow(unsafe_code)]

use super::{Kernels, avx512};
use crate::kernels::peak::{CHAINS, Peak, ROUNDS};
use crate::kernels::{ConvInt8, LANES, Output, Scratch, padded};
use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

pub(super) const AMX: Kernels = Kernels {
    name: "amx",
    available: || avx512::available() && available(),
    conv_int8,
    // SAFETY: runs what this set has, and is this set's alone.
    peak_int8: Some(unsafe { Peak::new(peak, 16 * 16 * 64) }),
    peak_f32: None,
    ..avx512::AVX512_VNNI
};

/// Rows of a tile.
const ROWS: usize = 16;

/// Bytes of a tile's row.
const ROW: usize = 64;

/// Sums of 16 positions by 16 output channels.
#[repr(align(64))]
struct Sums([[i32; LANES]; ROWS]);

/// What a convolution needs beside its operands; grows to the largest one.
#[derive(Debug, Default)]
pub(in crate::kernels) struct AmxScratch {
    steps: Vec<Step>,
    /// Tiles of weights that end a run, zeros behind them.
    ends: Vec<Weights>,
}

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Weights([i8; ROWS * ROW]);

/// One product of the sum.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Where its activations begin, from tap 0 of the position.
    from: usize,
    /// Inputs that count: 64, or fewer at the end of a run.
    bytes: usize,
    /// Where its weights begin in their block, or which of the block's `ends` they are.
    weights: usize,
}

/// True where the processor has the instructions and the system lets this process use them, which
/// Linux wants to be asked for.
fn available() -> bool {
    #[cfg(target_os = "linux")]
    {
        const ARCH_PRCTL: usize = 158;
        const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
        const XTILEDATA: usize = 18;
        const TILES_AND_INT8: u32 = 1 << 24 | 1 << 25;
        if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & TILES_AND_INT8 != TILES_AND_INT8 {
            return false;
        }
        let result: isize;
        // SAFETY: a system call that reads no memory; a kernel that does not know it gives an
        // error.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => result,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XTILEDATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result == 0
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// Tile registers 0 to 7, 16 rows of 64 bytes each, until the end of `run`.
///
/// # Safety
/// [`AMX`] is available.
unsafe fn with_tiles(run: impl FnOnce()) {
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }
    let mut all = Configuration {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [0; 16],
        rows: [0; 16],
    };
    all.row_bytes[..8].fill(ROW as u16);
    all.rows[..8].fill(ROWS as u8);
    // SAFETY: the caller's; the configuration is one that palette 1 allows.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const all, options(nostack, preserves_flags, readonly))
    };
    run();
    // SAFETY: as above.
    unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) };
}

/// # Safety
/// [`AMX`] is available, and [`ConvInt8::run`] has checked the lengths: every pointer below is
/// derived from them.
unsafe fn conv_int8(conv: &ConvInt8, scratch: &mut Scratch, out: &mut Output) {
    if conv.positions < ROWS {
        // SAFETY: the caller's; this set includes AVX-512.
        return unsafe { avx512::conv_int8(conv, scratch, out) };
    }
    let scratch = &mut scratch.amx;
    let ends = scratch.prepare(conv);
    // SAFETY: the caller's.
    unsafe {
        with_tiles(|| {
            if conv.signed_input {
                blocks::<true>(conv, scratch, ends, out);
            } else {
                blocks::<false>(conv, scratch, ends, out);
            }
        });
    }
}

impl AmxScratch {
    /// Cuts the sum into products and copies the weights at the ends of runs; gives the number of
    /// these in a block.
    fn prepare(&mut self, conv: &ConvInt8) -> usize {
        let s = &conv.shape;
        let tap = s.dilation * conv.input.pitch;
        // Taps that follow each other without a gap are one run.
        let (runs, len) = if tap == s.channels_in {
            (1, s.width * s.channels_in)
        } else {
            (s.width, s.channels_in)
        };
        self.steps.clear();
        let mut ends = 0;
        for run in 0..runs {
            for at in (0..len).step_by(ROW) {
                let bytes = ROW.min(len - at);
                let weights = if bytes == ROW {
                    (run * len + at) * LANES
                } else {
                    ends
                };
                ends += usize::from(bytes < ROW);
                self.steps.push(Step {
                    from: run * tap + at,
                    bytes,
                    weights,
                });
            }
        }
        self.ends.clear();
        let block = runs * len * LANES;
        for weights in conv.weights.chunks_exact(block).filter(|_| ends > 0) {
            for run in weights.chunks_exact(len * LANES) {
                let mut end = Weights([0; ROWS * ROW]);
                let rest = len % ROW * LANES;
                end.0[..rest].copy_from_slice(&run[run.len() - rest..]);
                self.ends.push(end);
            }
        }
        ends
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
unsafe fn blocks<const SIGNED: bool>(
    conv: &ConvInt8,
    scratch: &AmxScratch,
    ends: usize,
    out: &mut Output,
) {
    let blocks = padded(conv.shape.channels_out) / LANES;
    let positions = conv.positions;
    let mut block = 0;
    while block < blocks {
        let walk = Walk {
            conv,
            scratch,
            ends,
            block,
        };
        let pair = blocks - block > 1;
        let mut start = 0;
        while start < positions {
            let tiles = (positions - start).div_ceil(ROWS);
            // SAFETY: forwarded from the caller; the blocks exist, and there are 16 positions at
            // least.
            start += ROWS
                * unsafe {
                    match (pair, tiles) {
                        (true, 1) => walk.tiles::<1, 2, SIGNED>(start, out),
                        (true, _) => walk.tiles::<2, 2, SIGNED>(start, out),
                        (false, 1) => walk.tiles::<1, 1, SIGNED>(start, out),
                        (false, 2) => walk.tiles::<2, 1, SIGNED>(start, out),
                        (false, _) => walk.tiles::<4, 1, SIGNED>(start, out),
                    }
                };
        }
        block += 1 + usize::from(pair);
    }
}

/// The operands of a block or two.
struct Walk<'a> {
    conv: &'a ConvInt8<'a>,
    scratch: &'a AmxScratch,
    ends: usize,
    block: usize,
}

impl Walk<'_> {
    /// M tiles of positions from `start` by R blocks, sums and epilogue; gives M.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
    unsafe fn tiles<const M: usize, const R: usize, const SIGNED: bool>(
        &self,
        start: usize,
        out: &mut Output,
    ) -> usize {
        let conv = self.conv;
        let s = &conv.shape;
        let input = conv.input;
        let row = s.stride * input.pitch;
        let first = input.first - s.before * s.dilation * input.pitch;
        let mut starts = [0; M];
        for (m, at) in starts.iter_mut().enumerate() {
            *at = (start + m * ROWS).min(conv.positions - ROWS);
        }
        let block_len = s.packed_len() / (padded(s.channels_out) / LANES);
        // SAFETY: tiles of sums are 0 to 3, of activations 4 and 5, of weights 6 and 7. Activations
        // of a whole step lie inside the rows that ConvInt8::run has checked, others inside the
        // buffer or the copy; so do the weights of each block.
        unsafe {
            zero::<0>();
            zero::<1>();
            zero::<2>();
            zero::<3>();
            for step in &self.scratch.steps {
                let weights = |r: usize| {
                    if step.bytes == ROW {
                        let at = (self.block + r) * block_len + step.weights;
                        conv.weights.as_ptr().add(at)
                    } else {
                        let at = (self.block + r) * self.ends + step.weights;
                        self.scratch.ends[at].0.as_ptr()
                    }
                };
                load::<6>(weights(0).cast(), ROW);
                if R > 1 {
                    load::<7>(weights(1).cast(), ROW);
                }
                let from = |m: usize| first + starts[m] * row + step.from;
                activations::<4>(input.data, from(0), row, step.bytes);
                product::<0, 4, 6, SIGNED>();
                if R > 1 {
                    product::<2, 4, 7, SIGNED>();
                }
                if M > 1 {
                    activations::<5>(input.data, from(1), row, step.bytes);
                    product::<1, 5, 6, SIGNED>();
                    if R > 1 {
                        product::<3, 5, 7, SIGNED>();
                    }
                }
                if M > 2 {
                    activations::<4>(input.data, from(2), row, step.bytes);
                    product::<2, 4, 6, SIGNED>();
                    activations::<5>(input.data, from(3), row, step.bytes);
                    product::<3, 5, 6, SIGNED>();
                }
            }
            let mut sums = [const { MaybeUninit::<[[__m512i; 1]; ROWS]>::uninit() }; 4];
            store::<0>(sums[0].as_mut_ptr().cast());
            if M > 1 {
                store::<1>(sums[1].as_mut_ptr().cast());
            }
            if M > 2 || R > 1 {
                store::<2>(sums[2].as_mut_ptr().cast());
            }
            if M > 2 || (M > 1 && R > 1) {
                store::<3>(sums[3].as_mut_ptr().cast());
            }
            for r in 0..R {
                for (m, &at) in starts.iter().enumerate() {
                    let sums = sums[2 * r + m].assume_init_ref();
                    avx512::finish_sixteen(conv, sums, at, self.block + r, out);
                }
            }
        }
        M
    }
}

/// A tile of activations: 16 rows from `from` on, of which `bytes` count.
#[inline(always)]
unsafe fn activations<const T: u8>(data: &[u8], from: usize, row: usize, bytes: usize) {
    // SAFETY: forwarded from the caller; what is read lies inside the buffer, or is the copy.
    unsafe {
        if bytes == ROW || from + (ROWS - 1) * row + ROW <= data.len() {
            return load::<T>(data.as_ptr().add(from), row);
        }
        let mut copy = [[0u8; ROW]; ROWS];
        for (r, to) in copy.iter_mut().enumerate() {
            to[..bytes].copy_from_slice(&data[from + r * row..][..bytes]);
        }
        load::<T>(copy.as_ptr().cast(), ROW);
    }
}

/// # Safety
/// Inside [`with_tiles`]; 16 rows of 64 bytes can be read.
#[inline(always)]
unsafe fn load<const T: u8>(from: *const u8, row: usize) {
    // SAFETY: the caller's.
    unsafe {
        asm!("tileloadd tmm{t}, [{from} + {row}]", t = const T, from = in(reg) from,
            row = in(reg) row, options(nostack, preserves_flags, readonly));
    }
}

/// # Safety
/// Inside [`with_tiles`].
#[inline(always)]
unsafe fn zero<const T: u8>() {
    // SAFETY: the caller's.
    unsafe { asm!("tilezero tmm{t}", t = const T, options(nostack, preserves_flags, nomem)) }
}

/// Adds the products of activations A and weights B to the sums C.
///
/// # Safety
/// Inside [`with_tiles`].
#[inline(always)]
unsafe fn product<const C: u8, const A: u8, const B: u8, const SIGNED: bool>() {
    // SAFETY: the caller's.
    unsafe {
        if SIGNED {
            asm!("tdpbssd tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B,
                options(nostack, preserves_flags, nomem));
        } else {
            asm!("tdpbusd tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B,
                options(nostack, preserves_flags, nomem));
        }
    }
}

/// # Safety
/// Inside [`with_tiles`]; 16 rows of 64 bytes can be written.
#[inline(always)]
unsafe fn store<const T: u8>(to: *mut i32) {
    // SAFETY: the caller's.
    unsafe {
        asm!("tilestored [{to} + {row}], tmm{t}", t = const T, to = in(reg) to, row = in(reg) ROW,
            options(nostack, preserves_flags));
    }
}

/// Products of ones on registers alone, for the yardstick, four tiles at a time. Gives their sum.
///
/// # Safety
/// [`AMX`] is available.
unsafe fn peak() -> i64 {
    let ones = Weights([1; ROWS * ROW]);
    let mut sums = Sums([[0; LANES]; ROWS]);
    let mut total = 0;
    // SAFETY: as in `tiles`.
    let run = || unsafe {
        load::<4>(ones.0.as_ptr().cast(), ROW);
        load::<6>(ones.0.as_ptr().cast(), ROW);
        zero::<0>();
        zero::<1>();
        zero::<2>();
        zero::<3>();
        for _ in 0..ROUNDS * CHAINS / 4 {
            product::<0, 4, 6, false>();
            product::<1, 4, 6, false>();
            product::<2, 4, 6, false>();
            product::<3, 4, 6, false>();
        }
        for tile in 0..4 {
            let to = sums.0.as_mut_ptr().cast();
            match tile {
                0 => store::<0>(to),
                1 => store::<1>(to),
                2 => store::<2>(to),
                _ => store::<3>(to),
            }
            total += sums
                .0
                .as_flattened()
                .iter()
                .map(|&sum| i64::from(sum))
                .sum::<i64>();
        }
    };
    // SAFETY: the caller's.
    unsafe { with_tiles(run) };
    total
}
