//! The functions as C calls them: in order, and in any order.

use std::collections::HashMap;
use std::ffi::{CString, c_char};
use std::ptr::null_mut;
use strandline::{Annotator, Call, Options};
use strandline_c::*;

/// Letters that hold splice sites: of the sample genes.
fn letters() -> String {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../tests/data/transcripts.fa"
    );
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.starts_with('>')).collect()
}

fn open(options: &str) -> Result<u64, i32> {
    let options = CString::new(options).unwrap();
    let mut handle = 0;
    // SAFETY: the text ends with NUL, and the handle can be written.
    match unsafe { strandline_open(options.as_ptr(), &mut handle) } {
        STRANDLINE_OK => Ok(handle),
        status => Err(status),
    }
}

fn begin(annotator: u64) -> Result<u64, i32> {
    let mut handle = 0;
    // SAFETY: the handle can be written.
    match unsafe { strandline_begin(annotator, &mut handle) } {
        STRANDLINE_OK => Ok(handle),
        status => Err(status),
    }
}

fn push(read: u64, letters: &str) -> i32 {
    // SAFETY: so many bytes can be read.
    unsafe { strandline_push(read, letters.as_ptr().cast(), letters.len()) }
}

fn next(read: u64) -> Result<StrandlineCall, i32> {
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
    match unsafe { strandline_next_call(read, &mut call) } {
        STRANDLINE_OK => Ok(call),
        status => Err(status),
    }
}

fn last_error() -> String {
    let mut buffer = [0u8; 300];
    // SAFETY: the buffer is as long as that.
    let needed = unsafe { strandline_last_error(buffer.as_mut_ptr().cast(), buffer.len()) };
    let end = buffer.iter().position(|&byte| byte == 0).unwrap();
    assert!(needed > end);
    String::from_utf8(buffer[..end].to_vec()).unwrap()
}

#[test]
fn calls_are_those_of_the_library() {
    let letters = letters();
    let annotator = open("tasks = splice,promoter\nmin-score=0.01\n\n").unwrap();
    let read = begin(annotator).unwrap();
    // The read goes on without the annotator.
    assert_eq!(strandline_free(annotator), STRANDLINE_OK);
    let mut got = vec![];
    for piece in letters.as_bytes().chunks(777) {
        assert_eq!(
            push(read, std::str::from_utf8(piece).unwrap()),
            STRANDLINE_OK
        );
        while let Ok(call) = next(read) {
            got.push(call);
        }
    }
    assert_eq!(next(read), Err(STRANDLINE_NO_CALL));
    assert_eq!(strandline_finish(read), STRANDLINE_OK);
    while let Ok(call) = next(read) {
        got.push(call);
    }
    assert_eq!(strandline_finish(read), STRANDLINE_OVER);
    assert_eq!(push(read, "A"), STRANDLINE_OVER);
    assert_eq!(strandline_free(read), STRANDLINE_OK);

    let options = Options {
        min_score: Some(0.01),
        ..Options::default()
    };
    let own = Annotator::builtin(options).unwrap();
    let (mut state, mut expected) = (own.read(), Vec::<Call>::new());
    state.push(letters.as_bytes(), &mut expected).unwrap();
    state.finish(&mut expected).unwrap();
    let mut expected: Vec<StrandlineCall> = expected.into_iter().map(Into::into).collect();
    let place = |call: &StrandlineCall| (call.start, call.end, call.strand, call.kind);
    got.sort_by_key(place);
    expected.sort_by_key(place);
    assert!(!got.is_empty());
    assert_eq!(got, expected);
    for kind in got.iter().map(|call| call.kind) {
        let known = [
            StrandlineKind::Donor as u8,
            StrandlineKind::Acceptor as u8,
            StrandlineKind::Promoter as u8,
        ];
        assert!(known.contains(&kind));
    }
}

#[test]
fn constants_are_those_of_the_library() {
    use strandline::{CallKind, Flags};
    for (own, kind) in [
        (StrandlineKind::Donor, CallKind::Donor),
        (StrandlineKind::Acceptor, CallKind::Acceptor),
        (StrandlineKind::Promoter, CallKind::Promoter),
        (StrandlineKind::Tf, CallKind::Tf),
        (StrandlineKind::Expression, CallKind::Expression),
        (StrandlineKind::PromoterStrength, CallKind::PromoterStrength),
    ] {
        assert_eq!(own as u8, kind as u8, "{kind}");
    }
    for (own, flags) in [
        (StrandlineFlag::ShortContext, Flags::SHORT_CONTEXT),
        (StrandlineFlag::Ambiguous, Flags::AMBIGUOUS),
        (StrandlineFlag::Unverified5p, Flags::UNVERIFIED_5P),
        (StrandlineFlag::Partial, Flags::PARTIAL),
    ] {
        let call = Call {
            start: 1,
            end: 2,
            strand: strandline::Strand::Reverse,
            kind: CallKind::Donor,
            score: 0.5,
            flags,
            model: 3,
        };
        let made = StrandlineCall::from(call);
        assert_eq!((made.flags, made.strand, made.model), (own as u8, b'-', 3));
    }
    assert_eq!(size_of::<StrandlineCall>(), 24);
    assert_eq!(strandline_abi(), STRANDLINE_ABI);
}

