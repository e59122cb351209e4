//! The manifest: what a model is, how it is used, what is known of it. JSON inside the model file,
//! TOML as input of `pack`.

pub use super::genes::Cells;
use super::genes::{TASKS, check_outputs};
pub use super::tier::Tier;
pub use super::tokeniser::{Sequence, Tokeniser, Window};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The task of a network whose outputs are numbers and nothing else. What other tasks mean is known
/// to who uses the model; here they are names.
pub const RAW: &str = "raw";

/// How a raw output becomes a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// The output is a logit; the score is the logistic function of the calibrated logit.
    Logit,
    /// The output is a probability, such as that of a soft-max; the score is the calibrated one.
    Probability,
    /// The score is the output.
    Identity,
}

/// Precision of the weights of a packed model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Weights in eight bits, activations in seven (eight with a sign).
    Int8,
    /// Weights in half precision, arithmetic in f32.
    Fp16,
    /// Everything in f32, for comparison.
    F32,
}

impl FromStr for Precision {
    type Err = String;
    fn from_str(name: &str) -> Result<Precision, String> {
        match name {
            "int8" => Ok(Precision::Int8),
            "fp16" => Ok(Precision::Fp16),
            "f32" => Ok(Precision::F32),
            _ => Err(format!("no precision {name:?}: int8, fp16 or f32")),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Int8 => "int8",
            Precision::Fp16 => "fp16",
            Precision::F32 => "f32",
        })
    }
}

/// What every instruction set has in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reproducible {
    /// The scores, to the bit.
    Bits,
}

impl Reproducible {
    /// The name in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Reproducible::Bits => "bits",
        }
    }
}

impl fmt::Display for Reproducible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a file was compared with its network, where not by the bounds of its precision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checked {
    /// Not at all.
    Skipped,
    /// This cosine was enough.
    Cosine(f64),
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Checked::Skipped => f.write_str("no: packed with --no-check"),
            Checked::Cosine(least) => write!(f, "packed with --allow-difference {least}"),
        }
    }
}

/// What a network reads beyond the ends of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ends {
    /// Nothing: every layer takes what lies beyond for zeros, as convolutions that keep the length
    /// do in training.
    Masked,
    /// As many bases N as the context holds, through all layers: what a network was trained on
    /// whose windows are filled up with zeros.
    NPadded,
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ends::Masked => "masked",
            Ends::NPadded => "n-padded",
        })
    }
}

/// Positions on either side of one that its score depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Towards the beginning of the sequence.
    pub left: usize,
    /// Towards its end.
    pub right: usize,
}

/// One column of a model's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputColumn {
    /// Column header, such as `acceptor`.
    pub name: String,
    /// The name of what a call of it says; none for a task that makes no calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// In words, with the unit.
    pub meaning: String,
    /// From output to score.
    pub link: Link,
    /// Knots `[raw, calibrated]` of a piecewise linear map, raw ascending; empty for none. Beyond
    /// the ends the nearest segment goes on.
    #[serde(default)]
    pub calibration: Vec<[f32; 2]>,
    /// Knots where context is missing: the first entry counts whose `below` exceeds the positions
    /// between one and the nearer end of its sequence. Ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub short_context: Vec<ShortContext>,
    /// Default threshold of a call, as a score.
    #[serde(default)]
    pub threshold: f32,
    /// A call is the highest score within this many positions; also the lookahead of the call rule.
    #[serde(default)]
    pub separation: usize,
    /// How often the feature occurs where it could, in the population the calibration was fitted
    /// on. Where it could is up to the kind of the output.
    #[serde(default)]
    pub base_rate: f64,
}

/// The calibration of positions near an end of a sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShortContext {
    /// Fewer positions than this lie between the position and the nearer end.
    pub below: usize,
    /// Knots as in [`OutputColumn::calibration`].
    pub calibration: Vec<[f32; 2]>,
}

/// How a sequence of a fixed role is scored as a whole (`score --whole`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    /// Length of a window whose score is that of one position; other lengths take the highest.
    #[serde(default)]
    pub length: usize,
    /// That position, for each output.
    #[serde(default)]
    pub index: Vec<usize>,
    /// Knots as in [`OutputColumn::calibration`], for windows drawn half from either class; empty:
    /// as for calls.
    #[serde(default)]
    pub calibration: Vec<[f32; 2]>,
}

