//! The sink's side of the engine.

use super::mode::Mode;
use super::shared::Engine;
use crossbeam::sync::Parker;

/// Through which the sink takes finished slots and gives them back.
pub(crate) struct Sink<'a, M: Mode> {
    pub(crate) engine: &'a Engine<M>,
    pub(super) parker: Parker,
}

impl<M: Mode> Sink<'_, M> {
    /// The next finished slot; `None` when there will be none. To be asked until then, also after
    /// [`Engine::halt`]: what is still on its way comes, and is to be counted.
    pub(crate) fn next(&self) -> Option<Box<M::Slot>> {
        self.next_or(|| ())
    }

    /// The same; calls `idle` every [`Mode::LOOK`] as long as it waits.
    pub(crate) fn next_or(&self, idle: impl FnMut()) -> Option<Box<M::Slot>> {
        self.engine.next_finished(&self.parker, idle)
    }

    /// The next finished slot, if there is one at this moment.
    pub(crate) fn try_next(&self) -> Option<Box<M::Slot>> {
        self.engine.try_finished()
    }

    /// Gives a slot back to its source.
    pub(crate) fn give_back(&self, slot: Box<M::Slot>) {
        self.engine.give_back(slot);
    }
}
