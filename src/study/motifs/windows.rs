//! Windows around the regions of a motif, counted by column.

use crate::study::motifs::regions::Region;

/// Counts A, C, G and T in each column over windows of `width` bases, and the windows themselves.
///
/// Each region comes with the position in it where the seed begins. The window has the seed's
/// `length` bases in the middle; if the rest is odd, one more base follows than precedes. A window
/// that reaches over an end of its sequence is left out. An N counts in no column.
pub(crate) fn count<'a>(
    letters: &[Vec<u8>],
    regions: impl Iterator<Item = (&'a Region, isize)>,
    length: usize,
    width: usize,
) -> (Vec<[u32; 4]>, usize) {
    let mut counts = vec![[0; 4]; width];
    let mut sites = 0;
    // A seed longer than the window is cut, by the same rule: the division rounds down.
    let before = (width as isize - length as isize).div_euclid(2);
    for (region, offset) in regions {
        let start = region.start as isize + offset - before;
        let sequence = &letters[region.sequence];
        let Some(window) = usize::try_from(start)
            .ok()
            .and_then(|start| sequence.get(start..start + width))
        else {
            continue;
        };
        sites += 1;
        for (column, letter) in counts.iter_mut().zip(window) {
            if let Some(base) = b"ACGT".iter().position(|base| base == letter) {
                column[base] += 1;
            }
        }
    }
    (counts, sites)
}

#[cfg(test)]
mod tests {
    use crate::study::motifs::regions::Region;
    use crate::study::motifs::windows::count;

    /// The columns as letters, where there is one window.
    fn window(start: usize, offset: isize, length: usize, width: usize) -> Option<String> {
        let letters = vec![b"ACGTNACCGGTT".to_vec()];
        let region = Region {
            sequence: 0,
            start,
            end: start + length,
        };
        let (counts, sites) = count(&letters, [(&region, offset)].into_iter(), length, width);
        assert_eq!(counts.len(), width);
        let letter = |column: &[u32; 4]| {
            let base = column.iter().position(|&n| n == 1);
            base.map_or('N', |base| char::from(b"ACGT"[base]))
        };
        (sites == 1).then(|| counts.iter().map(letter).collect())
    }

    #[test]
    fn the_seed_is_in_the_middle() {
        assert_eq!(window(5, 0, 2, 6).as_deref(), Some("TNACCG"));
        // One of three more bases precedes, two follow.
        assert_eq!(window(5, 0, 3, 6).as_deref(), Some("NACCGG"));
        assert_eq!(window(5, 1, 2, 6).as_deref(), Some("NACCGG"));
        assert_eq!(window(5, -1, 2, 6).as_deref(), Some("GTNACC"));
        // Three bases too many: two are cut before, one behind.
        assert_eq!(window(5, 0, 6, 3).as_deref(), Some("CGG"));
        assert_eq!(window(5, 0, 4, 2).as_deref(), Some("CC"));
    }

    #[test]
    fn windows_over_an_end_are_left_out() {
        assert_eq!(window(1, 0, 2, 4).as_deref(), Some("ACGT"));
        assert_eq!(window(0, 0, 2, 4), None);
        assert_eq!(window(9, 0, 2, 4).as_deref(), Some("GGTT"));
        assert_eq!(window(10, 0, 2, 4), None);
        assert_eq!(window(0, 0, 2, 24), None);
        assert_eq!(window(0, -9, 2, 4), None);
        assert_eq!(window(10, 9, 2, 4), None);
    }
}
