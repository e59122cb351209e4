//! How long reads are, in bins of fixed number.

/// Lengths below this have a bin each; above it a doubling has half as many bins.
const EXACT: u64 = 512;

/// Bins for one doubling of the length: none is wider than 0.4 % of the lengths in it.
const BINS: u64 = EXACT / 2;

/// Reads of one bin.
#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    reads: u64,
    bases: u64,
}

impl Bin {
    /// Their mean length, which is their length where there is one of them.
    fn mean(self) -> f64 {
        self.bases as f64 / self.reads as f64
    }
}

/// Reads between two lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LengthBin {
    /// The least length.
    pub from: u64,
    /// One above the greatest.
    pub to: u64,
    /// How many reads.
    pub reads: u64,
    /// Their bases.
    pub bases: u64,
}

/// Lengths of reads: some 230 kB, however many they are.
#[derive(Debug)]
pub struct Lengths {
    bins: Vec<Bin>,
    reads: u64,
    bases: u64,
    longest: u64,
}

impl Default for Lengths {
    fn default() -> Lengths {
        Lengths {
            bins: vec![Bin::default(); bin(u64::MAX) + 1],
            reads: 0,
            bases: 0,
            longest: 0,
        }
    }
}

/// The bin of a length.
fn bin(length: u64) -> usize {
    if length < EXACT {
        return length as usize;
    }
    let doublings = length.ilog2() - EXACT.ilog2();
    let within = (length >> (doublings + 1)) - BINS;
    (EXACT + u64::from(doublings) * BINS + within) as usize
}

impl Lengths {
    /// Counts a read.
    pub fn add(&mut self, length: u64) {
        let bin = &mut self.bins[bin(length)];
        bin.reads += 1;
        bin.bases += length;
        self.reads += 1;
        self.bases += length;
        self.longest = self.longest.max(length);
    }

    /// How many reads.
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// Bases of all reads.
    pub fn bases(&self) -> u64 {
        self.bases
    }

    /// The greatest length.
    pub fn longest(&self) -> u64 {
        self.longest
    }

    /// Half of the reads are no longer than this, to 0.4 %; `None` without reads.
    pub fn median(&self) -> Option<u64> {
        let half = self.reads.div_ceil(2);
        let mut below = 0;
        let found = self.bins.iter().find(|bin| {
            below += bin.reads;
            bin.reads > 0 && below >= half
        });
        found.map(|bin| bin.mean().round() as u64)
    }

    /// Reads of this length or more hold half of the bases, to 0.4 %; `None` without bases.
    pub fn n50(&self) -> Option<u64> {
        let mut above = 0;
        let found = self.bins.iter().rev().find(|bin| {
            above += bin.bases;
            bin.bases > 0 && above >= self.bases.div_ceil(2)
        });
        found.map(|bin| bin.mean().round() as u64)
    }

    /// Reads of no bases.
    pub fn empty(&self) -> u64 {
        self.bins[0].reads
    }

    /// The other reads by length, ten bins for a factor of ten, from a power of ten to a power of
    /// ten. Reads within 0.4 % of an edge may stand on its other side.
    pub fn by_tenths(&self) -> Vec<LengthBin> {
        let filled = self.bins.iter().skip(1).filter(|bin| bin.reads > 0);
        let (Some(least), Some(most)) = (filled.clone().next(), filled.clone().next_back()) else {
            return vec![];
        };
        // The least whole length that is not below.
        let edge = |tenth: u32| match (tenth / 10, tenth % 10) {
            (decade, 0) => 10_u64.saturating_pow(decade),
            _ => 10f64.powf(f64::from(tenth) / 10.0).ceil() as u64,
        };
        let first = (least.mean() as u64).ilog10() * 10;
        let last = (most.mean() as u64).ilog10() * 10 + 10;
        let bins = (first..last).map(|tenth| LengthBin {
            from: edge(tenth),
            to: edge(tenth + 1),
            reads: 0,
            bases: 0,
        });
        let mut bins: Vec<LengthBin> = bins.collect();
        for own in filled {
            let mean = own.mean() as u64;
            let place = bins.partition_point(|bin| bin.from <= mean);
            let bin = &mut bins[place.saturating_sub(1)];
            bin.reads += own.reads;
            bin.bases += own.bases;
        }
        bins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths over all magnitudes, the same every time.
    fn lengths(count: usize) -> Vec<u64> {
        let mut random = 1_u64;
        let mut next = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) as f64 / (1_u64 << 31) as f64
        };
        (0..count)
            .map(|_| 10f64.powf(7.0 * next()) as u64)
            .collect()
    }

    #[test]
    fn bins_are_narrow_and_cover_every_length() {
        let mut before = 0;
        for power in 0..64 {
            for length in [
                1_u64 << power,
                (1 << power) + (1 << power) / 3,
                !0 >> (63 - power),
            ] {
                let own = bin(length);
                assert!(own >= before, "{length}");
                before = own;
                let wide = length + length / 200;
                assert!(
                    length < EXACT || wide < length || bin(wide) > own,
                    "{length}"
                );
            }
        }
        assert_eq!(bin(EXACT - 1) + 1, bin(EXACT));
        assert_eq!(Lengths::default().bins.len(), bin(u64::MAX) + 1);
    }

    #[test]
    fn median_and_n50_are_those_of_the_sorted_lengths() {
        let mut sorted = lengths(9_999);
        let mut tally = Lengths::default();
        sorted.iter().for_each(|&length| tally.add(length));
        sorted.sort_unstable();
        let bases: u64 = sorted.iter().sum();
        assert_eq!((tally.reads(), tally.bases()), (9_999, bases));
        assert_eq!(Some(&tally.longest()), sorted.last());
        let mut above = 0;
        let n50 = sorted.iter().rev().find(|&&length| {
            above += length;
            above * 2 >= bases
        });
        for (found, expected) in [
            (tally.median(), &sorted[4_999]),
            (tally.n50(), n50.unwrap()),
        ] {
            let wrong = found.unwrap() as f64 / *expected as f64 - 1.0;
            assert!(wrong.abs() < 0.004, "{found:?} {expected}");
        }
        let bins = tally.by_tenths();
        assert_eq!(bins.len(), 70);
        assert_eq!(
            bins.iter().map(|bin| bin.reads).sum::<u64>() + tally.empty(),
            9_999
        );
        assert_eq!(bins.iter().map(|bin| bin.bases).sum::<u64>(), bases);
        for own in bins {
            let inside = |length: &&u64| (own.from..own.to).contains(*length);
            let exact = sorted.iter().filter(inside).count() as u64;
            assert!(own.reads.abs_diff(exact) <= 5, "{own:?} {exact}");
        }
    }

    #[test]
    fn no_reads_and_empty_reads_have_no_bins() {
        let mut tally = Lengths::default();
        assert_eq!(
            (tally.median(), tally.n50(), tally.by_tenths()),
            (None, None, vec![])
        );
        tally.add(0);
        assert_eq!(
            (tally.median(), tally.n50(), tally.empty()),
            (Some(0), None, 1)
        );
        assert!(tally.by_tenths().is_empty());
        tally.add(1);
        tally.add(u64::from(u32::MAX));
        tally.add(10);
        let bins = tally.by_tenths();
        assert_eq!(bins.len(), 100);
        let filled: Vec<[u64; 3]> = bins
            .iter()
            .filter(|bin| bin.reads > 0)
            .map(|bin| [bin.from, bin.to, bin.reads])
            .collect();
        assert_eq!(filled[..2], [[1, 2, 1], [10, 13, 1]]);
    }
}
