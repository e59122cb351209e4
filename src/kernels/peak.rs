//! What an instruction set can do at most: dot products of registers, without loads. The yardstick of the benches.

use super::Isa;
use super::lanes::{Kernel, LINE, Lanes, dispatch};
use std::hint::black_box;
use std::time::Instant;

/// Independent sums, enough to hide the latency of the multiplication.
const SUMS: usize = 24;

/// int8 multiply-accumulates a second of one core, in 10^9: the fastest of several tries.
pub fn int8(isa: Isa) -> f64 {
    let rounds = 20_000;
    let mut best = f64::INFINITY;
    for _ in 0..50 {
        let start = Instant::now();
        black_box(dispatch(isa, Dots { rounds }));
        best = best.min(start.elapsed().as_secs_f64());
    }
    (rounds * SUMS * LINE) as f64 / best / 1e9
}

struct Dots {
    rounds: usize,
}

impl Kernel for Dots {
    type Out = i32;

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) -> i32 {
        let mut sums = [s.splat_i(0); SUMS];
        let line = s.line(black_box(&[1; LINE]));
        let mut four = black_box([1u8; 4]);
        for round in 0..self.rounds {
            for sum in &mut sums {
                *sum = s.dot(*sum, four, line);
            }
            // Another value each round, or the sums would be one product.
            four[0] = (round & 1) as u8;
        }
        let mut all = s.splat_i(0);
        for sum in sums {
            all = s.add_i(all, sum);
        }
        s.sum_i(all)
    }
}
