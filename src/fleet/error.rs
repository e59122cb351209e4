//! Why something could not be published, or fetched.

use std::io;
use std::path::PathBuf;

/// Why something could not be published, or fetched, that waiting does not mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The outbox, or another file.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The stream holds something else where these lines stand.
    #[error(
        "{subject}: the last message of the stream does not stand in {}: another run publishes \
         under this name. Give this one a name of its own (--label run=NAME)",
        file.display()
    )]
    Conflict {
        /// Of the messages.
        subject: String,
        /// The outbox.
        file: PathBuf,
    },
    /// More than the server takes in one message.
    #[error("{what} is longer than the {limit} bytes that go into a message there")]
    TooLong {
        /// A line, a read or an answer.
        what: String,
        /// The most that the server takes, without room for a head.
        limit: usize,
    },
    /// The broker refuses what was asked for, and would again.
    #[error("{broker}: {reason}")]
    Broker {
        /// Its URL.
        broker: String,
        /// In its words, or in ours.
        reason: String,
    },
    /// The broker cannot be reached, or takes nothing, at this moment.
    #[error("{broker}: {reason}")]
    Away {
        /// Its URL.
        broker: String,
        /// Why.
        reason: String,
    },
    /// Where answers are written.
    #[error("cannot write: {0}")]
    Output(#[source] io::Error),
    /// A chunk or an answer that was made by something else.
    #[error("{0}")]
    Foreign(String),
}
