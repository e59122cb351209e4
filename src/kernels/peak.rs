//! Multiply-accumulates on registers alone, in as many independent chains as hide their latency:
//! the most that a core can do, and the yardstick of the benches.

use super::Isa;
use std::hint::black_box;
use std::time::Instant;

/// Instructions of a chain.
pub(super) const ROUNDS: usize = 4096;

/// Independent chains.
pub(super) const CHAINS: usize = 12;

/// A loop to time.
#[derive(Debug, Clone, Copy)]
pub struct Peak {
    run: unsafe fn() -> i64,
    macs: u64,
}

impl Peak {
    /// A loop of [`ROUNDS`] by [`CHAINS`] instructions of `macs` multiply-accumulates, all of them
    /// 1 · 1, which gives their sum.
    ///
    /// # Safety
    /// `run` needs no more than an instruction set's being available, and the result goes nowhere
    /// but into that set's `Kernels`: whoever has an [`Isa`] may run it.
    #[allow(unsafe_code)]
    pub(super) const unsafe fn new(run: unsafe fn() -> i64, macs: usize) -> Peak {
        let macs = (macs * ROUNDS * CHAINS) as u64;
        Peak { run, macs }
    }

    /// Multiply-accumulates of a run.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// Runs the loop once: the sum of its products, which is their number.
    #[allow(unsafe_code)]
    pub fn run(&self) -> i64 {
        // SAFETY: it came from an Isa, as `new` demands, which is one that this machine has.
        unsafe { (self.run)() }
    }

    /// Multiply-accumulates a second, in 10^9: the fastest of several runs.
    pub fn rate(&self) -> f64 {
        let mut best = f64::INFINITY;
        for _ in 0..500 {
            let start = Instant::now();
            black_box(self.run());
            best = best.min(start.elapsed().as_secs_f64());
        }
        self.macs as f64 / best / 1e9
    }
}

/// The int8 instructions of `isa`.
pub fn int8(isa: Isa) -> Option<Peak> {
    isa.kernels().peak_int8
}

/// Its fused multiply-adds in f32; `None` where another set has the same.
pub fn f32(isa: Isa) -> Option<Peak> {
    isa.kernels().peak_f32
}
