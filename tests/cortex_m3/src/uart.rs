//! The first UART of a Stellaris LM3S6965 (an ARM PL011), polled.

use core::convert::Infallible;
use core::ptr::{read_volatile, write_volatile};
use embedded_io::{ErrorType, Read, ReadReady, Write};

const BASE: usize = 0x4000_c000;
const DATA: usize = BASE;
const FLAGS: usize = BASE + 0x18;
const LINE_CONTROL: usize = BASE + 0x2c;
const CONTROL: usize = BASE + 0x30;

const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;

/// The UART. There is one, and `main` makes it.
pub struct Uart(());

fn get(register: usize) -> u32 {
    // SAFETY: one of the addresses above, a register of the chip that may be read at any time.
    unsafe { read_volatile(register as *const u32) }
}

fn set(register: usize, value: u32) {
    // SAFETY: one of the addresses above, a register of the chip that may be written at any time.
    unsafe { write_volatile(register as *mut u32, value) }
}

impl Uart {
    /// Eight bits, with FIFOs; enabled in both directions.
    pub fn new() -> Uart {
        set(LINE_CONTROL, 0x70);
        set(CONTROL, 0x301);
        Uart(())
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(get(FLAGS) & RECEIVE_EMPTY == 0)
    }
}

impl Read for Uart {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, Infallible> {
        let mut n = 0;
        while n < out.len() && self.read_ready()? {
            out[n] = get(DATA) as u8;
            n += 1;
        }
        Ok(n)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for &byte in bytes {
            while get(FLAGS) & TRANSMIT_FULL != 0 {}
            set(DATA, byte.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
