//! The instruction sets, and which of them this machine has.
//!
//! Each is a [`Kernels`]: a constant in the file that its kernels are in. [`ALL`] lists them, and
//! an [`Isa`] is a place in that list whose `available` has said yes.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod float_neon;
#[cfg(target_arch = "x86_64")]
mod float_x86;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod peak_neon;
#[cfg(target_arch = "x86_64")]
mod peak_x86;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub(super) use amx::AmxScratch;
pub(super) use scalar::conv_int8 as scalar_conv_int8;

use super::dense::Columns;
use super::float::ConvFloat;
use super::lanes::Registers;
use super::peak::Peak;
use super::{ConvInt8, LANES, Output, Scratch, Target};
use std::fmt;
use std::sync::OnceLock;

/// All that there are for this processor, a better one after those it includes. The first is
/// [`Isa::SCALAR`].
const ALL: &[Kernels] = &[
    scalar::SCALAR,
    #[cfg(target_arch = "x86_64")]
    avx::AVX2,
    #[cfg(target_arch = "x86_64")]
    avx::AVX_VNNI,
    #[cfg(target_arch = "x86_64")]
    avx512::AVX512_VNNI,
    #[cfg(target_arch = "x86_64")]
    amx::AMX,
    #[cfg(target_arch = "aarch64")]
    neon::NEON,
    #[cfg(target_arch = "aarch64")]
    neon::NEON_DOT,
    #[cfg(target_arch = "aarch64")]
    neon::NEON_I8MM,
];

/// What an instruction set computes with.
///
/// Its functions may be called only where `available` is true and the operands' lengths have been
/// checked, by [`ConvInt8::run`] and its like.
pub(super) struct Kernels {
    /// What `STRANDLINE_ISA` takes.
    pub name: &'static str,
    /// True where this machine can run it.
    pub available: fn() -> bool,
    /// The sixteen lanes that all else is written over.
    pub registers: Registers,
    /// An int8 convolution.
    pub conv_int8: unsafe fn(&ConvInt8, &mut Scratch, &mut Output),
    /// A float convolution.
    pub conv_float: unsafe fn(&ConvFloat, &mut Target<f32>),
    /// Adds the products of a dense layer to up to four blocks of sums.
    pub dense: unsafe fn(&Columns, &mut [[f32; LANES]]),
    /// Its int8 instructions on registers alone, for the yardstick.
    pub peak_int8: Option<Peak>,
    /// The same in f32; `None` where another set has the same.
    pub peak_f32: Option<Peak>,
}

/// An instruction set that the kernels are written for and that this machine has: only detection
/// makes one, so no safe code can run instructions that the processor lacks.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Isa(u8);

impl Isa {
    /// Plain Rust; the reference, which is always there.
    pub const SCALAR: Isa = Isa(0);

    /// Those that this machine can run, best last. Never empty: [`Isa::SCALAR`] is always there.
    pub fn available() -> Vec<Isa> {
        let all = (0u8..).zip(ALL);
        let available = all.filter(|(_, kernels)| (kernels.available)());
        available.map(|(place, _)| Isa(place)).collect()
    }

    /// Names of all that there are for this processor's family, available or not.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|kernels| kernels.name)
    }

    /// The best that this machine can run.
    pub fn detect() -> Isa {
        Isa::available().pop().unwrap_or(Isa::SCALAR)
    }

    /// The one of this name. `None` where there is no such set, or this machine cannot run it.
    pub fn by_name(name: &str) -> Option<Isa> {
        let mut available = Isa::available().into_iter();
        available.find(|isa| isa.name() == name)
    }

    /// The one in use: what the environment variable `STRANDLINE_ISA` names, or else the best. A
    /// name that this machine cannot run is reported and ignored.
    pub fn selected() -> Isa {
        static SELECTED: OnceLock<Isa> = OnceLock::new();
        *SELECTED.get_or_init(|| {
            let best = Isa::detect();
            let Ok(name) = std::env::var("STRANDLINE_ISA") else {
                return best;
            };
            Isa::by_name(&name).unwrap_or_else(|| {
                log::warn!("STRANDLINE_ISA={name}: not available here, using {best}");
                best
            })
        })
    }

    /// The name that `STRANDLINE_ISA` takes.
    pub fn name(self) -> &'static str {
        self.kernels().name
    }

    /// What it computes with.
    pub(super) fn kernels(self) -> &'static Kernels {
        &ALL[usize::from(self.0)]
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scalar_reference_is_always_there() {
        assert_eq!(Isa::available()[0], Isa::SCALAR);
        assert_eq!(Isa::by_name("scalar"), Some(Isa::SCALAR));
        assert_eq!(Isa::SCALAR.name(), "scalar");
    }

    #[test]
    fn names_differ() {
        let mut names: Vec<&str> = Isa::names().collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