#[test]
fn what_is_wrong_is_said() {
    for (options, status, expected) in [
        ("tier=best", STRANDLINE_ARGUMENT, "fast, accurate or auto"),
        ("tier", STRANDLINE_ARGUMENT, "no KEY=VALUE"),
        ("colour=red", STRANDLINE_ARGUMENT, "no option"),
        (
            "model=missing.safetensors",
            STRANDLINE_MODEL,
            "missing.safetensors",
        ),
    ] {
        assert_eq!(open(options), Err(status), "{options}");
        assert!(
            last_error().contains(expected),
            "{options}: {}",
            last_error()
        );
    }
    let annotator = open("tier=fast").unwrap();
    let read = begin(annotator).unwrap();
    assert_eq!(push(read, "ACG!T"), STRANDLINE_BASE);
    assert!(last_error().contains("'!' at byte 3"), "{}", last_error());
    assert_eq!(begin(read), Err(STRANDLINE_HANDLE));
    assert_eq!(push(annotator, "ACGT"), STRANDLINE_HANDLE);
    assert!(last_error().contains("no read"), "{}", last_error());
    let name = |model, buffer: *mut c_char, size| {
        let mut needed = 0;
        // SAFETY: the buffer is as long as that, or there is none.
        let status = unsafe { strandline_model_name(annotator, model, buffer, size, &mut needed) };
        (status, needed)
    };
    let mut buffer = [1u8; 8];
    let cut = name(0, buffer.as_mut_ptr().cast(), 5);
    assert_eq!((cut.0, &buffer), (STRANDLINE_OK, b"spli\0\x01\x01\x01"));
    assert_eq!(name(0, null_mut(), 0), (STRANDLINE_OK, cut.1));
    assert!(cut.1 > "splice-fast/".len());
    assert_eq!(name(9, null_mut(), 0).0, STRANDLINE_ARGUMENT);
    assert_eq!(name(0, null_mut(), 4).0, STRANDLINE_ARGUMENT);
    for handle in [read, annotator] {
        assert_eq!(strandline_free(handle), STRANDLINE_OK);
        assert_eq!(strandline_free(handle), STRANDLINE_HANDLE);
    }
    // SAFETY: null pointers are what is tried.
    unsafe {
        assert_eq!(strandline_open(null_mut(), null_mut()), STRANDLINE_ARGUMENT);
        assert_eq!(strandline_begin(annotator, null_mut()), STRANDLINE_ARGUMENT);
        assert_eq!(strandline_next_call(read, null_mut()), STRANDLINE_ARGUMENT);
        assert_eq!(strandline_push(read, null_mut(), 3), STRANDLINE_HANDLE);
        assert!(strandline_last_error(null_mut(), 0) > 1);
    }
}

/// What a handle is, as far as the test knows.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    Annotator,
    /// Open, or over.
    Read(bool),
    Gone,
}

/// Any function with any handle, also from several threads: each answers what it must.
#[test]
fn misuse_is_answered() {
    let letters = letters();
    let play = |seed: u64, steps: usize| {
        let mut state = seed;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut known: HashMap<u64, Known> = HashMap::new();
        let mut handles: Vec<u64> = vec![0, 1, u64::MAX, 7 << 32, 1 << 63];
        for _ in 0..steps {
            let handle = handles[random(handles.len())];
            // Handles that this thread made; what others made it cannot have met by chance, as
            // their generation and slot are taken.
            let own = known.get(&handle).copied();
            let is = own.unwrap_or(Known::Gone);
            if own.is_none() && (handle as u32) < 1_000 && handle >> 32 != 0 {
                continue;
            }
            match random(7) {
                0 if known.len() < 40 => {
                    let made = open(["tier=fast\ntasks=promoter", "tasks=promoter"][random(2)]);
                    let made = made.unwrap();
                    assert!(known.insert(made, Known::Annotator).is_none());
                    handles.push(made);
                }
                1 => match begin(handle) {
                    Ok(read) => {
                        assert!(is == Known::Annotator);
                        assert!(known.insert(read, Known::Read(true)).is_none());
                        handles.push(read);
                    }
                    Err(status) => {
                        assert_eq!(status, STRANDLINE_HANDLE);
                        assert!(is != Known::Annotator);
                    }
                },
                2 => {
                    let from = random(letters.len() - 400);
                    let status = push(handle, &letters[from..from + random(400)]);
                    let expected = match is {
                        Known::Read(true) => STRANDLINE_OK,
                        Known::Read(false) => STRANDLINE_OVER,
                        _ => STRANDLINE_HANDLE,
                    };
                    assert_eq!(status, expected);
                }
                3 => {
                    let expected = match is {
                        Known::Read(true) => STRANDLINE_OK,
                        Known::Read(false) => STRANDLINE_OVER,
                        _ => STRANDLINE_HANDLE,
                    };
                    assert_eq!(strandline_finish(handle), expected);
                    if expected == STRANDLINE_OK {
                        known.insert(handle, Known::Read(false));
                    }
                }
                4 | 5 => match next(handle) {
                    Ok(call) => assert!(matches!(is, Known::Read(_)) && call.start < call.end),
                    Err(STRANDLINE_NO_CALL) => assert!(matches!(is, Known::Read(_))),
                    Err(status) => {
                        assert_eq!(status, STRANDLINE_HANDLE);
                        assert!(!matches!(is, Known::Read(_)));
                    }
                },
                _ => {
                    let expected = match is {
                        Known::Gone => STRANDLINE_HANDLE,
                        _ => STRANDLINE_OK,
                    };
                    assert_eq!(strandline_free(handle), expected);
                    if expected == STRANDLINE_OK {
                        known.insert(handle, Known::Gone);
                    }
                }
            }
        }
        for (handle, is) in known {
            let freed = strandline_free(handle) == STRANDLINE_OK;
            assert_eq!(freed, is != Known::Gone);
        }
    };
    play(1, 3_000);
    std::thread::scope(|scope| {
        for seed in 2..5 {
            scope.spawn(move || play(seed, 2_000));
        }
    });
}
