//! A replay as an accessory board would give it.

use super::{Event, ReadData, Target};
use crate::reads::nucleotide;
use crate::stream::link::{Sender, SenderError};
use firmware_bridge::EndReason;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How long the host may take to say what it has received: it may have much to score before.
const PATIENCE: Duration = Duration::from_secs(120);

/// Sends each piece over a link when its time has come. A read that the host ejects ends there; its
/// channel is silent until its next read.
pub struct OverLink {
    sender: Sender,
    stop: Arc<AtomicBool>,
    codes: Vec<u8>,
    /// The read on each channel, and its bases so far; `None` once it was ejected.
    open: HashMap<u16, (u32, Option<u64>)>,
    /// Ejected reads that are to be ended: channel, number, length.
    ends: Vec<(u16, u32, u64)>,
    ejected: u64,
    /// What did not arrive.
    undelivered: Option<String>,
}

impl OverLink {
    /// Sends with `sender`; `stop` ends its waits.
    pub fn new(sender: Sender, stop: Arc<AtomicBool>) -> OverLink {
        OverLink {
            sender,
            stop,
            codes: vec![],
            open: HashMap::new(),
            ends: vec![],
            ejected: 0,
            undelivered: None,
        }
    }

    /// Reads that were ejected.
    pub fn ejected(&self) -> u64 {
        self.ejected
    }

    /// What was sent and did not arrive as it was meant to, once the replay is over.
    pub fn undelivered(&self) -> Option<&str> {
        self.undelivered.as_deref()
    }

    /// Calls that came back.
    pub fn calls(&self) -> u64 {
        self.sender.calls
    }

    fn send(&mut self, event: &Event, reads: &[ReadData]) -> Result<(), SenderError> {
        let Event {
            channel, number, ..
        } = *event;
        let (sender, stop) = (&mut self.sender, &*self.stop);
        let read = &reads[event.read];
        if event.first() {
            // Names need not be unique where reads come again; the channel and number make them so.
            sender.read_start(channel, number, &read.name, stop)?;
            self.open.insert(channel, (number, Some(0)));
        }
        for decision in sender.decisions.drain(..).filter(|d| d.eject) {
            if let Some((number, sent)) = self.open.get_mut(&decision.channel)
                && *number == decision.read
                && let Some(length) = sent.take()
            {
                self.ejected += 1;
                self.ends.push((decision.channel, *number, length));
            }
        }
        while let Some((channel, number, length)) = self.ends.pop() {
            sender.read_end(channel, number, length, EndReason::Ejected, stop)?;
        }
        let Some((_, Some(sent))) = self.open.get_mut(&channel) else {
            return Ok(());
        };
        self.codes.clear();
        nucleotide::encode(&read.letters[event.bases.clone()], &mut self.codes);
        sender.bases(channel, number, *sent, &self.codes, stop)?;
        *sent += self.codes.len() as u64;
        if event.last {
            let length = *sent;
            sender.read_end(channel, number, length, EndReason::Complete, stop)?;
            self.open.remove(&channel);
        }
        Ok(())
    }
}

fn io_error(error: SenderError) -> io::Result<()> {
    match error {
        // The run was stopped: there is no more to send.
        SenderError::Stopped => Ok(()),
        // Not as a broken pipe, which is how a reader ends well that wants no more.
        SenderError::Io(error) => {
            let reason = format!("the host has ended the connection: {error}");
            Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason))
        }
        error => Err(io::Error::other(error)),
    }
}

impl Target for OverLink {
    fn event(&mut self, event: &Event, reads: &[ReadData]) -> io::Result<()> {
        self.send(event, reads).or_else(io_error)
    }

    fn idle(&mut self) -> io::Result<()> {
        self.sender.poll().or_else(io_error)
    }

    fn finish(&mut self) -> io::Result<()> {
        if !self.sender.has_host() {
            let reason = "nobody at the other end has said hello";
            return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
        }
        let stop = AtomicBool::new(false);
        self.sender.finish(&stop).or_else(io_error)?;
        let begun = Instant::now();
        let mut gone = false;
        while !gone && !self.sender.is_answered() && begun.elapsed() < PATIENCE {
            gone = self.sender.poll().is_err();
        }
        self.undelivered = self.sender.undelivered();
        // The last replies are on their way; a host that closes the connection has sent them.
        let (mut silent, mut replies) = (0, 0);
        while !gone && silent < 100 {
            gone = self.sender.poll().is_err();
            let so_far = self.sender.calls + self.sender.decisions.len() as u64;
            silent = if so_far > replies { 0 } else { silent + 1 };
            replies = so_far;
        }
        Ok(())
    }
}
