//! The alphabet: letters, 2-bit codes, N and the reverse complement.
//!
//! A base is held as a code in one byte: A 0, C 1, G 2, T or U 3, and [`N`] (4) for N and every
//! other IUPAC letter. Models see a code of 4 as "no base": all four one-hot channels zero.

/// The code of adenine.
pub const A: u8 = 0;

/// The code of cytosine.
pub const C: u8 = 1;

/// The code of guanine.
pub const G: u8 = 2;

/// The code of thymine or uracil.
pub const T: u8 = 3;

/// The code of N and of every ambiguous IUPAC letter.
pub const N: u8 = 4;

/// What a byte of a sequence line is: a code 0 to 4, or [`NOT_A_BASE`].
const CODES: [u8; 256] = {
    let mut table = [NOT_A_BASE; 256];
    let ambiguous = b"NRYSWKMBDHVnryswkmbdhvXx";
    let mut i = 0;
    while i < ambiguous.len() {
        table[ambiguous[i] as usize] = N;
        i += 1;
    }
    let plain: [(u8, u8); 10] = [
        (b'A', 0),
        (b'C', 1),
        (b'G', 2),
        (b'T', 3),
        (b'U', 3),
        (b'a', 0),
        (b'c', 1),
        (b'g', 2),
        (b't', 3),
        (b'u', 3),
    ];
    let mut i = 0;
    while i < plain.len() {
        table[plain[i].0 as usize] = plain[i].1;
        i += 1;
    }
    table
};

/// Marks a byte that is no nucleotide letter at all.
pub const NOT_A_BASE: u8 = 0xff;

/// The code of a letter (0 to 3, [`N`]), or [`NOT_A_BASE`].
#[inline]
pub fn code(letter: u8) -> u8 {
    CODES[letter as usize]
}

/// Appends the codes of `letters` to `out`. Bytes that are no nucleotide letter become [`N`];
/// parsers reject them earlier.
pub fn encode(letters: &[u8], out: &mut Vec<u8>) {
    out.extend(letters.iter().map(|&letter| base_or_n(letter)));
}

/// The same up to the first byte that is no nucleotide letter, and the place of that.
pub fn encode_checked(letters: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let before = out.len();
    encode(letters, out);
    let codes = &out[before..];
    // Nearly all bases are known, and only the others need a look at the table.
    let bad = position(codes, N)
        .and_then(|first| (first..codes.len()).find(|&at| code(letters[at]) == NOT_A_BASE));
    out.truncate(before + bad.unwrap_or(letters.len()));
    bad
}

/// Without a table, so that it is computed for a whole register of letters.
#[inline]
fn base_or_n(letter: u8) -> u8 {
    let upper = letter & !0x20;
    let mut code = N;
    for (base, letter) in [(A, b'A'), (C, b'C'), (G, b'G'), (T, b'T'), (T, b'U')] {
        code = if upper == letter { base } else { code };
    }
    code
}

/// Where `byte` stands first, by whole registers.
pub(crate) fn position(bytes: &[u8], byte: u8) -> Option<usize> {
    const STEP: usize = 16;
    let blocks = bytes.chunks_exact(STEP);
    let rest = blocks.remainder();
    for (n, block) in blocks.enumerate() {
        if block.iter().fold(false, |found, &b| found | (b == byte)) {
            return Some(n * STEP + block.iter().position(|&b| b == byte)?);
        }
    }
    let at = bytes.len() - rest.len();
    rest.iter().position(|&b| b == byte).map(|n| at + n)
}

/// The code of the complementary base; N stays N.
#[inline]
pub fn complement(code: u8) -> u8 {
    if code < N { 3 - code } else { N }
}

/// Writes the reverse complement of `codes` to `out`, which has the same length.
pub fn reverse_complement(codes: &[u8], out: &mut [u8]) {
    assert_eq!(codes.len(), out.len());
    for (o, &c) in out.iter_mut().rev().zip(codes) {
        *o = complement(c);
    }
}

/// The letter of a code, upper case, T for 3.
#[inline]
pub fn letter(code: u8) -> u8 {
    b"ACGTN"[code.min(N) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_have_their_codes() {
        let mut out = Vec::new();
        encode(b"ACGTUacgtunRY-", &mut out);
        assert_eq!(out, [0, 1, 2, 3, 3, 0, 1, 2, 3, 3, 4, 4, 4, 4]);
        assert_eq!(code(b'-'), NOT_A_BASE);
        assert_eq!(code(b'E'), NOT_A_BASE);
    }

    #[test]
    fn all_bytes_are_encoded_as_the_table_says() {
        for byte in 0..=u8::MAX {
            let mut out = vec![];
            encode(&[byte], &mut out);
            assert_eq!(out, [code(byte).min(N)], "{byte}");
            for place in [0, 1, 63, 64, 200] {
                let mut letters = b"ACGTNacgtuRx".repeat(20);
                letters[place] = byte;
                let (mut checked, mut plain) = (vec![7], vec![7]);
                let bad = encode_checked(&letters, &mut checked);
                assert_eq!(bad, (code(byte) == NOT_A_BASE).then_some(place));
                encode(&letters[..bad.unwrap_or(letters.len())], &mut plain);
                assert_eq!(checked, plain);
                assert_eq!(
                    position(&letters, byte),
                    letters.iter().position(|&b| b == byte)
                );
            }
        }
        assert_eq!(position(&[], 0), None);
    }

    #[test]
    fn reverse_complement_is_an_involution() {
        let codes = [0, 1, 2, 3, 4, 0, 0];
        let mut once = [0; 7];
        let mut twice = [0; 7];
        reverse_complement(&codes, &mut once);
        assert_eq!(once, [3, 3, 4, 0, 1, 2, 3]);
        reverse_complement(&once, &mut twice);
        assert_eq!(codes, twice);
    }
}
