//! Reads to calls, in time and in order: the threads, and what feeds them.

pub mod batch;
pub mod decide;
pub mod follow;
pub mod link;
pub mod live;
