//! Many machines and one broker: lines of an output published to NATS JetStream, and chunks of
//! reads that workers take from a queue there.
//!
//! **An outbox.** The file that a run writes is what is published, so nothing is lost while the
//! broker is away, and nothing waits for it. A message holds whole lines of the file behind an
//! [`Envelope`] that says where they stand there. Its id is the run and the offset. Whoever
//! publishes goes on behind the last message of its subject that the broker has, after comparing
//! that message with the file, and names it in the next one: the broker refuses what would come
//! twice or out of order.
//!
//! **A queue.** `fill` cuts reads into chunks, each a message; `work` takes one, keeps its claim
//! while it works, publishes the answer under the chunk's number, and only then acknowledges;
//! `collect` reads the answers in order. Any of the three may be killed and run again.
//!
//! What speaks with a broker needs the feature `fleet`.

#[cfg(feature = "fleet")]
mod broker;
#[cfg(feature = "fleet")]
mod collect;
mod envelope;
mod error;
mod outbox;
#[cfg(feature = "fleet")]
mod publisher;
#[cfg(feature = "fleet")]
mod queue;
mod url;
#[cfg(feature = "fleet")]
mod work;

#[cfg(feature = "fleet")]
pub use collect::{Collected, collect};
pub use envelope::Envelope;
pub use error::FleetError;
pub use outbox::Outbox;
#[cfg(feature = "fleet")]
pub use publisher::{Published, Publisher};
#[cfg(feature = "fleet")]
pub use queue::{Filled, fill};
pub use url::{BrokerUrl, UrlError, is_token, without_password};
#[cfg(feature = "fleet")]
pub use work::{Answer, Worked, work};
