//! How a pipeline is built.

use crate::reads::bam::BamHeader;
use crate::reads::fastx::Limits;
use crate::stream::engine::run::default_threads;
use std::ops::Range;

/// The order in which records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they were read: the same output whatever the number of threads.
    #[default]
    Input,
    /// As they finish. Calls of one record stay together.
    Ready,
}

/// How a pipeline is built.
#[derive(Debug, Clone)]
pub struct PipelineConfig {
    /// Workers; at least 1.
    pub threads: usize,
    /// The order of the output.
    pub order: Order,
    /// Limits of the parser.
    pub limits: Limits,
    /// Stop at the first rejected record.
    pub strict: bool,
    /// Chunks in memory at a time, at least 1. They take `pool × limits.chunk_bases` bytes, and
    /// their calls.
    pub pool: usize,
    /// The only records that are wanted, by their numbers over all inputs, from 0.
    pub records: Option<Range<u64>>,
    /// Keep BAM records, for an output that writes them on; the one input must be BAM, and its
    /// header goes here.
    pub keep: Option<BamHeader>,
}

impl Default for PipelineConfig {
    /// A worker a core, input order, lenient.
    fn default() -> PipelineConfig {
        PipelineConfig::with_threads(default_threads())
    }
}

impl PipelineConfig {
    /// So many workers, 16 chunks and another 8 for each of them; the rest as by default.
    pub fn with_threads(threads: usize) -> PipelineConfig {
        PipelineConfig {
            threads,
            order: Order::Input,
            limits: Limits::default(),
            strict: false,
            pool: 16 + 8 * threads,
            records: None,
            keep: None,
        }
    }
}
