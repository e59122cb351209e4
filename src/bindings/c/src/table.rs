//! Handles: numbers for what C holds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a handle may stand for.
pub enum Entry<A, B> {
    First(Arc<A>),
    Second(Arc<B>),
}

impl<A, B> Clone for Entry<A, B> {
    fn clone(&self) -> Entry<A, B> {
        match self {
            Entry::First(entry) => Entry::First(entry.clone()),
            Entry::Second(entry) => Entry::Second(entry.clone()),
        }
    }
}

/// A place of the table. Its generation grows when it is left, from 1 on.
struct Slot<A, B> {
    generation: u32,
    entry: Option<Entry<A, B>>,
}

/// All that C holds. A handle has a slot's number in its lower half and the generation in its upper
/// one, so that none is 0.
pub struct Table<A, B> {
    slots: Mutex<Slots<A, B>>,
}

struct Slots<A, B> {
    all: Vec<Slot<A, B>>,
    free: Vec<u32>,
}

impl<A, B> Table<A, B> {
    pub const fn new() -> Table<A, B> {
        Table {
            slots: Mutex::new(Slots {
                all: Vec::new(),
                free: Vec::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots<A, B>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps something; its handle.
    pub fn insert(&self, entry: Entry<A, B>) -> u64 {
        let slots = &mut *self.lock();
        let number = match slots.free.pop() {
            Some(number) => number,
            None => {
                slots.all.push(Slot {
                    generation: 1,
                    entry: None,
                });
                (slots.all.len() - 1) as u32
            }
        };
        let slot = &mut slots.all[number as usize];
        slot.entry = Some(entry);
        u64::from(slot.generation) << 32 | u64::from(number)
    }

    /// What a handle stands for.
    pub fn get(&self, handle: u64) -> Option<Entry<A, B>> {
        let slots = self.lock();
        let slot = slots.all.get(handle as u32 as usize)?;
        if u64::from(slot.generation) != handle >> 32 {
            return None;
        }
        slot.entry.clone()
    }

    /// Forgets it. A slot whose generations are used up is left for good.
    pub fn remove(&self, handle: u64) -> Option<Entry<A, B>> {
        let slots = &mut *self.lock();
        let number = handle as u32;
        let slot = slots.all.get_mut(number as usize)?;
        if u64::from(slot.generation) != handle >> 32 {
            return None;
        }
        let entry = slot.entry.take()?;
        if slot.generation < u32::MAX {
            slot.generation += 1;
            slots.free.push(number);
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_stand_for_one_thing_once() {
        let table: Table<u8, u8> = Table::new();
        let first = table.insert(Entry::First(Arc::new(1)));
        let second = table.insert(Entry::Second(Arc::new(2)));
        assert!(first != 0 && first != second);
        assert!(matches!(table.get(first), Some(Entry::First(one)) if *one == 1));
        assert!(matches!(table.get(second), Some(Entry::Second(two)) if *two == 2));
        assert!(table.remove(first).is_some());
        assert!(table.remove(first).is_none() && table.get(first).is_none());
        // The same place, another handle.
        let third = table.insert(Entry::First(Arc::new(3)));
        assert_eq!(third as u32, first as u32);
        assert!(third != first && table.get(first).is_none());
        for handle in [0, 1, u64::MAX, first + 1, third + (1 << 32)] {
            assert!(table.get(handle).is_none() || handle == second, "{handle}");
        }
    }

    #[test]
    fn a_place_of_which_all_handles_were_used_is_left() {
        let table: Table<u8, u8> = Table::new();
        let first = table.insert(Entry::First(Arc::new(1)));
        table.lock().all[0].generation = u32::MAX;
        let last = u64::from(u32::MAX) << 32 | first & u64::from(u32::MAX);
        assert!(table.remove(last).is_some());
        let next = table.insert(Entry::First(Arc::new(2)));
        assert_ne!(next as u32, first as u32);
    }
}
