//! What becomes of pieces that come faster than they can be scored.

use std::time::{Duration, Instant};

/// What becomes of bases whose calls cannot be written by their deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverloadPolicy {
    /// They are scored all the same, and the source is held back: a link by its credits, a pipe by
    /// its buffer.
    #[default]
    Block,
    /// Those just come in are shed while those before them take longer than the deadline.
    ShedNewest,
    /// Those that have waited too long are shed.
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

/// What a worker does with a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    Score,
    ScoreFast,
    Shed,
}

/// One worker's view of the load.
#[derive(Debug)]
pub(super) struct Overload {
    policy: OverloadPolicy,
    deadline: Option<Duration>,
    fast: bool,
    calm_since: Option<Instant>,
    /// Nanoseconds a base, a running mean.
    pace: f64,
}

impl Overload {
    pub(super) fn new(policy: OverloadPolicy, deadline: Option<Duration>) -> Overload {
        Overload {
            policy,
            deadline,
            fast: false,
            calm_since: None,
            pace: 0.0,
        }
    }

    /// True while the fast tier stands in.
    pub(super) fn is_fast(&self) -> bool {
        self.fast
    }

    pub(super) fn pace(&self) -> f64 {
        self.pace
    }

    /// What to do with a piece of `bases` that came in at `received`.
    pub(super) fn treat(&mut self, received: Instant, bases: usize, now: Instant) -> Treatment {
        let Some(deadline) = self.deadline else {
            return Treatment::Score;
        };
        let age = now.saturating_duration_since(received);
        let ready = age + Duration::from_nanos((self.pace * bases as f64) as u64);
        match self.policy {
            OverloadPolicy::ShedOldest if ready > deadline => Treatment::Shed,
            OverloadPolicy::FastTier => self.tier(age, deadline, now),
            _ => Treatment::Score,
        }
    }

    fn tier(&mut self, age: Duration, deadline: Duration, now: Instant) -> Treatment {
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
        if self.fast {
            Treatment::ScoreFast
        } else {
            Treatment::Score
        }
    }

    /// `bases` took `time`.
    pub(super) fn took(&mut self, bases: usize, time: Duration) {
        if bases > 0 {
            let own = time.as_nanos() as f64 / bases as f64;
            // A fifth each time: a few pieces are enough to learn it.
            self.pace += 0.2 * (own - self.pace);
        }
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
    fn without_a_deadline_everything_is_scored() {
        let mut load = Overload::new(OverloadPolicy::ShedOldest, None);
        let received = Instant::now();
        let treatment = load.treat(received, 400, received + millis(60_000));
        assert_eq!(treatment, Treatment::Score);
    }

    #[test]
    fn the_oldest_are_shed_when_waiting_and_scoring_pass_the_deadline() {
        let mut load = Overload::new(OverloadPolicy::ShedOldest, Some(DEADLINE));
        for _ in 0..100 {
            load.took(1000, millis(20));
        }
        let received = Instant::now();
        let at = |load: &mut Overload, n| load.treat(received, 1000, received + millis(n));
        assert_eq!(at(&mut load, 70), Treatment::Score);
        assert_eq!(at(&mut load, 90), Treatment::Shed);
    }

    #[test]
    fn the_fast_tier_stays_until_the_load_has_been_low_for_a_while() {
        let mut load = Overload::new(OverloadPolicy::FastTier, Some(DEADLINE));
        let start = Instant::now();
        let mut at = |clock, age| {
            let now = start + millis(clock);
            load.treat(now - millis(age), 400, now)
        };
        assert_eq!(at(1000, 30), Treatment::Score);
        assert_eq!(at(1100, 60), Treatment::ScoreFast);
        assert_eq!(at(1200, 30), Treatment::ScoreFast);
        assert_eq!(at(1300, 5), Treatment::ScoreFast);
        // In between the load rises to a middle level: the rest begins anew.
        assert_eq!(at(2200, 20), Treatment::ScoreFast);
        assert_eq!(at(2400, 5), Treatment::ScoreFast);
        assert_eq!(at(3300, 5), Treatment::ScoreFast);
        assert_eq!(at(3400, 5), Treatment::Score);
    }
}
