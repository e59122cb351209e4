//! What a service manager learns of a run: systemd's notifications, over the socket that it names
//! in `NOTIFY_SOCKET`.
//!
//! `READY=1` comes at the first tick of a run, `WATCHDOG=1` at later ones: whoever makes a step
//! sends it, so there is none where none is made. Without a socket there is nothing to do, and one
//! that fails costs a warning.

use crate::metrics::Metrics;
use crate::stream::follow::Tick;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Most time between two messages with the run's numbers.
const STATUS: Duration = Duration::from_secs(10);

/// Sends messages to the manager.
pub(super) struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
    metrics: Arc<Metrics>,
    /// The manager restarts what it has no `WATCHDOG=1` of.
    watched: bool,
    /// Between two messages.
    period: Duration,
    begun: Instant,
    /// When the next one is due, in milliseconds from the beginning.
    due: AtomicU64,
    /// `READY=1` was sent.
    ready: AtomicBool,
    /// A message could not be sent, which was logged.
    failed: AtomicBool,
}

impl Notifier {
    /// By the environment; `None` where no manager wants to be notified.
    pub(super) fn from_environment(metrics: &Arc<Metrics>) -> Option<Arc<Notifier>> {
        let name = std::env::var_os("NOTIFY_SOCKET")?;
        let variable = |name| std::env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
        match Notifier::new(&name, watchdog, metrics) {
            Ok(notifier) => Some(Arc::new(notifier)),
            Err(error) => {
                log::warn!("NOTIFY_SOCKET {}: {error}", name.display());
                None
            }
        }
    }

    /// To the socket of this name, which begins with `@` where it is abstract. The manager waits
    /// no longer than `watchdog` for the next message.
    fn new(
        name: &OsStr,
        watchdog: Option<Duration>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Notifier> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that reads nothing must not hold a run up.
        socket.set_nonblocking(true)?;
        Ok(Notifier {
            socket,
            address,
            metrics: metrics.clone(),
            watched: watchdog.is_some(),
            period: watchdog.map_or(STATUS, |most| STATUS.min(most / 2)),
            begun: Instant::now(),
            due: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        })
    }

    /// Sends a message at those ticks at which one is due.
    pub(super) fn tick(self: &Arc<Notifier>) -> Tick {
        let own = self.clone();
        Tick(Arc::new(move || own.step()))
    }

    fn step(&self) {
        let now = self.begun.elapsed();
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let due = self.due.load(Relaxed);
        let next = milliseconds(now + self.period);
        // Of threads that tick at the same time one sends.
        if milliseconds(now) < due
            || self
                .due
                .compare_exchange(due, next, Relaxed, Relaxed)
                .is_err()
        {
            return;
        }
        let mut message = String::new();
        let ready = self.ready.load(Relaxed);
        if !ready {
            message += "READY=1\n";
        }
        if self.watched {
            message += "WATCHDOG=1\n";
        }
        if self.send(message) && !ready {
            self.ready.store(true, Relaxed);
        }
    }

    /// Says that the run ends.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\n".to_string());
    }

    /// Sends a message and the run's numbers; false where that failed.
    fn send(&self, mut message: String) -> bool {
        message += "STATUS=";
        message += &self.metrics.summary().line();
        match self.socket.send_to_addr(message.as_bytes(), &self.address) {
            Ok(_) => true,
            Err(error) => {
                if !self.failed.swap(true, Relaxed) {
                    log::warn!("NOTIFY_SOCKET: {error}; the run goes on");
                }
                false
            }
        }
    }
}

/// How long the manager waits for a sign of life of this process, by its variables.
fn watchdog(microseconds: Option<String>, process: Option<String>) -> Option<Duration> {
    let own = process.is_none_or(|process| process == std::process::id().to_string());
    let microseconds = microseconds?.parse().ok().filter(|_| own)?;
    Some(Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages that have come.
    fn received(socket: &UnixDatagram) -> Vec<String> {
        let mut message = [0; 1024];
        let mut messages = vec![];
        socket.set_nonblocking(true).unwrap();
        while let Ok(length) = socket.recv(&mut message) {
            messages.push(String::from_utf8(message[..length].to_vec()).unwrap());
        }
        messages
    }

    #[test]
    fn ready_comes_first_and_a_sign_of_life_at_later_ticks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let text = format!("@strandline-test-{}", std::process::id());
        let hidden = SocketAddr::from_abstract_name(&text[1..]).unwrap();
        let sockets = [
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str()),
            (UnixDatagram::bind_addr(&hidden).unwrap(), OsStr::new(&text)),
        ];
        for (socket, name) in sockets {
            let metrics = Arc::new(Metrics::new());
            let watchdog = Some(Duration::from_millis(100));
            let notifier = Arc::new(Notifier::new(name, watchdog, &metrics).unwrap());
            let Tick(tick) = notifier.tick();
            assert!(received(&socket).is_empty());
            tick();
            tick();
            let [first] = &received(&socket)[..] else {
                panic!("one message a period");
            };
            assert!(first.starts_with("READY=1\nWATCHDOG=1\nSTATUS=0 s: 0 reads in"));
            std::thread::sleep(Duration::from_millis(60));
            assert!(received(&socket).is_empty(), "a message without a tick");
            metrics.read_in();
            tick();
            notifier.stopping();
            let [second, last] = &received(&socket)[..] else {
                panic!("a message, and the last one");
            };
            assert!(second.starts_with("WATCHDOG=1\nSTATUS=0 s: 1 reads in"));
            assert!(last.starts_with("STOPPING=1\nSTATUS="));
        }
    }

    #[test]
    fn a_socket_that_fails_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let watchdog = Some(Duration::from_millis(2));
        let metrics = Arc::new(Metrics::new());
        let notifier = Notifier::new(path.as_os_str(), watchdog, &metrics);
        let notifier = Arc::new(notifier.unwrap());
        notifier.step();
        assert!(notifier.failed.load(Relaxed));
        let socket = UnixDatagram::bind(&path).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        notifier.step();
        assert!(received(&socket)[0].starts_with("READY=1\n"));
        let long = "x".repeat(200);
        assert!(Notifier::new(OsStr::new(&long), None, &metrics).is_err());
    }

    #[test]
    fn the_watchdog_is_this_process_own() {
        let own = Some(std::process::id().to_string());
        let second = Some(Duration::from_secs(1));
        let million = || Some("1000000".to_string());
        assert_eq!(watchdog(million(), own.clone()), second);
        assert_eq!(watchdog(million(), None), second);
        assert_eq!(watchdog(million(), Some("1".to_string())), None);
        assert_eq!(watchdog(Some("soon".to_string()), own.clone()), None);
        assert_eq!(watchdog(None, own), None);
    }
}
