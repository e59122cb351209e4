//! The machine under every run: threads, queues, waiting, shutdown.
//!
//! ```text
//!   source 0 --> lane 0 --> worker 0 --\
//!            \/                         +--> finished --> sink (the caller's thread)
//!   source 1 --> lane 1 --> worker 1 --/                   |
//!      ^                                                   |
//!      +--------------- free slots of each source ---------+
//! ```
//!
//! A slot carries work to a worker and what came of it to the sink. The slots of a source are made
//! once and come back to it, and every queue has room for all slots there are: nothing but the wait
//! for a free slot holds a source back, no push can fail, and memory is bounded. Sources, workers
//! and the sink never wait for each other in any other way, so there is no deadlock as long as the
//! sink gives slots back. Idle threads sleep.
//!
//! What a slot holds, which lane it goes down and what a worker does with it is the business of a
//! [`Mode`](mode::Mode), of a [`Source`](run::Source) and of a [`Worker`](run::Worker); what is
//! written is the sink's, a closure that takes finished slots until there are no more.
//!
//! **Shutdown.** A run ends when all its sources have ended. When the caller's flag is set, or the
//! sink breaks the run off, a source gets no more slots and no more reads, and ends. One that sits
//! in a read cannot be interrupted: the run goes on without it, and ends it in its place
//! ([`Gate`](gate::Gate)). What a source has sent before its end reaches the sink.
//!
//! **Panics.** A worker or a sink that panics ends the run. A source that panics ends, the others
//! go on, and the run gives an error at its end. Every slot that was on its way still reaches the
//! sink: what lies in a lane without a worker goes there directly.

pub(super) mod gate;
pub(super) mod guard;
mod lanes;
pub(super) mod mode;
pub(super) mod port;
mod queue;
pub(super) mod run;
pub(super) mod shared;
pub(super) mod sink;
#[cfg(test)]
mod tests;
