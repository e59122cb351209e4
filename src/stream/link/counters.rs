//! What a link counts.

use crate::metrics::SourceCounters;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($name:ident: $text:literal,)*) => {
        /// What a link counts.
        #[derive(Debug, Default)]
        pub struct LinkCounters { $(#[doc = $text] pub $name: AtomicU64,)* }

        impl SourceCounters for LinkCounters {
            fn counters(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Relaxed)),)*]
            }
        }
    };
}

counters! {
    frames: "Whole frames.",
    bytes: "Bytes.",
    broken_frames: "Runs of bytes between zeros that are no frame.",
    unknown_kinds: "Frames of kinds that a newer version has.",
    missing_frames: "Frames missing by their sequence numbers.",
    old_frames: "Frames that came twice, or too late.",
    early_frames: "Frames of a board that has not said hello.",
    lost_bases: "Bases missing by their positions.",
    orphaned_bases: "Bases of reads whose beginning was not received.",
    reads_marked: "Reads with bases missing, or their end.",
    board_starts: "Boards that have said hello.",
    strangers: "Connections that said no hello in time, or that of another version.",
    refused_peers: "Connections from addresses that are not allowed.",
    reconnects: "Ports and connections that were lost.",
    decisions_dropped: "Decisions that were not sent: their board was gone.",
    calls_dropped: "Calls that were not sent: they found no room, or their board was gone.",
}
