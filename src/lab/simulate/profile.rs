//! Errors as real nanopore reads have them: in patches, more of them in some reads than in others,
//! and of the lengths and letters of a table that `models/train/error_profile.py` measures.

use super::errors::{TWO_POW_32, phred, runs};
use super::{DELETED, SimulatedRead};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use serde::Deserialize;

const TABLE: &str = include_str!("nanopore.toml");
/// The most of a patch's bases that are wrong; beyond it there is no read left to speak of.
const MOST: f64 = 0.5;

/// What `nanopore.toml` says. Its lists are indexed by base, by length - 1 or by run - 1.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    /// Wrong bases a base of the reference, in the reads that were measured.
    rate: f64,
    /// Substituted, inserted and deleted bases among the wrong ones.
    shares: [f64; 3],
    /// How often each base turns into each; over the measured bases the mean of a row is 1.
    substitutes: [[f64; 4]; 4],
    insertion_lengths: Vec<f64>,
    deletion_lengths: Vec<f64>,
    /// How often a deletion begins at a base of a homopolymer of n, relative to one of 1.
    deletions_by_run: Vec<f64>,
    /// Rates of reads, each as likely; their mean is 1.
    reads: [f64; 8],
    rough: Patches,
}

/// The patches that errors come in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patches {
    /// Of all bases.
    share: f64,
    /// How much more often a base is wrong there than elsewhere.
    times: f64,
    /// The chance that a patch ends with a base.
    leave: f64,
}

/// Chances in units of 2⁻³², of a read and patch.
#[derive(Debug, Clone, Copy)]
struct Level {
    insertion: u64,
    /// Times the base's weight, which has a mean of 1 over a read.
    substitution: f64,
    /// That a deletion begins, outside of homopolymers.
    deletion: f64,
    quality: u8,
}

#[derive(Debug)]
pub(super) struct Profile {
    /// By read, calm and rough.
    levels: [[Level; 2]; 8],
    /// By read, the mean chance in units of 2⁻³² that a deletion begins.
    deletions: [f64; 8],
    /// Chances in units of 2⁻³²: that a base is in a rough patch, and that one begins or ends.
    rough: u64,
    enter: u64,
    leave: u64,
    /// For each base the chances of its three substitutes, cumulative: of A those of C, G and T.
    substitutes: [[u64; 3]; 4],
    /// How often each base is substituted.
    substituted: [f64; 4],
    insertion_lengths: Vec<u64>,
    deletion_lengths: Vec<u64>,
    deletions_by_run: Vec<f64>,
}

impl Profile {
    pub(super) fn new(error_rate: f64) -> Profile {
        let shape = shape();
        let scale = scale(&shape, error_rate);
        let mean_length = |shares: &[f64]| -> f64 {
            let lengths = (1..).map(f64::from);
            shares.iter().zip(lengths).map(|(s, n)| s * n).sum::<f64>() / shares.iter().sum::<f64>()
        };
        let [substituted, inserted, deleted] = shape.shares;
        let insertion = mean_length(&shape.insertion_lengths);
        let deletion = mean_length(&shape.deletion_lengths);
        let level = |rate: f64| {
            let gone = rate * deleted;
            // A deletion begins where none goes on; the rest happens to the bases that are left.
            let begin = gone / (deletion - gone * (deletion - 1.0));
            let exposed = 1.0 / (1.0 + begin * (deletion - 1.0));
            let left = exposed * (1.0 - begin);
            Level {
                insertion: (rate * inserted / insertion / exposed * TWO_POW_32) as u64,
                substitution: rate * substituted / left * TWO_POW_32,
                deletion: begin * TWO_POW_32,
                quality: phred(rate),
            }
        };
        let Patches { share, leave, .. } = shape.rough;
        let rows = shape.substitutes;
        let levels =
            rates(&shape).map(|of_read| of_read.map(|rate| level((rate * scale).min(MOST))));
        Profile {
            deletions: levels
                .map(|[calm, rough]| (1.0 - share) * calm.deletion + share * rough.deletion),
            levels,
            rough: (share * TWO_POW_32) as u64,
            enter: (leave * share / (1.0 - share) * TWO_POW_32) as u64,
            leave: (leave * TWO_POW_32) as u64,
            substitutes: [0, 1, 2, 3].map(|base: usize| {
                let row = cumulative(&[1, 2, 3].map(|step| rows[base][(base + step) & 3]));
                [row[0], row[1], row[2]]
            }),
            substituted: rows.map(|row| row.iter().sum()),
            insertion_lengths: cumulative(&shape.insertion_lengths),
            deletion_lengths: cumulative(&shape.deletion_lengths),
            deletions_by_run: shape.deletions_by_run,
        }
    }

