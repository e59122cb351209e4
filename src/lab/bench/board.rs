//! The other end of the link in scenarios with a schedule: a board that plays the flow cell, on a
//! thread of its own.

use super::machine::thread_seconds;
use crate::lab::replay::{FlowCell, OverLink, Played, play};
use crate::stream::link::{Connect, Link, Sender, Stream};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a read waits, as the link wants it.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long a host may take to say hello.
const HELLO: Duration = Duration::from_secs(20);

/// A board that sends.
pub(super) struct Board {
    thread: JoinHandle<io::Result<Sent>>,
}

/// What a board sent.
#[derive(Default)]
pub(super) struct Sent {
    pub played: Played,
    /// What did not arrive as it was meant to.
    pub undelivered: Option<String>,
    /// Processor seconds of the board, which are none of the host's.
    pub seconds: Option<f64>,
}

/// A connection that is there already, once.
struct Connected(Option<TcpStream>);

impl Connect for Connected {
    fn connect(&mut self) -> io::Result<Option<Box<dyn Stream>>> {
        if self.0.is_none() {
            std::thread::sleep(PATIENCE);
        }
        Ok(self
            .0
            .take()
            .map(|stream| Box::new(stream) as Box<dyn Stream>))
    }
}

impl Board {
    /// Plays `cell` over a connection to the link that it also gives.
    ///
    /// # Errors
    /// Where the system gives no connection or no thread.
    pub fn start(cell: FlowCell, stop: &Arc<AtomicBool>) -> io::Result<(Board, Link)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let own = TcpStream::connect(listener.local_addr()?)?;
        let (host, _) = listener.accept()?;
        for stream in [&own, &host] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
        }
        let link = Link::new(
            "the board".to_string(),
            Box::new(Connected(Some(host))),
            true,
            1,
        );
        let stop = stop.clone();
        let thread = std::thread::Builder::new().name("board".into());
        let thread = thread.spawn(move || {
            let sent = send(cell, own, &stop);
            if sent.is_err() {
                // The host would wait for another board.
                stop.store(true, Ordering::Relaxed);
            }
            sent
        })?;
        Ok((Board { thread }, link))
    }

    /// Waits for its end, which comes with that of the link.
    ///
    /// # Errors
    /// Where it could not send.
    pub fn end(self) -> io::Result<Sent> {
        let ended = self.thread.join();
        ended.unwrap_or_else(|_| Err(io::Error::other("the board's thread panicked")))
    }
}

fn send(cell: FlowCell, stream: TcpStream, stop: &Arc<AtomicBool>) -> io::Result<Sent> {
    let mut sender = Sender::new(Box::new(stream), 1);
    let begun = Instant::now();
    // The schedule begins when somebody listens.
    while !sender.has_host() && !stop.load(Ordering::Relaxed) {
        sender.poll().map_err(io::Error::other)?;
        if begun.elapsed() > HELLO {
            let reason = "the host has not said hello";
            return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
        }
    }
    if !sender.has_host() {
        return Ok(Sent::default());
    }
    let mut target = OverLink::new(sender, stop.clone());
    let played = play(cell, &mut target, stop)?;
    let undelivered = target.undelivered().map(str::to_owned);
    Ok(Sent {
        played,
        // Who is stopped in the middle has not sent everything.
        undelivered: undelivered.filter(|_| !stop.load(Ordering::Relaxed)),
        seconds: thread_seconds(),
    })
}
