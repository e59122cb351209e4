//! What options take: words, times, rates.

use crate::annotate::{Clade, Molecule, Priors, Strands};
use crate::call::CallKind;
use crate::lab::bench::Scenario;
use crate::model::manifest::Tier;
use crate::sink::{Format, UnknownFormat};
use crate::stream::batch::PipelineConfig;
use crate::stream::live::OverloadPolicy;
use clap::ValueEnum;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MoleculeArgument {
    /// Genomic DNA: splice sites and promoters, both strands
    Dna,
    /// RNA: 5'UTR expression, forward strand, calls flagged 5p-unverified
    Rna,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StrandArgument {
    /// Both strands
    Both,
    /// The read as it is
    Forward,
    /// Its reverse complement
    Reverse,
}

/// What becomes of a sequence that is longer than a model's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LongArgument {
    /// One line: the mean of all windows
    Mean,
    /// A line for each window
    Windows,
}

impl MoleculeArgument {
    /// The molecule, and its strands: those named, or else its default.
    pub fn with_strands(self, strand: Option<StrandArgument>) -> (Molecule, Strands) {
        let strand = strand.map(Strands::from);
        match self {
            MoleculeArgument::Dna => (Molecule::Dna, strand.unwrap_or(Strands::Both)),
            MoleculeArgument::Rna => (Molecule::Rna, strand.unwrap_or(Strands::Forward)),
        }
    }
}

impl From<StrandArgument> for Strands {
    fn from(strand: StrandArgument) -> Strands {
        match strand {
            StrandArgument::Both => Strands::Both,
            StrandArgument::Forward => Strands::Forward,
            StrandArgument::Reverse => Strands::Reverse,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TierArgument {
    /// The cheap network everywhere
    Fast,
    /// The better one everywhere
    Accurate,
    /// The cheap one everywhere, the better one around what survives it
    Auto,
}

impl From<TierArgument> for Tier {
    fn from(tier: TierArgument) -> Tier {
        match tier {
            TierArgument::Fast => Tier::Fast,
            TierArgument::Accurate => Tier::Accurate,
            TierArgument::Auto => Tier::Auto,
        }
    }
}

/// A clade, or what the reads tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CladeArgument {
    Named(Clade),
    Auto,
}

impl CladeArgument {
    /// The clade, if it is named.
    pub fn named(self) -> Option<Clade> {
        match self {
            CladeArgument::Named(clade) => Some(clade),
            CladeArgument::Auto => None,
        }
    }
}

impl std::str::FromStr for CladeArgument {
    type Err = String;

    fn from_str(name: &str) -> Result<CladeArgument, String> {
        match name {
            "auto" => Ok(CladeArgument::Auto),
            name => match name.parse() {
                Ok(clade) => Ok(CladeArgument::Named(clade)),
                Err(error) => Err(format!("{error}, or auto")),
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OrderArgument {
    /// In the order of the input: the same output whatever the number of threads
    Input,
    /// As reads finish
    Ready,
    /// All inputs at once, each call as soon as it is certain; calls of different reads mix
    Live,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OverloadArgument {
    /// Everything is scored; the source is held back
    Block,
    /// Reads are begun where there is room; the youngest is given up if the deadline is missed
    ShedNewest,
    /// The same, but the read with most bases waiting is given up
    ShedOldest,
    /// The fast tier stands in for the one asked for
    FastTier,
}

impl From<OverloadArgument> for OverloadPolicy {
    fn from(policy: OverloadArgument) -> OverloadPolicy {
        match policy {
            OverloadArgument::Block => OverloadPolicy::Block,
            OverloadArgument::ShedNewest => OverloadPolicy::ShedNewest,
            OverloadArgument::ShedOldest => OverloadPolicy::ShedOldest,
            OverloadArgument::FastTier => OverloadPolicy::FastTier,
        }
    }
}

/// What `annotate` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// Calls alone.
    Calls(Format),
    /// Records with their calls.
    Bam,
}

impl OutputFormat {
    /// The format of calls alone.
    pub fn of_calls(self) -> Option<Format> {
        match self {
            OutputFormat::Calls(format) => Some(format),
            OutputFormat::Bam => None,
        }
    }
}

impl std::str::FromStr for OutputFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<OutputFormat, String> {
        match name {
            "bam" => Ok(OutputFormat::Bam),
            "parquet" if cfg!(not(feature = "parquet")) => Err(
                "this build lacks `parquet`: build it with `cargo build --release --features \
                 parquet`"
                    .to_string(),
            ),
            name => name
                .parse()
                .map(OutputFormat::Calls)
                .map_err(|e: UnknownFormat| format!("{e}, or bam")),
        }
    }
}

impl std::fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OutputFormat::Calls(format) => format.fmt(f),
            OutputFormat::Bam => f.pad("bam"),
        }
    }
}

/// The format that a file's name ends with, if another one is written to it.
pub fn other_format(file: &Path, written: OutputFormat) -> Option<OutputFormat> {
    let named = match file.extension()?.to_str()? {
        "gff" => "gff3",
        name => name,
    };
    let named = named.parse().ok();
    named.filter(|named: &OutputFormat| *named != written)
}

/// Seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    time(text).map(Duration::from_secs_f64)
}

/// Milliseconds.
pub fn milliseconds(text: &str) -> Result<Duration, String> {
    time(text).map(|time| Duration::from_secs_f64(time / 1000.0))
}

/// Where something is served. What leaves this machine is to be asked for, as for links.
pub fn served_on(text: &str) -> Result<SocketAddr, String> {
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    let any = query == "bind=any";
    if !any && !query.is_empty() {
        return Err(format!("`{query}` is no option of an address"));
    }
    let address: SocketAddr = address
        .parse()
        .map_err(|_| "an address and a port, such as 127.0.0.1:9100".to_string())?;
    if !any && !is_of_this_machine(address.ip()) {
        return Err("this address can be reached from other machines: \
             add ?bind=any if that is meant"
            .to_string());
    }
    Ok(address)
}

fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// A number of workers; without one, as many as there are cores.
pub fn workers(threads: Option<u16>) -> usize {
    match threads {
        Some(threads) => threads.into(),
        None => PipelineConfig::default().threads,
    }
}

/// What reading a foreign network may take: `60s,4GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// For the reading, and for each sample.
    pub time: Duration,
    /// In bytes, for all.
    pub memory: u64,
}

