//! Who may come in: connections wait here until they have said hello.

use super::counters::LinkCounters;
use super::line::Line;
use super::network::Network;
use super::transport::{Caller, Listener, is_timeout};
use firmware_bridge::{Host, HostEvent};
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How long a connection may take to say hello.
pub(super) const HELLO: Duration = Duration::from_secs(3);

/// Connections that may wait here; more wait in the system's queue.
const GUESTS: usize = 64;

/// Least time between two warnings of one door, so that strangers fill no log.
const BETWEEN: Duration = Duration::from_secs(1);

/// A connection that has not said hello.
struct Guest {
    caller: Caller,
    line: Line,
    since: Instant,
}

/// What a look at a guest gave.
enum Look {
    Waits,
    Board,
    Stranger(String),
}

/// A listening socket. Many may knock; those that speak the protocol are let in.
pub(super) struct Door {
    name: String,
    listener: Listener,
    /// Who may connect; nobody is refused where it is empty.
    from: Vec<Network>,
    /// Of the next line's host.
    nonce: u32,
    window: u16,
    start: Instant,
    guests: Vec<Guest>,
    warned: Option<Instant>,
    /// Warnings left out since.
    unsaid: u64,
}

impl Door {
    pub(super) fn new(
        name: String,
        listener: Listener,
        from: Vec<Network>,
        nonce: u32,
        window: u16,
    ) -> Door {
        Door {
            name,
            listener,
            from,
            nonce,
            window,
            start: Instant::now(),
            guests: vec![],
            warned: None,
            unsaid: 0,
        }
    }

    /// The next board, which has said hello. Does not wait.
    pub(super) fn board(&mut self, counters: &LinkCounters) -> io::Result<Option<Line>> {
        let accepted = self.accept(counters);
        let now = self.start.elapsed().as_millis() as u32;
        let mut at = 0;
        while at < self.guests.len() {
            match look(&mut self.guests[at], now) {
                Look::Waits => at += 1,
                Look::Board => {
                    let guest = self.guests.remove(at);
                    // A socket that cannot be made to wait is as good as closed.
                    if guest.caller.wait_when_read().is_ok() {
                        return Ok(Some(guest.line));
                    }
                }
                Look::Stranger(why) => {
                    let guest = self.guests.remove(at);
                    counters.strangers.fetch_add(1, Relaxed);
                    self.warn(&format!("{} dropped: {why}", guest.line.peer));
                }
            }
        }
        accepted.map(|()| None)
    }

    /// Lets those in who have connected and may.
    fn accept(&mut self, counters: &LinkCounters) -> io::Result<()> {
        while self.guests.len() < GUESTS {
            let (caller, address) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if is_timeout(&e) => break,
                // One that has hung up already says nothing of the listener.
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e),
            };
            let peer = address.map_or("a connection".to_string(), |a| a.to_string());
            let allowed = self.from.is_empty()
                || address.is_some_and(|a| self.from.iter().any(|net| net.holds(a.ip())));
            if !allowed {
                counters.refused_peers.fetch_add(1, Relaxed);
                self.warn(&format!("{peer} refused: not in the list of ?from="));
                continue;
            }
            let Ok(stream) = caller.stream() else {
                continue;
            };
            // Steps wide apart: a host counts up by itself when its board was gone.
            self.nonce = self.nonce.wrapping_add(1 << 16);
            self.guests.push(Guest {
                caller,
                line: Line::new(stream, peer, Host::new(self.nonce, self.window)),
                since: Instant::now(),
            });
        }
        Ok(())
    }

    fn warn(&mut self, what: &str) {
        if self.warned.is_some_and(|warned| warned.elapsed() < BETWEEN) {
            self.unsaid += 1;
            log::debug!("{}: {what}", self.name);
            return;
        }
        let others = std::mem::take(&mut self.unsaid);
        let others = if others > 0 {
            format!(" ({others} others before)")
        } else {
            String::new()
        };
        log::warn!("{}: {what}{others}", self.name);
        self.warned = Some(Instant::now());
    }
}

/// Reads of a guest at a time: who talks without end does not keep the others waiting.
const READS: usize = 4;

/// Takes in what a guest has said. Reads before it judges: a host that stood still knows of nobody
/// who spoke meanwhile.
fn look(guest: &mut Guest, now: u32) -> Look {
    let line = &mut guest.line;
    line.speak(now);
    for _ in 0..READS {
        match line.read() {
            Ok(0) => return Look::Stranger("it closed the connection without a hello".into()),
            Ok(_) => {}
            Err(e) if is_timeout(&e) => break,
            Err(e) => return Look::Stranger(e.to_string()),
        }
        while line.has_bytes() {
            match line.next(now).0 {
                HostEvent::DeviceStarted => return Look::Board,
                HostEvent::Refused { major } => {
                    // It is to know why.
                    line.speak(now);
                    return Look::Stranger(another_version(major));
                }
                _ => {}
            }
        }
    }
    if let Some(e) = line.failed() {
        return Look::Stranger(e.to_string());
    }
    if guest.since.elapsed() < HELLO {
        return Look::Waits;
    }
    Look::Stranger(format!("no hello within {} s", HELLO.as_secs()))
}

/// Why a board of this major version is refused.
pub(super) fn another_version(major: u8) -> String {
    let own = firmware_bridge::MAJOR;
    format!("it speaks version {major} of the protocol, this program version {own}")
}
