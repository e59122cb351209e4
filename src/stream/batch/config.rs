//! How a pipeline is built.

use crate::reads::fastx::{BamHeader, Limits};
use crate::stream::engine::run::default_threads;

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
    /// Keep BAM records, for an output that writes them on; the one input must be BAM, and its
    /// header goes here.
    pub keep: Option<BamHeader>,
}

impl Default for PipelineConfig {
    /// A worker a core, input order, lenient, 16 chunks and another 8 a worker.
    fn default() -> PipelineConfig {
        let threads = default_threads();
        PipelineConfig {
            threads,
            order: Order::Input,
            limits: Limits::default(),
            strict: false,
            pool: 16 + 8 * threads,
            keep: None,
        }
    }
}