    /// Adds the read's bases, qualities and places, made from its template.
    pub(super) fn apply(&self, rng: &mut ChaCha8Rng, read: &mut SimulatedRead) {
        let SimulatedRead {
            template,
            codes,
            qualities,
            places,
            ..
        } = read;
        let bases = template.len().max(1) as f64;
        let of_run =
            |run: &[u8]| self.deletions_by_run[run.len().min(self.deletions_by_run.len()) - 1];
        let of_base = |base: u8| {
            self.substituted
                .get(usize::from(base))
                .copied()
                .unwrap_or(0.0)
        };
        let runs_weigh: f64 = runs(template).map(|r| of_run(r) * r.len() as f64).sum();
        let bases_weigh: f64 = template.iter().map(|&base| of_base(base)).sum();
        let per_base = if bases_weigh > 0.0 {
            bases / bases_weigh
        } else {
            0.0
        };

        let rate = (rng.next_u32() >> 29) as usize;
        let (levels, deletions) = (&self.levels[rate], self.deletions[rate]);
        let mut rough = happens(rng, self.rough);
        let mut going = 0;
        for run in runs(template) {
            let (weight, of_all) = (of_run(run), bases / runs_weigh);
            for &base in run {
                let bits = rng.next_u64();
                // The high half decides what happens, the low half where the patch ends.
                let (event, low) = (bits >> 32, bits & 0xffff_ffff);
                rough ^= low < if rough { self.leave } else { self.enter };
                if going > 0 {
                    going -= 1;
                    places.push(DELETED);
                    continue;
                }
                let level = &levels[usize::from(rough)];
                // What a homopolymer adds, it adds in patches of either kind alike.
                let deleted = ((level.deletion + deletions * (weight - 1.0)) * of_all) as u64;
                let inserted = deleted + level.insertion;
                let substituted = inserted + (level.substitution * of_base(base) * per_base) as u64;
                if event < deleted {
                    going = length(rng, &self.deletion_lengths) - 1;
                    places.push(DELETED);
                    continue;
                }
                if event < inserted {
                    for _ in 0..length(rng, &self.insertion_lengths) {
                        codes.push((rng.next_u32() >> 30) as u8);
                        qualities.push(level.quality);
                    }
                }
                places.push(codes.len() as u32);
                codes.push(if (inserted..substituted).contains(&event) {
                    let chosen = pick(rng, &self.substitutes[usize::from(base)]);
                    (base + 1 + chosen as u8) & 3
                } else {
                    base
                });
                qualities.push(level.quality);
            }
        }
    }
}

/// The rate of the reads that were measured.
pub(super) fn measured_rate() -> f64 {
    shape().rate
}

fn shape() -> Shape {
    toml::from_str(TABLE).expect("a built-in table")
}

/// Rates by read, calm and rough, with a mean of 1.
fn rates(shape: &Shape) -> [[f64; 2]; 8] {
    let Patches { share, times, .. } = shape.rough;
    let calm = 1.0 / (1.0 + share * (times - 1.0));
    shape.reads.map(|read| [read * calm, read * calm * times])
}

