//! Sequencing errors and the qualities that tell them: the uniform ones.

use super::profile::Profile;
use super::{DELETED, Errors, SimulatedRead};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

const SUBSTITUTIONS: f64 = 0.4;
const INSERTIONS: f64 = 0.2;
const DELETIONS: f64 = 0.4;
/// A base's own error rate as a multiple of the mean, each as likely; their mean is 1.
const SPREAD: [f64; 4] = [0.25, 0.5, 1.0, 2.25];
const LONGEST_RUN: usize = 8;
pub(super) const TWO_POW_32: f64 = 4_294_967_296.0;

/// The rates of one level of [`SPREAD`], in units of 2⁻³².
#[derive(Debug, Clone, Copy)]
struct Level {
    insertion: u64,
    substitution: u64,
    /// Times the base's weight, which has a mean of 1 over a read.
    deletion: f64,
    quality: u8,
}

#[derive(Debug)]
pub(super) enum ErrorModel {
    Uniform(Uniform),
    Profile(Box<Profile>),
}

impl ErrorModel {
    pub(super) fn new(errors: Errors, error_rate: f64) -> ErrorModel {
        match errors {
            Errors::Uniform => ErrorModel::Uniform(Uniform::new(error_rate)),
            Errors::Nanopore => ErrorModel::Profile(Box::new(Profile::new(error_rate))),
        }
    }

    /// Makes the read's bases, qualities and places from its template.
    pub(super) fn apply(&self, rng: &mut ChaCha8Rng, read: &mut SimulatedRead) {
        read.codes.clear();
        read.qualities.clear();
        read.places.clear();
        match self {
            ErrorModel::Uniform(uniform) => uniform.apply(rng, read),
            ErrorModel::Profile(profile) => profile.apply(rng, read),
        }
    }
}

#[derive(Debug)]
pub(super) struct Uniform {
    levels: [Level; 4],
}

impl Uniform {
    fn new(error_rate: f64) -> Uniform {
        Uniform {
            levels: SPREAD.map(|spread| {
                let rate = error_rate * spread;
                Level {
                    insertion: (rate * INSERTIONS * TWO_POW_32) as u64,
                    substitution: (rate * SUBSTITUTIONS * TWO_POW_32) as u64,
                    deletion: rate * DELETIONS * TWO_POW_32,
                    quality: phred(rate),
                }
            }),
        }
    }

    fn apply(&self, rng: &mut ChaCha8Rng, read: &mut SimulatedRead) {
        let SimulatedRead {
            template,
            codes,
            qualities,
            places,
            ..
        } = read;
        let weights: usize = runs(template)
            .map(|r| r.len() * r.len().min(LONGEST_RUN))
            .sum();
        let per_weight = template.len() as f64 / weights.max(1) as f64;
        for run in runs(template) {
            let weight = run.len().min(LONGEST_RUN) as f64 * per_weight;
            for &base in run {
                let bits = rng.next_u64();
                // The high half decides what happens, the low half at which level and with which
                // base.
                let (event, low) = (bits >> 32, bits as u32);
                let level = &self.levels[(low & 3) as usize];
                let inserted = level.insertion;
                let substituted = inserted + level.substitution;
                let deleted = substituted + (level.deletion * weight) as u64;
                if (substituted..deleted).contains(&event) {
                    places.push(DELETED);
                    continue;
                }
                if event < inserted {
                    codes.push((low >> 2 & 3) as u8);
                    qualities.push(level.quality);
                }
                // A substitute is one of the three other bases.
                let step = if (inserted..substituted).contains(&event) {
                    1 + ((u64::from(low >> 2) * 3) >> 30) as u8
                } else {
                    0
                };
                places.push(codes.len() as u32);
                codes.push(if step > 0 { (base + step) & 3 } else { base });
                qualities.push(level.quality);
            }
        }
    }
}

/// The homopolymers of `codes`, one base long or more.
pub(super) fn runs(codes: &[u8]) -> impl Iterator<Item = &[u8]> {
    codes.chunk_by(|a, b| a == b)
}

/// The Phred quality nearest to an error probability, 2 to 50.
pub(super) fn phred(probability: f64) -> u8 {
    // Upwards from the probability half a step above quality 2, a step at a time.
    const STEP: f64 = 0.794_328_234_724_281_5;
    let mut bound = 0.562_341_325_190_349_1;
    let mut quality = 2;
    while quality < 50 && probability < bound {
        quality += 1;
        bound *= STEP;
    }
    quality
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualities_are_phred() {
        for quality in 2..=50u8 {
            let probability = 10f64.powf(-f64::from(quality) / 10.0);
            assert_eq!(phred(probability), quality);
            assert_eq!(phred(probability * 1.11), quality);
            assert_eq!(phred(probability / 1.11), quality);
        }
        assert_eq!(phred(0.0), 50);
        assert_eq!(phred(1.0), 2);
    }

    #[test]
    fn runs_cover_the_sequence() {
        let found: Vec<_> = runs(&[0, 0, 1, 4, 4, 4]).collect();
        assert_eq!(found, [&[0, 0][..], &[1], &[4, 4, 4]]);
    }
}
