//! The host's side of the link to an accessory board, or to a sequencer of one's own.
//!
//! The bytes and the protocol are those of [`firmware_bridge`]. A [`Link`] speaks it over a serial
//! port, a TCP connection or a Unix socket and is a source of a live run; [`Sender`] is the other
//! end, for programs that have reads to give.
//!
//! | input | what it is |
//! | --- | --- |
//! | `serial:///dev/ttyUSB0?baud=921600` | a UART (default 921,600), or USB-CDC without a rate |
//! | `tcp://127.0.0.1:7878` | listens there for one board at a time |
//! | `unix:///run/strandline.sock` | the same on a socket file, of mode 0600 |
//!
//! A TCP address that is not this machine's own needs `?bind=any`, and `&from=10.8.0.0/24`, once or
//! more, says who may connect. Sockets take `boards=N`: up to N boards at a time, each a source of
//! its own ([`open_all`]). Each takes `once`: the source ends when the board says that no more
//! reads come, or its connection is closed. Without it a lost port or connection is waited for, its
//! open reads ending as partial.
//!
//! **Strangers wait at the door.** A connection gets a place once it has said hello; one that has
//! not within three seconds, or speaks another major version, is closed, logged and counted, and
//! never counts for `once`. A board that is silent for three seconds loses its place. Silence is
//! judged only where nothing waits to be read, and time in which this program did not run does not
//! count.
//!
//! **What is lost stays visible.** A gap in the sequence numbers is counted; positions say which
//! read lacks how many bases, and the read goes on behind the gap as a stretch of its own. Where
//! more frames are missing than positions can tell apart, the read ends, and what follows of it is
//! counted as orphaned.

mod board;
mod counters;
mod door;
mod line;
mod network;
mod outbox;
mod reads;
mod sender;
#[cfg(test)]
mod tests;
mod transport;
mod url;

pub use board::{Link, LinkError, open, open_all};
pub use counters::LinkCounters;
pub use network::Network;
pub use reads::Reads;
pub use sender::{ReceivedDecision, Sender, SenderError};
pub use transport::{Connect, Stream};
pub use url::{LinkUrl, Place, UrlError};
