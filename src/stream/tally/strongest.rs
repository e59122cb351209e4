//! The strongest calls of many.

use super::scores::height;
use crate::call::Call;

/// So many calls, those of the highest scores, and how many others there were.
#[derive(Debug, Clone)]
pub struct Strongest {
    /// Up to twice as many as are wanted.
    calls: Vec<Call>,
    most: usize,
    seen: u64,
}

impl Strongest {
    /// At most `most` calls.
    pub fn new(most: usize) -> Strongest {
        Strongest {
            calls: vec![],
            most,
            seen: 0,
        }
    }

    /// Takes calls in.
    pub fn add(&mut self, calls: &[Call]) {
        for &call in calls {
            self.seen += 1;
            self.calls.push(call);
            if self.calls.len() >= 2 * self.most {
                self.cut();
            }
        }
    }

    /// How many calls were added.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Those that are left, by position, and how many are not.
    pub fn finish(mut self) -> (Vec<Call>, u64) {
        self.cut();
        self.calls
            .sort_by_key(|call| (call.start, call.kind, call.strand));
        let left_out = self.seen - self.calls.len() as u64;
        (self.calls, left_out)
    }

    fn cut(&mut self) {
        if self.calls.len() > self.most {
            let strength = |call: &Call| height(call.kind, call.score);
            self.calls
                .select_nth_unstable_by(self.most, |a, b| strength(b).total_cmp(&strength(a)));
            self.calls.truncate(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{CallKind, Flags, Strand};

    #[test]
    fn the_strongest_calls_stay_in_bounded_room() {
        let call = |start: u64| Call {
            start,
            end: start + 1,
            strand: Strand::Forward,
            kind: CallKind::Donor,
            // A permutation of the hundredths.
            score: (start * 37 % 100) as f32 / 100.0,
            flags: Flags::NONE,
            model: 0,
        };
        let mut strongest = Strongest::new(10);
        for start in 0..100 {
            strongest.add(&[call(start)]);
            assert!(strongest.calls.len() < 20);
        }
        let (calls, left_out) = strongest.finish();
        assert_eq!((calls.len(), left_out), (10, 90));
        assert!(calls.iter().all(|call| call.score >= 0.9), "{calls:?}");
        assert!(calls.is_sorted_by_key(|call| call.start));
        let mut few = Strongest::new(10);
        few.add(&[call(3), call(1)]);
        let (calls, left_out) = few.finish();
        assert_eq!((calls[0].start, calls.len(), left_out), (1, 2, 0));
    }
}
