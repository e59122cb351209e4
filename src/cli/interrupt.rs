//! Ctrl-C, and the signals that mean the same.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What the first signal sets, so that a run ends in order. The second one ends the program at
/// once.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    /// Set when the run should end.
    pub(super) stop: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Waits for signals from now on.
    pub(super) fn new() -> Interrupt {
        let interrupt = Interrupt {
            stop: Arc::new(AtomicBool::new(false)),
            signal: Arc::new(AtomicUsize::new(0)),
        };
        for &signal in &signals() {
            if let Err(error) = interrupt.listen(signal) {
                log::warn!("signal {signal} will end the program at once: {error}");
            }
        }
        interrupt
    }

    fn listen(&self, signal: i32) -> io::Result<()> {
        // In this order: the first signal finds the flag unset.
        flag::register_conditional_shutdown(signal, 128 + signal, self.stop.clone())?;
        flag::register_usize(signal, self.signal.clone(), signal.unsigned_abs() as usize)?;
        flag::register(signal, self.stop.clone())?;
        Ok(())
    }

    /// The signal that came, 130 for SIGINT and 143 for SIGTERM as shells have it.
    pub(super) fn exit_code(&self) -> u8 {
        u8::try_from(128 + self.signal.load(Ordering::SeqCst)).unwrap_or(130)
    }
}

fn signals() -> Vec<i32> {
    let mut all = vec![SIGINT, SIGTERM];
    #[cfg(unix)]
    if !hangups_are_ignored() {
        all.push(signal_hook::consts::SIGHUP);
    }
    all
}

/// True under `nohup`: what it says must stay so.
#[cfg(unix)]
fn hangups_are_ignored() -> bool {
    let ignored = |status: String| {
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))?;
        let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
        Some(mask & 1 << (signal_hook::consts::SIGHUP - 1) != 0)
    };
    let status = std::fs::read_to_string("/proc/self/status").ok();
    status.and_then(ignored).unwrap_or(false)
}
