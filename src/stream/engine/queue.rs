//! Queues with room for everything, and how a thread waits for one.

use crossbeam::queue::ArrayQueue;
use crossbeam::sync::Parker;
use crossbeam::utils::Backoff;
use std::time::Duration;

/// Puts a slot into a queue that has room for all there are.
pub(super) fn put<T>(queue: &ArrayQueue<T>, slot: T) {
    let pushed = queue.push(slot);
    debug_assert!(pushed.is_ok(), "every queue has room for every slot");
}

/// Asks `ready` until it answers, asleep in between; `None` where `limit` passes first. Each queue
/// has one thread that waits for it, and `parker` is that thread's.
pub(super) fn wait<T>(
    parker: &Parker,
    limit: Option<Duration>,
    mut ready: impl FnMut() -> Option<T>,
) -> Option<T> {
    let backoff = Backoff::new();
    loop {
        if let Some(answer) = ready() {
            return Some(answer);
        }
        if !backoff.is_completed() {
            backoff.snooze();
            continue;
        }
        match limit {
            None => parker.park(),
            Some(limit) => {
                parker.park_timeout(limit);
                return ready();
            }
        }
    }
}
