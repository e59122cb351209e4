//! Base codes as rows of four channels.

/// Codes of bases, from 0 on, and so channels of a row.
pub const BASES: usize = 4;

/// The code of "no base": no channel is 1.
pub const NO_BASE: u8 = BASES as u8;

/// Base codes as rows of four channels, 1 at the base's own; "no base" is a row of zeros. `out`
/// holds four bytes a code.
///
/// # Panics
/// Where the lengths differ.
pub fn one_hot(codes: &[u8], out: &mut [u8]) {
    assert_eq!(Some(out.len()), codes.len().checked_mul(BASES));
    for (row, &code) in out.chunks_exact_mut(BASES).zip(codes) {
        let bits = if code < NO_BASE {
            1u32 << (8 * code)
        } else {
            0
        };
        row.copy_from_slice(&bits.to_le_bytes());
    }
}