impl std::str::FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Budget, String> {
        let split = text.split_once(',').and_then(|(time, memory)| {
            let time = seconds(time.strip_suffix('s')?).ok()?;
            let (number, unit) = match memory.strip_suffix("GB") {
                Some(number) => (number, 1e9),
                None => (memory.strip_suffix("MB")?, 1e6),
            };
            let memory = (self::time(number).ok()? * unit) as u64;
            Some(Budget { time, memory })
        });
        split.ok_or_else(|| "seconds and GB or MB, such as 60s,4GB".to_string())
    }
}

/// A serial port or a socket, not a file.
pub fn is_link(argument: &Path) -> bool {
    argument.to_str().is_some_and(|text| text.contains("://"))
}

/// A cosine that outputs may have.
pub fn cosine(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(cosine) if (-1.0..=1.0).contains(&cosine) => Ok(cosine),
        _ => Err("a number from -1 to 1".to_string()),
    }
}

/// A time or a rate.
pub fn time(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(time) if time > 0.0 && time < 1e9 => Ok(time),
        _ => Err("a number above 0".to_string()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScenarioArgument {
    /// One chunk after another: the least latency
    Single,
    /// A flow cell by a schedule made in advance: can it be followed?
    Multi,
    /// Compressed reads as fast as they can be read: throughput
    Offline,
    /// The most channels that one thread follows, found by search
    Channels,
}

impl From<ScenarioArgument> for Scenario {
    fn from(scenario: ScenarioArgument) -> Scenario {
        match scenario {
            ScenarioArgument::Single => Scenario::SingleStream,
            ScenarioArgument::Multi => Scenario::MultiStream,
            ScenarioArgument::Offline => Scenario::Offline,
            ScenarioArgument::Channels => Scenario::Channels,
        }
    }
}

/// Keys that every object of JSON Lines has.
const KEYS: [&str; 9] = [
    "read", "start", "end", "strand", "kind", "score", "model", "version", "flags",
];

/// `KEY=VALUE`, with a key of its own.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if key.is_empty() || !key.chars().all(is_name) || !text.contains('=') {
        return Err("KEY=VALUE, the key of letters, digits and _, such as sample=P7".to_string());
    }
    if KEYS.contains(&key) {
        return Err(format!("{key} is a field that every call has"));
    }
    Ok((key.to_string(), value.to_string()))
}