/// One layer as it was packed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The node's name.
    pub name: String,
    /// Our operator, or tract's where it could not be lowered.
    pub operator: String,
    /// Of the weights.
    pub precision: String,
    /// Scale of its output, where that is integer rows of one scale; without it and with a
    /// signal-to-noise ratio, each row has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_scale: Option<f32>,
    /// How far the rounding error of its integer rows lies below them on the calibration data, in
    /// decibels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_to_noise: Option<f32>,
    /// Multiply-accumulates a position of the input; all of them for a dense layer.
    pub macs: u64,
}

/// Two outputs of one network: a cheap one for every position, and a better one that `Tier::Auto`
/// takes only around positions that survive the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cascade {
    /// Columns of the network's first output, the fast tier's: the first of [`Manifest::outputs`].
    pub columns: usize,
    /// Context of the fast tier.
    pub context: Context,
    /// Raw output of the fast tier from which on a position survives, for each of its columns.
    pub survive: Vec<f32>,
}

/// Where the weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Data, teachers and their sources.
    pub data: String,
    /// What was held out, and by what rule.
    pub split: String,
    /// The recipe in the repository.
    pub recipe: String,
}

/// Everything a model says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Short name, such as `splice-fast`.
    pub name: String,
    /// Version of the weights.
    pub version: String,
    /// The name of what it predicts; [`RAW`] for numbers without a meaning.
    pub task: String,
    /// One sentence.
    pub description: String,
    /// Letters in the order of their codes; `ACGT`.
    pub alphabet: String,
    /// What the network reads.
    pub tokeniser: Tokeniser,
    /// Dependence of a score on its neighbours.
    pub context: Context,
    /// What lies beyond the ends of a sequence; absent for `masked`. `pack` states it: `n-padded`
    /// where a network's output is shorter than its input, unless the manifest says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Ends>,
    /// Positions from one score to the next; 1.
    pub stride: usize,
    /// Lengths must be a multiple of this, where the network has strides.
    #[serde(default = "one")]
    pub multiple: usize,
    /// Tokens of the shortest sequence that the network takes, found while it is packed.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub shortest: usize,
    /// Positions that are computed at once: bounds the memory of a worker.
    pub tile: usize,
    /// Columns of the output.
    pub outputs: Vec<OutputColumn>,
    /// Tiers, where the network has two outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cascade: Option<Cascade>,
    /// Scoring of whole windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Whole>,
    /// For models that score a sequence as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    /// For models whose tokens are made of letters; absent for as many bases as a tile holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// For models of cells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cells: Option<Cells>,
    /// Where the weights come from.
    pub training: Training,
    /// Licence of the weights.
    pub licence: String,
    /// Figures of the model card, by name.
    #[serde(default)]
    pub figures: BTreeMap<String, f64>,
    /// Precision asked for at packing.
    #[serde(default = "default_precision")]
    pub precision: Precision,
    /// With `int8`: decibels by which the rounding error of integer rows must lie below them on the
    /// calibration data. Rows with more noise stay float, and what reads them has weights in fp16.
    /// Absent for [`LEAST_SIGNAL_TO_NOISE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_snr: Option<f32>,
    /// What is the same on every instruction set, if anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reproducible: Option<Reproducible>,
    /// How far file and network may disagree, or that nobody has looked; absent where `pack` found
    /// them to agree as they should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Checked>,
    /// Every layer, written by `pack`.
    #[serde(default)]
    pub layers: Vec<LayerRecord>,
}

fn one() -> usize {
    1
}

fn is_one(value: &usize) -> bool {
    *value == 1
}

fn default_precision() -> Precision {
    Precision::Int8
}

/// Decibels that integer rows have at least, where no manifest says it: noise of a tenth of the
/// signal's amplitude.
pub const LEAST_SIGNAL_TO_NOISE: f32 = 20.0;

/// Longest context, separation and halo, largest tile and most columns that a file may ask for:
/// memory is bounded by what it says.
pub(super) const MOST_POSITIONS: usize = 1 << 20;

/// Most outputs; networks of thousands of tracks have some 20,000.
const MOST_OUTPUTS: usize = 1 << 15;

/// Most numbers of a tile, for the same reason.
const MOST_SCORES: usize = 1 << 26;

