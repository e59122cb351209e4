//! What becomes of pieces that come faster than they can be scored.

use std::time::{Duration, Instant};

/// What becomes of reads whose calls cannot be written by their deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverloadPolicy {
    /// They are begun all the same, and the source is held back: a link by its credits, a pipe by
    /// its buffer.
    #[default]
    Block,
    /// Reads are begun only where there is room; where the deadline is missed nevertheless, the
    /// youngest is given up.
    ShedNewest,
    /// The same, but the one with most bases waiting is given up.
    ShedOldest,
    /// The fast tier scores until the queue is short again; what it cannot keep up with is held
    /// back.
    FastTier,
}

impl OverloadPolicy {
    /// Every policy.
    pub const ALL: [OverloadPolicy; 4] = [
        OverloadPolicy::Block,
        OverloadPolicy::ShedNewest,
        OverloadPolicy::ShedOldest,
        OverloadPolicy::FastTier,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            OverloadPolicy::Block => "block",
            OverloadPolicy::ShedNewest => "shed-newest",
            OverloadPolicy::ShedOldest => "shed-oldest",
            OverloadPolicy::FastTier => "fast-tier",
        }
    }
}

/// The fast tier comes in above this part of the deadline, and goes below [`CALM`] of it, held for
/// [`REST`]: two levels and a rest, so that it does not flap.
const ALARM: f64 = 0.5;
const CALM: f64 = 0.1;
const REST: Duration = Duration::from_secs(1);

/// Which tier a worker scores with.
#[derive(Debug)]
pub(super) struct Tier {
    /// `None`: always the better one.
    deadline: Option<Duration>,
    fast: bool,
    calm_since: Option<Instant>,
}

impl Tier {
    pub(super) fn new(policy: OverloadPolicy, deadline: Option<Duration>) -> Tier {
        Tier {
            deadline: deadline.filter(|_| policy == OverloadPolicy::FastTier),
            fast: false,
            calm_since: None,
        }
    }

    /// True where the fast tier is to score a piece that came in at `received`.
    pub(super) fn is_fast(&mut self, received: Instant, now: Instant) -> bool {
        let Some(deadline) = self.deadline else {
            return false;
        };
        let age = now.saturating_duration_since(received);
        if age > deadline.mul_f64(ALARM) {
            self.fast = true;
            self.calm_since = None;
        } else if age < deadline.mul_f64(CALM) {
            let since = *self.calm_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= REST {
                self.fast = false;
            }
        } else {
            self.calm_since = None;
        }
        self.fast
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_millis(100);

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_fast_tier_needs_its_policy_and_a_deadline() {
        for (policy, deadline) in [
            (OverloadPolicy::FastTier, None),
            (OverloadPolicy::Block, Some(DEADLINE)),
        ] {
            let received = Instant::now();
            let late = received + millis(60_000);
            assert!(!Tier::new(policy, deadline).is_fast(received, late));
        }
    }

    #[test]
    fn the_fast_tier_stays_until_the_load_has_been_low_for_a_while() {
        let mut tier = Tier::new(OverloadPolicy::FastTier, Some(DEADLINE));
        let start = Instant::now();
        let mut at = |clock, age| {
            let now = start + millis(clock);
            tier.is_fast(now - millis(age), now)
        };
        assert!(!at(1000, 30));
        assert!(at(1100, 60));
        assert!(at(1200, 30));
        assert!(at(1300, 5));
        // In between the load rises to a middle level: the rest begins anew.
        assert!(at(2200, 20));
        assert!(at(2400, 5));
        assert!(at(3300, 5));
        assert!(!at(3400, 5));
    }
}
