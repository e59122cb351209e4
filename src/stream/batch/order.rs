//! Which finished slot is written next.

use super::config::Order;
use super::slot::Slot;
use std::collections::VecDeque;

/// Takes finished slots as they come and gives them out in the order of the output.
pub(super) struct Sequencer {
    order: Order,
    /// Slots that wait, by record and place in it; at most the pool.
    held: VecDeque<Box<Slot>>,
    /// In input order the record whose turn it is; else the one that has the floor.
    turn: Option<u64>,
    /// Slots of one record above which it may not wait for its end.
    hold: usize,
}

impl Sequencer {
    pub(super) fn new(order: Order, pool: usize) -> Sequencer {
        Sequencer {
            order,
            held: VecDeque::with_capacity(pool + 1),
            turn: (order == Order::Input).then_some(0),
            hold: (pool / 2).max(1),
        }
    }

    pub(super) fn take(&mut self, slot: Box<Slot>) {
        let key = |slot: &Slot| (slot.chunk.record, slot.chunk.start);
        let at = self.held.partition_point(|held| key(held) <= key(&slot));
        self.held.insert(at, slot);
    }

    /// The next slot to write, if its turn has come.
    pub(super) fn next(&mut self) -> Option<Box<Slot>> {
        if self.turn.is_none() {
            self.turn = self.give_floor();
        }
        let turn = self.turn?;
        let at = self.held.partition_point(|held| held.chunk.record < turn);
        if self.held.get(at)?.chunk.record != turn {
            return None;
        }
        let slot = self.held.remove(at)?;
        if slot.chunk.end.is_some() {
            self.turn = match self.order {
                Order::Input => Some(turn + 1),
                Order::Ready => None,
            };
        }
        Some(slot)
    }

    /// The first record that is here whole, or has grown too large to wait.
    fn give_floor(&self) -> Option<u64> {
        let mut count = 0;
        let mut record = None;
        for slot in &self.held {
            if record != Some(slot.chunk.record) {
                record = Some(slot.chunk.record);
                count = 0;
            }
            count += 1;
            if slot.chunk.end.is_some() || count >= self.hold {
                return record;
            }
        }
        None
    }

    /// What is left when no more comes.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Box<Slot>> {
        self.held.drain(..)
    }
}
