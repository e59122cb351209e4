//! Raw output to score: a piecewise linear map from the model's manifest, then the link.

use crate::model::manifest::Link;
use crate::model::sigmoid;

/// The map of one output column.
#[derive(Debug, Clone)]
pub struct Calibration {
    knots: Vec<[f32; 2]>,
    link: Link,
    /// Added to a calibrated logit.
    shift: f32,
    /// Multiplied to the odds of a calibrated probability.
    odds: f32,
}

impl Calibration {
    /// A map through `knots`, `[raw, calibrated]` with raw ascending; none for the identity.
    pub fn new(knots: &[[f32; 2]], link: Link) -> Calibration {
        Calibration {
            knots: knots.to_vec(),
            link,
            shift: 0.0,
            odds: 1.0,
        }
    }

    /// The same where the feature is as frequent as `prior` and not as `base_rate`, both above 0
    /// and below 1: the odds change by the ratio of the two rates' odds. Nothing changes for a
    /// score that is no probability.
    pub fn with_prior(mut self, prior: f64, base_rate: f64) -> Calibration {
        let odds = |p: f64| p / (1.0 - p);
        match self.link {
            Link::Logit => self.shift = (odds(prior).ln() - odds(base_rate).ln()) as f32,
            Link::Probability => self.odds = (odds(prior) / odds(base_rate)) as f32,
            Link::Identity => {}
        }
        self
    }

    /// The score of a raw output. Never falls where `raw` rises.
    pub fn score(&self, raw: f32) -> f32 {
        let y = match self.segment(raw) {
            None => raw,
            Some(([x0, y0], [x1, y1])) => {
                let slope = (y1 - y0) / (x1 - x0);
                (raw - x0).mul_add(slope, y0)
            }
        };
        match self.link {
            Link::Logit => sigmoid(y + self.shift),
            // Without a logarithm, which is not the same to the bit everywhere.
            Link::Probability => {
                let p = y.clamp(0.0, 1.0);
                p * self.odds / (1.0 - p + p * self.odds)
            }
            Link::Identity => y,
        }
    }

    fn segment(&self, raw: f32) -> Option<([f32; 2], [f32; 2])> {
        let last = self.knots.len().checked_sub(2)?;
        let at = self.knots[1..=last]
            .iter()
            .take_while(|k| raw >= k[0])
            .count();
        Some((self.knots[at], self.knots[at + 1]))
    }

    /// A raw output below which no score reaches `score`, a little on the safe side: a cheap first
    /// test.
    pub fn raw_floor(&self, score: f32) -> f32 {
        let (mut low, mut high) = (-1e4f32, 1e4f32);
        if self.score(low) >= score {
            return f32::NEG_INFINITY;
        }
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if self.score(middle) >= score {
                high = middle;
            } else {
                low = middle;
            }
        }
        low - 1e-3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_join_and_go_on_beyond_the_ends() {
        let knots = [[-2.0, -4.0], [0.0, 0.0], [2.0, 1.0]];
        let identity = Calibration::new(&knots, Link::Identity);
        for (raw, expected) in [
            (-3.0, -6.0),
            (-1.0, -2.0),
            (0.0, 0.0),
            (1.0, 0.5),
            (4.0, 2.0),
        ] {
            assert_eq!(identity.score(raw), expected);
        }
        let logit = Calibration::new(&knots, Link::Logit);
        assert_eq!(logit.score(0.0), 0.5);
        assert_eq!(Calibration::new(&[], Link::Identity).score(3.25), 3.25);
    }

    #[test]
    fn a_prior_scales_the_odds() {
        let logit = Calibration::new(&[], Link::Logit).with_prior(0.001, 0.01);
        let odds = |p: f32| f64::from(p) / (1.0 - f64::from(p));
        let expected = odds(sigmoid(1.5)) * (0.001 / 0.999) / (0.01 / 0.99);
        assert!((odds(logit.score(1.5)) / expected - 1.0).abs() < 1e-5);
        let probability = Calibration::new(&[], Link::Probability);
        for p in [0.0, 0.25, 1.0] {
            assert_eq!(probability.score(p), p);
        }
        assert_eq!(
            (probability.score(-3.0), probability.score(7.0)),
            (0.0, 1.0)
        );
        let rarer = probability.with_prior(0.001, 0.01);
        assert!((odds(rarer.score(sigmoid(1.5))) / expected - 1.0).abs() < 1e-5);
        assert_eq!(
            Calibration::new(&[], Link::Identity)
                .with_prior(0.001, 0.01)
                .score(1.5),
            1.5
        );
    }

    #[test]
    fn nothing_below_the_floor_reaches_the_score() {
        let logit = Calibration::new(&[[-2.0, -4.0], [2.0, 1.0]], Link::Logit);
        for score in [0.001, 0.1, 0.5, 0.9] {
            let floor = logit.raw_floor(score);
            assert!(logit.score(floor) < score);
            assert!(logit.score(floor + 2e-3) >= score);
        }
        assert_eq!(logit.raw_floor(0.0), f32::NEG_INFINITY);
    }
}