/// `FROM-TO`, from 1, both included.
pub fn numbers(text: &str) -> Result<Range<u64>, String> {
    let split = text.split_once('-').and_then(|(from, to)| {
        let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
        (1 <= from && from <= to).then(|| from - 1..to)
    });
    split.ok_or_else(|| "FROM-TO, the first from 1, such as 1-1000".to_string())
}

/// A score that is a probability.
pub fn probability(text: &str) -> Result<f32, String> {
    let number = text.parse().ok();
    let probability = number.filter(|number| (0.0..=1.0).contains(number));
    probability.ok_or_else(|| "a probability, from 0 to 1".to_string())
}

/// `KIND=RATE`.
pub fn prior(text: &str) -> Result<(CallKind, f64), String> {
    Priors::parse(text).ok_or_else(|| "KIND=RATE, such as donor=0.0005".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_time_and_memory() {
        let budget = |time, memory| Budget {
            time: Duration::from_secs_f64(time),
            memory,
        };
        assert_eq!("60s,4GB".parse(), Ok(budget(60.0, 4_000_000_000)));
        assert_eq!("0.5s,200MB".parse(), Ok(budget(0.5, 200_000_000)));
        for wrong in [
            "60s", "4GB", "60,4", "s,GB", "-1s,4GB", "60s,0GB", "60s,4TB",
        ] {
            assert!(wrong.parse::<Budget>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_is_named_after_what_it_holds() {
        let (tsv, bed) = (Format::Tsv, Format::Bed);
        let [tsv, bed] = [tsv, bed].map(OutputFormat::Calls);
        let other = |file: &str, written| other_format(Path::new(file), written);
        assert_eq!(other("a.bed", tsv), Some(bed));
        assert_eq!(other("a.bam", bed), Some(OutputFormat::Bam));
        let gff = OutputFormat::Calls(Format::Gff3);
        assert_eq!(other("a.gff", tsv), Some(gff));
        for (file, written) in [("a.bed", bed), ("a.gff", gff), ("a.txt", tsv), ("bed", tsv)] {
            assert_eq!(other(file, written), None, "{file}");
        }
    }

    #[test]
    fn labels_have_keys_of_their_own() {
        let pair = |key: &str, value: &str| Ok((key.to_string(), value.to_string()));
        assert_eq!(label("sample=P7"), pair("sample", "P7"));
        assert_eq!(label("run_2=a=\"b\""), pair("run_2", "a=\"b\""));
        assert_eq!(label("note="), pair("note", ""));
        for wrong in ["sample", "=x", "a b=x", "é=x", "score=1"] {
            assert!(label(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_from_one_and_both_included() {
        assert_eq!(numbers("1-1"), Ok(0..1));
        assert_eq!(numbers("5-12"), Ok(4..12));
        for wrong in ["0-3", "3-2", "5", "-5", "5-", "a-b", "1-2-3"] {
            assert!(numbers(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_leaves_the_machine_is_asked_for() {
        for address in ["127.0.0.1:9100", "127.9.0.1:0", "[::1]:9100"] {
            assert_eq!(served_on(address), Ok(address.parse().unwrap()));
        }
        for address in ["0.0.0.0:9100", "[::]:9100", "192.168.1.5:80"] {
            assert!(served_on(address).unwrap_err().contains("?bind=any"));
            let any = format!("{address}?bind=any");
            assert_eq!(served_on(&any), Ok(address.parse().unwrap()));
        }
        assert!(
            served_on("127.0.0.1:1?bind=all")
                .unwrap_err()
                .contains("bind=all")
        );
        assert!(
            served_on("localhost")
                .unwrap_err()
                .contains("127.0.0.1:9100")
        );
    }
}
