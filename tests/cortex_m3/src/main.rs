//! An accessory board that streams reads out of its flash, two channels at a time, in chunks of 400
//! bases, as far as the host's credit reaches, and ends a read that the host ejects.
#![no_std]
#![no_main]

mod uart;

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::entry;
use firmware_bridge::{
    Bases, Device, EndReason, DeviceEvent, MAX_BASES_BYTES, Message, Port, PortError, SendError,
};
use uart::Uart;

/// FASTA, a line a sequence.
static READS: &str = include_str!("../reads.fa");

const CHANNELS: usize = 2;
const CHUNK: usize = 400;

/// Ticks of the core's clock in a millisecond, about: timeouts need no better.
const TICKS: u32 = 12_000;

struct Clock {
    timer: SYST,
    now: u32,
}

impl Clock {
    fn new(mut timer: SYST) -> Clock {
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(TICKS - 1);
        timer.clear_current();
        timer.enable_counter();
        Clock { timer, now: 0 }
    }

    fn now(&mut self) -> u32 {
        self.now = self.now.wrapping_add(u32::from(self.timer.has_wrapped()));
        self.now
    }
}

/// A read on its way.
#[derive(Clone, Copy)]
struct Read {
    name: &'static str,
    letters: &'static [u8],
    number: u32,
    sent: usize,
    /// The host is to get its start, at first or again.
    announce: bool,
    ejected: bool,
}

fn code(letter: u8) -> u8 {
    match letter {
        b'A' => 0,
        b'C' => 1,
        b'G' => 2,
        b'T' => 3,
        _ => 4,
    }
}

#[panic_handler]
fn stop(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[entry]
fn main() -> ! {
    let Some(peripherals) = cortex_m::Peripherals::take() else {
        panic!()
    };
    let mut clock = Clock::new(peripherals.SYST);
    // A board with more than one life would count its starts in flash.
    let mut port = Port::new(Uart::new(), Device::new(1, 0b10));
    let mut records = READS.split('>').skip(1).filter_map(|r| r.split_once('\n'));
    let mut numbers = [0; CHANNELS];
    let mut reads: [Option<Read>; CHANNELS] = [None; CHANNELS];
    let mut finished = false;
    loop {
        let now = clock.now();
        let polled = port.poll(now, |event| match event {
            DeviceEvent::HostStarted => {
                for read in reads.iter_mut().flatten() {
                    read.announce = true;
                }
            }
            DeviceEvent::Decision { channel, read: number, eject } => {
                let read = reads.get_mut(usize::from(channel)).and_then(Option::as_mut);
                if let Some(read) = read.filter(|read| read.number == number) {
                    read.ejected |= eject;
                }
            }
            _ => {}
        });
        if polled.is_err() || !port.device().ready() {
            continue;
        }
        let mut busy = false;
        for channel in 0..CHANNELS {
            if reads[channel].is_none() {
                reads[channel] = records.next().map(|(name, letters)| {
                    numbers[channel] += 1;
                    Read {
                        name: name.trim(),
                        letters: letters.trim().as_bytes(),
                        number: numbers[channel],
                        sent: 0,
                        announce: true,
                        ejected: false,
                    }
                });
            }
            let Some(read) = &mut reads[channel] else {
                continue;
            };
            busy = true;
            if step(&mut port, channel as u16, read, now) {
                reads[channel] = None;
            }
        }
        if !busy && !finished {
            finished = port.send(Message::Finish, now).is_ok();
        }
    }
}

/// Sends what is next of a read; true where that was its end.
fn step(port: &mut Port<Uart>, channel: u16, read: &mut Read, now: u32) -> bool {
    let mut room = [0; MAX_BASES_BYTES];
    let rest = &read.letters[read.sent..];
    let mut codes = [0; CHUNK];
    let count = rest.len().min(CHUNK);
    for (code_of, &letter) in codes.iter_mut().zip(rest) {
        *code_of = code(letter);
    }
    let (bases, packed) = Bases::pack(&codes[..count], &mut room);
    let over = read.ejected || rest.is_empty();
    let message = if read.announce {
        Message::ReadStart {
            channel,
            read: read.number,
            mux: 1,
            start: now.into(),
            from: read.sent as u32,
            name: read.name.as_bytes(),
        }
    } else if over {
        Message::ReadEnd {
            channel,
            read: read.number,
            length: read.sent as u32,
            reason: if rest.is_empty() { EndReason::Complete } else { EndReason::Ejected },
        }
    } else {
        Message::Bases {
            channel,
            read: read.number as u8 & 0xf,
            position: read.sent as u16,
            bases,
        }
    };
    match port.send(message, now) {
        Ok(()) => {}
        // Its turn comes again.
        Err(PortError::Send(SendError::NoCredit | SendError::NoHost)) => return false,
        Err(_) => return true,
    }
    if read.announce {
        read.announce = false;
        return false;
    }
    if !over {
        read.sent += packed;
    }
    over
}
