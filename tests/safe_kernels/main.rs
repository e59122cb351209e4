//! What safe code may ask of the kernels: instruction sets that the processor lacks, and sizes
//! whose products wrap. It gets nothing, a panic or an error, never a fault.
#![forbid(unsafe_code)]

mod attention;
mod convolution;
mod rows;

use proptest::prelude::*;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use strandline::kernels::{Isa, peak};

/// Sizes that no buffer has; products of two or more of them wrap, often to something small.
const ABSURD: [usize; 9] = [
    1 << 32,
    1 << 60,
    (1 << 60) + 1,
    1 << 62,
    1 << 63,
    usize::MAX / 2,
    usize::MAX / 3 + 1,
    usize::MAX - 15,
    usize::MAX,
];

/// Small sizes, and now and then an absurd one.
fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![
        6 => 0usize..20,
        2 => Just(16usize),
        1 => proptest::sample::select(&ABSURD[..]),
        1 => any::<usize>(),
    ]
}

/// The product as a release build computes it without checks, where a buffer can be as large: the
/// length that a check which wraps would let pass.
fn wrapped(sizes: &[usize]) -> usize {
    let product = sizes.iter().fold(1usize, |a, b| a.wrapping_mul(*b));
    if product <= 1 << 12 { product } else { 0 }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// True where `run` returns, false where it panics, which is not reported.
fn returns<T>(run: impl FnOnce() -> T) -> bool {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.get() {
                report(info);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    QUIET.set(false);
    result.is_ok()
}

#[test]
fn only_available_sets_have_a_name() {
    let available = Isa::available();
    for name in Isa::names() {
        let found = Isa::by_name(name);
        let listed = available.iter().find(|isa| isa.name() == name);
        assert_eq!(found, listed.copied(), "{name}");
    }
    for isa in available {
        assert!(Isa::names().any(|name| name == isa.name()), "{isa}");
    }
    for name in ["", "AVX2", "avx", "avx2 ", "sse2"] {
        assert_eq!(Isa::by_name(name), None, "{name}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn sets_are_what_the_processor_has() {
    let has = |name: &str| Isa::by_name(name).is_some();
    assert!(!has("avx2") || is_x86_feature_detected!("avx2"));
    assert!(!has("avxvnni") || is_x86_feature_detected!("avxvnni"));
    assert!(!has("avx512vnni") || is_x86_feature_detected!("avx512vnni"));
    assert!(!has("amx") || has("avx512vnni"));
    for name in ["neon", "neondot", "neoni8mm"] {
        assert!(!has(name), "{name}");
    }
}

#[cfg(target_arch = "aarch64")]
#[test]
fn sets_are_what_the_processor_has() {
    let has = |name: &str| Isa::by_name(name).is_some();
    assert!(has("neon"));
    assert!(!has("neondot") || std::arch::is_aarch64_feature_detected!("dotprod"));
    assert!(!has("neoni8mm") || std::arch::is_aarch64_feature_detected!("i8mm"));
    for name in ["avx2", "avxvnni", "avx512vnni", "amx"] {
        assert!(!has(name), "{name}");
    }
}

#[test]
fn the_best_and_the_scalar_set_are_available() {
    let available = Isa::available();
    assert_eq!(available.last(), Some(&Isa::detect()));
    assert!(available.contains(&Isa::SCALAR));
    assert!(available.contains(&Isa::selected()));
}

#[test]
fn peaks_run_what_the_processor_has() {
    for isa in Isa::available() {
        for peak in [peak::int8(isa), peak::f32(isa)].into_iter().flatten() {
            assert_eq!(peak.run() as u64, peak.macs(), "{isa}");
        }
    }
}
