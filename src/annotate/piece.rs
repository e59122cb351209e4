//! What scoring looks at: the codes of a read that are at hand.

/// Codes of a read that are at hand.
pub(super) struct Piece<'a> {
    pub codes: &'a [u8],
    /// Position of the first of them.
    pub first: u64,
    /// True where the last of them is the read's last base.
    pub ended: bool,
}
