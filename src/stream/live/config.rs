//! How a live run is done.

use super::overload::OverloadPolicy;
use crate::stream::engine::run::default_threads;
use std::time::Duration;

/// How a live run is done.
#[derive(Debug, Clone)]
pub struct LiveConfig {
    /// Workers; at least 1.
    pub threads: usize,
    /// From a piece received to its calls written.
    pub deadline: Option<Duration>,
    /// What becomes of pieces that cannot keep it.
    pub overload: OverloadPolicy,
    /// Reads of one source at a time; another's beginning is rejected.
    pub channels: usize,
}

impl Default for LiveConfig {
    /// A worker a core, no deadline, 4,096 channels a source.
    fn default() -> LiveConfig {
        LiveConfig {
            threads: default_threads(),
            deadline: None,
            overload: OverloadPolicy::Block,
            channels: 4096,
        }
    }
}
