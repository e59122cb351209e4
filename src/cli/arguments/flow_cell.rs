//! The flow cell that `replay` and `bench` play.

use super::values::time;
use crate::lab::replay::FlowCellConfig;
use clap::Args;

#[derive(Debug, Args)]
pub struct FlowCellArguments {
    /// Channels; a MinION has 512, a PromethION cell 3,000
    #[arg(
        long,
        value_name = "N",
        default_value_t = 512,
        value_parser = clap::value_parser!(u16).range(1..=4095)
    )]
    pub channels: u16,
    /// Bases a second and channel: 400 for DNA, 130 for direct RNA
    #[arg(long, value_name = "BASES", default_value_t = 400.0, value_parser = time)]
    pub rate: f64,
    /// Bases of a chunk
    #[arg(
        long,
        value_name = "BASES",
        default_value_t = 400,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub chunk: u32,
    /// Mean seconds between two reads of a channel
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    pub pause: f64,
    /// The schedule depends on this and on nothing else
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
}

impl FlowCellArguments {
    /// The schedule that they describe.
    pub fn config(&self, speed: f64, duration: Option<f64>) -> FlowCellConfig {
        FlowCellConfig {
            channels: self.channels,
            rate: self.rate,
            chunk: self.chunk as usize,
            pause: self.pause,
            speed,
            seed: self.seed,
            duration,
        }
    }
}