impl Manifest {
    /// Reads the TOML that `pack` takes.
    pub fn from_toml(text: &str) -> Result<Manifest, String> {
        let manifest: Manifest = toml::from_str(text).map_err(|e| e.to_string())?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// True where the outputs are numbers and nothing else.
    pub fn is_raw(&self) -> bool {
        self.task == RAW
    }

    /// True where every position has scores of its own, which depend on its context alone.
    pub fn is_scan(&self) -> bool {
        !self.is_raw() && self.sequence.is_none() && !self.tokeniser.reads_ids()
    }

    /// Decibels that integer rows have at least.
    pub fn least_signal_to_noise(&self) -> f32 {
        self.min_snr.unwrap_or(LEAST_SIGNAL_TO_NOISE)
    }

    /// Positions before and behind a sequence that are filled with N.
    pub fn padding(&self) -> [usize; 2] {
        match self.ends {
            Some(Ends::NPadded) => [self.context.left, self.context.right]
                .map(|side| side.next_multiple_of(self.multiple)),
            _ => [0, 0],
        }
    }

    /// Positions beyond one that must be there before its calls are certain: context and call
    /// rule together.
    pub fn lookahead(&self) -> usize {
        let separation = self.outputs.iter().map(|o| o.separation).max().unwrap_or(0);
        self.context.left.max(self.context.right) + separation
    }

    /// What a program sees that uses one tier: its columns, its context, its own name. The same
    /// where there is one tier only.
    pub fn of_tier(&self, tier: Tier) -> Manifest {
        let mut own = self.clone();
        let Some(cascade) = own.cascade.take() else {
            return own;
        };
        own.name = format!("{}-{}", self.name, tier.name());
        match tier {
            Tier::Fast => {
                own.outputs.truncate(cascade.columns);
                own.context = cascade.context;
            }
            Tier::Accurate | Tier::Auto => drop(own.outputs.drain(..cascade.columns)),
        }
        if let Some(whole) = &mut own.whole {
            whole.index = match tier {
                Tier::Fast => whole.index.iter().copied().take(cascade.columns).collect(),
                _ => whole.index.iter().copied().skip(cascade.columns).collect(),
            };
        }
        own
    }

    /// Multiply-accumulates: a position for a scan, the longest sequence for a model that
    /// scores sequences whole.
    pub fn macs(&self) -> u64 {
        let (pooled, rows): (Vec<_>, Vec<_>) = self
            .layers
            .iter()
            .partition(|layer| layer.operator == "strandline_dense");
        let sum = |layers: Vec<&LayerRecord>| layers.iter().map(|l| l.macs).sum::<u64>();
        let positions = match self.sequence {
            Some(_) => self.tile as u64,
            None => 1,
        };
        sum(pooled) + positions * sum(rows)
    }

    /// What [`Manifest::macs`] counts, in words.
    pub fn macs_unit(&self) -> &'static str {
        match (&self.sequence, self.is_raw() || self.tokeniser.reads_ids()) {
            _ if self.cells.is_some() => "a token, attention not counted",
            (Some(_), _) => "the longest sequence",
            (None, true) => "a position",
            (None, false) => "a base and strand",
        }
    }