/// What the rates are multiplied by for a mean of `wanted` with none above [`MOST`].
fn scale(shape: &Shape, wanted: f64) -> f64 {
    let rates = rates(shape);
    let share = shape.rough.share;
    let mean = |scale: f64| -> f64 {
        let of_read = |[calm, rough]: [f64; 2]| {
            (1.0 - share) * (calm * scale).min(MOST) + share * (rough * scale).min(MOST)
        };
        rates.map(of_read).iter().sum::<f64>() / rates.len() as f64
    };
    let (mut low, mut high) = (0.0, wanted);
    while mean(high) < wanted {
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if mean(middle) < wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Cumulative chances in units of 2⁻³², the last of them 1.
fn cumulative(shares: &[f64]) -> Vec<u64> {
    let total: f64 = shares.iter().sum();
    let mut sum = 0.0;
    let mut bounds: Vec<u64> = shares
        .iter()
        .map(|share| {
            sum += share;
            (sum / total * TWO_POW_32) as u64
        })
        .collect();
    if let Some(last) = bounds.last_mut() {
        *last = TWO_POW_32 as u64;
    }
    bounds
}

fn happens(rng: &mut ChaCha8Rng, chance: u64) -> bool {
    u64::from(rng.next_u32()) < chance
}

/// An index of `bounds`, each as likely as they say.
fn pick(rng: &mut ChaCha8Rng, bounds: &[u64]) -> usize {
    let drawn = u64::from(rng.next_u32());
    bounds.partition_point(|&bound| bound <= drawn)
}

fn length(rng: &mut ChaCha8Rng, bounds: &[u64]) -> usize {
    1 + pick(rng, bounds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::simulate::{Errors, SimulationConfig, Simulator};
    use crate::lab::truth::GeneSites;
    use rand_chacha::rand_core::SeedableRng;

    /// Reads of a gene of random bases, of which a tenth stands in homopolymers.
    fn simulator(error_rate: f64) -> Simulator {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut codes = Vec::new();
        while codes.len() < 200_000 {
            let base = (rng.next_u32() >> 30) as u8;
            let run = if rng.next_u32() % 40 == 0 { 6 } else { 1 };
            codes.extend([base].repeat(run));
        }
        let config = SimulationConfig {
            reads: 0,
            error_rate,
            errors: Errors::Nanopore,
            seed: 5,
        };
        Simulator::new([("g".to_owned(), codes)], &GeneSites::default(), config).unwrap()
    }

    /// What became of 600 reads.
    #[derive(Default)]
    struct Seen {
        bases: f64,
        substituted: f64,
        inserted: f64,
        deleted: f64,
        stated: f64,
        read_bases: f64,
        /// A to G, A to T.
        of_a: [f64; 2],
        /// Deletions begun, bases: outside of homopolymers and in those of six.
        begun: [[f64; 2]; 2],
        events: f64,
        /// Events with another one among the five bases that follow.
        followed: f64,
    }

    fn seen(rate: f64) -> Seen {
        let simulator = simulator(rate);
        let (mut seen, mut read) = (Seen::default(), SimulatedRead::default());
        for index in 0..600 {
            simulator.read(index, &mut read);
            let mut next = 0;
            let mut gone = false;
            let mut places = Vec::new();
            let mut position = 0;
            for run in runs(&read.template) {
                for &base in run {
                    let place = read.places[position];
                    let mut event = false;
                    if place == DELETED {
                        seen.deleted += 1.0;
                        event = !gone;
                    } else {
                        let inserted = place as usize - next;
                        seen.inserted += inserted as f64;
                        let code = read.codes[place as usize];
                        seen.substituted += f64::from(u8::from(code != base));
                        if base == 0 && code != 0 && code != 1 {
                            seen.of_a[usize::from(code) - 2] += 1.0;
                        }
                        event |= inserted > 0 || code != base;
                        next = place as usize + 1;
                    }
                    if run.len() == 1 || run.len() == 6 {
                        let kind = &mut seen.begun[usize::from(run.len() == 6)];
                        kind[0] += f64::from(u8::from(place == DELETED && !gone));
                        kind[1] += 1.0;
                    }
                    gone = place == DELETED;
                    if event {
                        places.push(position);
                    }
                    position += 1;
                }
            }
            seen.bases += position as f64;
            seen.events += places.len() as f64;
            let near = |pair: &&[usize]| pair[1] - pair[0] <= 5;
            seen.followed += places.windows(2).filter(near).count() as f64;
            assert_eq!(read.qualities.len(), read.codes.len());
            seen.read_bases += read.codes.len() as f64;
            let wrong = |&quality: &u8| 10f64.powf(-f64::from(quality) / 10.0);
            seen.stated += read.qualities.iter().map(wrong).sum::<f64>();
        }
        seen
    }

    #[test]
    fn reads_have_the_errors_of_the_profile() {
        let shape = shape();
        for rate in [0.005, measured_rate(), 0.05, 0.15] {
            let seen = seen(rate);
            let close = |found: f64, wanted: f64, within: f64| {
                let off = (found / wanted - 1.0).abs();
                assert!(off < within, "at {rate}: {found}, not {wanted}");
            };
            let all = seen.substituted + seen.inserted + seen.deleted;
            close(all / seen.bases, rate, 0.06);
            close(seen.substituted / all, shape.shares[0], 0.06);
            close(seen.inserted / all, shape.shares[1], 0.06);
            close(seen.deleted / all, shape.shares[2], 0.06);
            // Deleted bases have no quality to tell their share.
            close(seen.stated / seen.read_bases, rate, 0.2);
            let wanted = shape.substitutes[0][2] / shape.substitutes[0][3];
            close(seen.of_a[0] / seen.of_a[1], wanted, 0.2);
            let [single, six] = seen.begun.map(|[begun, bases]| begun / bases);
            close(six / single, shape.deletions_by_run[5], 0.2);
        }
    }

    #[test]
    fn the_usual_rate_is_what_the_help_says() {
        assert_eq!(measured_rate(), 0.0172);
    }

    #[test]
    fn errors_come_in_patches() {
        let seen = seen(measured_rate());
        let rate = seen.events / seen.bases;
        let times = seen.followed / seen.events / (1.0 - (1.0 - rate).powi(5));
        // 7 to 8 in the reads that were measured.
        assert!((6.0..10.0).contains(&times), "{times}");
    }

    #[test]
    fn no_rate_leaves_the_read_as_it_is() {
        let (simulator, mut read) = (simulator(0.0), SimulatedRead::default());
        simulator.read(0, &mut read);
        assert_eq!(read.codes, read.template);
        assert!(read.qualities.iter().all(|&quality| quality == 50));
    }

    #[test]
    fn unknown_bases_stay_unknown() {
        let config = SimulationConfig {
            reads: 0,
            error_rate: 0.1,
            errors: Errors::Nanopore,
            seed: 1,
        };
        let genes = [("n".to_owned(), vec![4; 5000])];
        let simulator = Simulator::new(genes, &GeneSites::default(), config).unwrap();
        let mut read = SimulatedRead::default();
        simulator.read(0, &mut read);
        let of_gene = read.places.iter().filter(|&&place| place != DELETED);
        assert!(of_gene.clone().count() > 100);
        assert!(
            of_gene
                .clone()
                .all(|&place| read.codes[place as usize] == 4)
        );
    }

    #[test]
    fn the_same_bytes_on_every_platform() {
        let (simulator, mut read) = (simulator(0.07), SimulatedRead::default());
        let mut bytes = Vec::new();
        for index in 0..40 {
            simulator.read(index, &mut read);
            read.write_fastq(&mut bytes).unwrap();
        }
        // Pins the bytes of this version.
        assert_eq!(&blake3::hash(&bytes).to_hex()[..16], "3f1334df63cfa9cc");
    }
}
