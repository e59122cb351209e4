//! The functions of the C interface in any order, with any handle: each answers what it must.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::ffi::CString;
use strandline_c::*;

/// A handle: one of those that were given out, or any number.
#[derive(Arbitrary, Debug)]
enum Handle {
    Known(u8),
    Near(u8, u64),
    Any(u64),
}

#[derive(Arbitrary, Debug)]
enum Step {
    Open(Vec<u8>),
    OpenFast,
    Begin(Handle),
    Push(Handle, Vec<u8>),
    PushBases(Handle, u16),
    Finish(Handle),
    Next(Handle),
    Name(Handle, u32, u8),
    Error(u8),
    Free(Handle),
}

/// What was given out, and what it is.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    Annotator,
    Read { over: bool },
    Gone,
}

/// What a function of reads answers.
fn of_read(known: Known) -> i32 {
    match known {
        Known::Read { over: false } => STRANDLINE_OK,
        Known::Read { over: true } => STRANDLINE_OVER,
        _ => STRANDLINE_HANDLE,
    }
}

fn last_error(size: usize) {
    let mut buffer = vec![1u8; size];
    // SAFETY: the buffer is as long as that.
    let needed = unsafe { strandline_last_error(buffer.as_mut_ptr().cast(), size) };
    assert!(needed > 0);
    if let Some(end) = buffer.iter().position(|&byte| byte == 0) {
        assert!(end < needed && std::str::from_utf8(&buffer[..end]).is_ok());
    } else {
        assert_eq!(size, 0);
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let mut handles: Vec<(u64, Known)> = vec![];
    let mut opened = 0;
    for step in steps {
        // The place among those given out, and the number itself.
        let find = |handle: &Handle| {
            let number = match *handle {
                Handle::Known(place) | Handle::Near(place, _) if handles.is_empty() => place.into(),
                Handle::Known(place) => handles[place as usize % handles.len()].0,
                Handle::Near(place, other) => handles[place as usize % handles.len()].0 ^ other,
                Handle::Any(number) => number,
            };
            let place = handles.iter().position(|(own, _)| *own == number);
            let known = place.map_or(Known::Gone, |place| handles[place].1);
            (number, place, known)
        };
        let mut made = 0;
        match &step {
            Step::Open(_) | Step::OpenFast if opened == 8 => {}
            Step::Open(options) => {
                // No file is read but where the option names one, and this one is not there.
                let options: Vec<u8> = options.iter().copied().filter(|&byte| byte != 0).collect();
                let options = CString::new(options).unwrap();
                // SAFETY: the text ends with NUL, and the handle can be written.
                let status = unsafe { strandline_open(options.as_ptr(), &mut made) };
                match status {
                    STRANDLINE_OK => {
                        handles.push((made, Known::Annotator));
                        opened += 1;
                    }
                    STRANDLINE_ARGUMENT | STRANDLINE_MODEL => assert_eq!(made, 0),
                    other => panic!("{other}"),
                }
            }
            Step::OpenFast => {
                let options = c"tier=fast\ntasks=promoter";
                // SAFETY: the text ends with NUL, and the handle can be written.
                let status = unsafe { strandline_open(options.as_ptr(), &mut made) };
                assert_eq!(status, STRANDLINE_OK);
                handles.push((made, Known::Annotator));
                opened += 1;
            }
            Step::Begin(handle) => {
                let (number, _, known) = find(handle);
                // SAFETY: the handle can be written.
                let status = unsafe { strandline_begin(number, &mut made) };
                match known {
                    Known::Annotator => {
                        assert_eq!(status, STRANDLINE_OK);
                        handles.push((made, Known::Read { over: false }));
                    }
                    _ => assert_eq!((status, made), (STRANDLINE_HANDLE, 0)),
                }
            }
            Step::Push(handle, bytes) => {
                let (number, _, known) = find(handle);
                // SAFETY: so many bytes can be read.
                let status =
                    unsafe { strandline_push(number, bytes.as_ptr().cast(), bytes.len()) };
                assert!(status == of_read(known) || status == STRANDLINE_BASE);
                assert!(status != STRANDLINE_BASE || of_read(known) == STRANDLINE_OK);
            }
            Step::PushBases(handle, count) => {
                let (number, _, known) = find(handle);
                let bases: Vec<u8> = (0..usize::from(*count) % 2_000)
                    .map(|place| b"ACGTTGCAAGGT"[(place * place + place) % 12])
                    .collect();
                // SAFETY: so many bytes can be read.
                let status =
                    unsafe { strandline_push(number, bases.as_ptr().cast(), bases.len()) };
                assert_eq!(status, of_read(known));
            }
            Step::Finish(handle) => {
                let (number, place, known) = find(handle);
                assert_eq!(strandline_finish(number), of_read(known));
                if let (Known::Read { .. }, Some(place)) = (known, place) {
                    handles[place].1 = Known::Read { over: true };
                }
            }
            Step::Next(handle) => {
                let (number, _, known) = find(handle);
                let mut call = StrandlineCall {
                    start: 0,
                    end: 0,
                    score: 0.0,
                    kind: 0,
                    strand: 0,
                    flags: 0,
                    model: 0,
                };
                // SAFETY: the call can be written.
                let status = unsafe { strandline_next_call(number, &mut call) };
                match status {
                    STRANDLINE_OK => assert!(call.start < call.end),
                    STRANDLINE_NO_CALL => assert_eq!((call.start, call.end), (0, 0)),
                    other => assert_eq!(other, STRANDLINE_HANDLE),
                }
                let is_read = matches!(known, Known::Read { .. });
                assert_eq!(is_read, status != STRANDLINE_HANDLE);
            }
            Step::Name(handle, model, size) => {
                let (number, _, known) = find(handle);
                let mut buffer = vec![1u8; usize::from(*size)];
                let mut needed = 0;
                // SAFETY: the buffer is as long as that, and the number can be written.
                let status = unsafe {
                    strandline_model_name(
                        number,
                        *model,
                        buffer.as_mut_ptr().cast(),
                        buffer.len(),
                        &mut needed,
                    )
                };
                match known {
                    Known::Annotator if status == STRANDLINE_OK => {
                        assert!(needed > 1 && (buffer.is_empty() || buffer.contains(&0)));
                    }
                    Known::Annotator => assert_eq!(status, STRANDLINE_ARGUMENT),
                    _ => assert_eq!(status, STRANDLINE_HANDLE),
                }
            }
            Step::Error(size) => last_error((*size).into()),
            Step::Free(handle) => {
                let (number, place, known) = find(handle);
                let status = strandline_free(number);
                match (known, place) {
                    (Known::Gone, _) | (_, None) => assert_eq!(status, STRANDLINE_HANDLE),
                    (_, Some(place)) => {
                        assert_eq!(status, STRANDLINE_OK);
                        handles[place].1 = Known::Gone;
                    }
                }
            }
        }
    }
    // The table is one for the whole program.
    for (handle, known) in handles {
        let freed = strandline_free(handle) == STRANDLINE_OK;
        assert_eq!(freed, known != Known::Gone);
    }
});