    /// The reason why this cannot be used, if there is one.
    pub fn validate(&self) -> Result<(), String> {
        // They stand in tables, where a tab or a line end would be another column or row.
        let columns = self.outputs.iter().map(|output| &output.name);
        let names = [&self.name, &self.version, &self.task].into_iter();
        if let Some(name) = names.chain(columns).find(|n| n.contains(char::is_control)) {
            return Err(format!("{name:?}: a control character in a name"));
        }
        let known = match self.tokeniser {
            Tokeniser::Ids => self.is_raw(),
            Tokeniser::Genes => true,
            _ => self.alphabet == "ACGT",
        };
        if !known {
            return Err(format!(
                "alphabet {:?} with tokeniser \"{}\": only ACGT with one-hot and with those that \
                 read letters; ids for task raw",
                self.alphabet, self.tokeniser
            ));
        }
        if self.tokeniser.reads_ids() && self.sequence.is_some() {
            return Err("sequence: is for one-hot; with tokens it is window".into());
        }
        if let Some(window) = &self.window {
            if !self.tokeniser.reads_letters() {
                return Err("window: is for tokenisers that read letters".into());
            }
            if window.shortest == 0
                || window.shortest > window.longest
                || window.longest > MOST_POSITIONS
                || window.stride > window.longest
            {
                return Err(format!(
                    "window: 0 < shortest <= longest <= {MOST_POSITIONS}, stride <= longest"
                ));
            }
        }
        if self.cells.is_some() != (self.tokeniser == Tokeniser::Genes) {
            return Err("cells: is for the tokeniser \"genes\", which needs it".into());
        }
        if let Some(cells) = &self.cells {
            cells.validate()?;
            let names = self.outputs.iter().map(|output| &*output.name);
            check_outputs(&self.task, names)?;
            if !self.is_raw() && !TASKS.contains(&self.task.as_str()) {
                let (own, names) = (&self.task, TASKS.join(", "));
                return Err(format!("no task of cells {own:?}: {names} or {RAW}"));
            }
        }
        if self.multiple == 0 || !self.tile.is_multiple_of(self.multiple) {
            return Err(format!(
                "tile {} is no multiple of {}",
                self.tile, self.multiple
            ));
        }
        let (shortest, tile) = (self.shortest, self.tile);
        if !(1..=tile).contains(&shortest) {
            return Err(format!("shortest {shortest}: 1 to the tile, {tile}"));
        }
        if self.stride != 1 {
            return Err(format!("stride {}: only 1", self.stride));
        }
        if self.outputs.is_empty() || self.outputs.len() > MOST_OUTPUTS {
            return Err(format!(
                "{} outputs: 1 to {MOST_OUTPUTS}",
                self.outputs.len()
            ));
        }
        if self.sequence.is_none() && self.outputs.len().saturating_mul(self.tile) > MOST_SCORES {
            return Err(format!(
                "a tile of {} with {} outputs: at most {MOST_SCORES} numbers",
                self.tile,
                self.outputs.len()
            ));
        }
        let fixed = self.sequence.is_some() || self.tokeniser.reads_ids();
        if self.ends == Some(Ends::NPadded) && fixed {
            return Err("ends = \"n-padded\" is for networks with a row for every base".into());
        }
        if self.context.left > MOST_POSITIONS
            || self.context.right > MOST_POSITIONS
            || self.tile > MOST_POSITIONS
        {
            return Err(format!("context or tile above {MOST_POSITIONS}"));
        }
        let knots = self.outputs.iter().map(|o| &o.calibration);
        let short = self.outputs.iter().flat_map(|o| &o.short_context);
        let knots = knots.chain(short.map(|s| &s.calibration));
        for knots in knots.chain(self.whole.iter().map(|w| &w.calibration)) {
            let ascending = knots
                .windows(2)
                .all(|k| k[0][0] < k[1][0] && k[0][1] <= k[1][1]);
            let finite = knots.iter().flatten().all(|x| x.is_finite());
            if !ascending || !finite || knots.len() == 1 {
                return Err(
                    "calibration needs no knots or at least two, ascending and finite".into(),
                );
            }
        }
        for output in &self.outputs {
            if output.separation > MOST_POSITIONS {
                return Err(format!(
                    "output {}: separation above {MOST_POSITIONS}",
                    output.name
                ));
            }
            let ascending = |s: &[ShortContext]| s.windows(2).all(|s| s[0].below < s[1].below);
            let fits = self.is_scan() && ascending(&output.short_context);
            if !output.short_context.is_empty() && !fits {
                return Err(format!(
                    "output {}: short_context is for scanning tasks, below ascending",
                    output.name
                ));
            }
            if !output.threshold.is_finite() || !output.base_rate.is_finite() {
                return Err(format!("output {}: a figure is not finite", output.name));
            }
        }
        let free = self.is_raw() || self.tokeniser.reads_ids();
        match (&self.sequence, free) {
            (None, true) if self.tile == 0 => return Err("tile 0".into()),
            (None, true) => (),
            (Some(s), _) => {
                let most = s.longest.checked_next_multiple_of(s.multiple.max(1));
                if s.multiple == 0 || s.shortest == 0 || s.shortest > s.longest {
                    return Err("sequence: 0 < shortest <= longest, multiple > 0".into());
                }
                if most.is_none_or(|most| most > self.tile) {
                    return Err(format!("sequence: tile {} is too small", self.tile));
                }
            }
            (None, false) => {
                if self.tile < 2 * self.lookahead() + 64 {
                    return Err(format!(
                        "tile {} is too small for a context and separation of {}",
                        self.tile,
                        self.lookahead()
                    ));
                }
            }
        }
        if let Some(cascade) = &self.cascade {
            let columns = 1..self.outputs.len();
            if !self.is_scan()
                || !columns.contains(&cascade.columns)
                || cascade.survive.len() != cascade.columns
            {
                return Err("cascade: a scanning task, columns for both tiers, \
                    one least output a fast column"
                    .into());
            }
            let fits = cascade.context.left <= self.context.left
                && cascade.context.right <= self.context.right;
            if !fits || cascade.survive.iter().any(|least| least.is_nan()) {
                return Err("cascade: its context is no wider than the other tier's, \
                    its least outputs are numbers"
                    .into());
            }
        }
        if let Some(whole) = &self.whole
            && whole.length > 0
            && (whole.index.len() != self.outputs.len()
                || whole.index.iter().any(|index| *index >= whole.length))
        {
            return Err("whole: one index an output, inside the window".into());
        }
        Ok(())
    }
}
