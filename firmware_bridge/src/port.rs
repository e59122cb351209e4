//! A device on an `embedded-io` port.

use crate::{Decoder, Device, DeviceEvent, MAX_FRAME, Message, NoRoom, SendError};
use embedded_io::{Read, ReadReady, Write};
use heapless::Vec;

/// Why a port gave up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError<E: core::error::Error + 'static> {
    /// The port itself.
    #[error(transparent)]
    Io(E),
    /// The message was not sent.
    #[error(transparent)]
    Send(SendError),
}

/// A [`Device`] joined to a port. Nothing blocks but writing, for as long as the port's own buffer
/// is full.
#[derive(Debug)]
pub struct Port<T> {
    io: T,
    device: Device,
    decoder: Decoder<64>,
    out: Vec<u8, { 2 * MAX_FRAME }>,
}

impl<T: Read + ReadReady + Write> Port<T>
where
    T::Error: core::error::Error + 'static,
{
    /// Joins them. What a host sends is short, so 64 bytes are enough for it; longer texts of
    /// errors are lost.
    pub fn new(io: T, device: Device) -> Port<T> {
        Port {
            io,
            device,
            decoder: Decoder::new(),
            out: Vec::new(),
        }
    }

    /// The device's state.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Takes in what has arrived, calling `take` for every frame that means something, and sends
    /// what is due. `now` is in milliseconds.
    ///
    /// # Errors
    /// Those of the port.
    pub fn poll(
        &mut self,
        now: u32,
        mut take: impl FnMut(DeviceEvent<'_>),
    ) -> Result<(), PortError<T::Error>> {
        let mut bytes = [0; 32];
        while self.io.read_ready().map_err(PortError::Io)? {
            let n = self.io.read(&mut bytes).map_err(PortError::Io)?;
            let mut rest = &bytes[..n];
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                if let Some(Ok(frame)) = self.decoder.next(&mut rest) {
                    match self.device.receive(&frame) {
                        DeviceEvent::Nothing => {}
                        event => take(event),
                    }
                }
            }
        }
        self.device.send_due(now, &mut self.out).map_err(no_room)?;
        self.flush()
    }

    /// Sends a message; [`SendError::NoCredit`] means: poll, and try again.
    ///
    /// # Errors
    /// Those of the port, and [`SendError`].
    pub fn send(&mut self, message: Message, now: u32) -> Result<(), PortError<T::Error>> {
        let sent = self.device.send(message, now, &mut self.out);
        sent.map_err(PortError::Send)?;
        self.flush()
    }

    fn flush(&mut self) -> Result<(), PortError<T::Error>> {
        let written = self.io.write_all(&self.out).and_then(|()| self.io.flush());
        self.out.clear();
        written.map_err(PortError::Io)
    }
}

fn no_room<E: core::error::Error + 'static>(error: NoRoom) -> PortError<E> {
    PortError::Send(SendError::NoRoom(error))
}
