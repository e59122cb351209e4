//! Reads to calls, in time and in order: the threads, and what feeds them.

pub mod batch;
pub mod decide;
mod engine;
pub mod follow;
pub mod link;
pub mod live;
pub mod observe;
#[cfg(feature = "tract")]
mod tags;
pub mod tally;

#[cfg(feature = "tract")]
pub use tags::model_tags;
