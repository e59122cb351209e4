//! strandline from C: what `strandline.h` declares, which is made from this file.
//!
//! Handles are slots of one table with the generation of what is in them, so that a handle that was
//! freed, or is of the other kind, is found out. Panics end at the interface as an error.

mod table;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use strandline::nucleotide::{NOT_A_BASE, code};
use strandline::{AnnotateError, Annotator, Call, Flags, ReadState, Request, Strand};
use table::{Entry, Table};

/// The version of this interface. It grows when a function or a struct changes; new functions leave
/// it alone.
pub const STRANDLINE_ABI: u32 = 1;

/// All went well.
pub const STRANDLINE_OK: i32 = 0;
/// There is no call now.
pub const STRANDLINE_NO_CALL: i32 = 1;
/// A handle that is 0, was freed, or is of the other kind.
pub const STRANDLINE_HANDLE: i32 = -1;
/// A null pointer, or an option that cannot be.
pub const STRANDLINE_ARGUMENT: i32 = -2;
/// A byte that is no nucleotide.
pub const STRANDLINE_BASE: i32 = -3;
/// A model that cannot be opened or run.
pub const STRANDLINE_MODEL: i32 = -4;
/// The read is over.
pub const STRANDLINE_OVER: i32 = -5;
/// A fault of this library.
pub const STRANDLINE_INTERNAL: i32 = -6;

/// What a call is.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrandlineKind {
    /// The last base of an exon.
    Donor = 0,
    /// The first base of an exon.
    Acceptor = 1,
    /// Where transcription begins.
    Promoter = 2,
    /// A transcription factor binds around it.
    Tf = 3,
    /// A 5'UTR; its score is the mean ribosome load.
    Expression = 4,
    /// A bacterial promoter; its score is the logarithm of its rate over a reference promoter's.
    PromoterStrength = 5,
}

/// What to know of a call: bits of its flags.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrandlineFlag {
    /// The model's context reaches beyond an end of the read.
    ShortContext = 1,
    /// An N or another ambiguous letter lies within 20 bases.
    Ambiguous = 2,
    /// RNA, whose first base need not be the transcript's.
    Unverified5p = 4,
    /// The read was cut short.
    Partial = 8,
}

/// A call. Its 24 bytes are the caller's.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StrandlineCall {
    /// Its first base, from 0, in forward coordinates of the read on both strands.
    pub start: u64,
    /// The base behind its last.
    pub end: u64,
    /// A calibrated probability, or what the kind says.
    pub score: f32,
    /// A StrandlineKind.
    pub kind: u8,
    /// '+' or '-'.
    pub strand: u8,
    /// StrandlineFlag bits.
    pub flags: u8,
    /// Which model: for strandline_model_name.
    pub model: u8,
}

impl From<Call> for StrandlineCall {
    fn from(call: Call) -> StrandlineCall {
        let flags = [
            Flags::SHORT_CONTEXT,
            Flags::AMBIGUOUS,
            Flags::UNVERIFIED_5P,
            Flags::PARTIAL,
        ];
        let bits = flags.iter().enumerate();
        let bits = bits.filter(|(_, flag)| call.flags.contains(**flag));
        StrandlineCall {
            start: call.start,
            end: call.end,
            score: call.score,
            kind: call.kind as u8,
            strand: match call.strand {
                Strand::Forward => b'+',
                Strand::Reverse => b'-',
            },
            flags: bits.map(|(bit, _)| 1 << bit).sum(),
            model: call.model,
        }
    }
}

/// Models and options, and the names of the models.
struct Models {
    annotator: Annotator,
    names: Vec<String>,
}

/// A read that may still grow, and its calls that nobody has asked for yet.
struct OpenRead {
    state: ReadState,
    calls: VecDeque<Call>,
    is_over: bool,
}

static TABLE: Table<Models, Mutex<OpenRead>> = Table::new();

thread_local! {
    /// Why the last function of this thread failed.
    static FAILURE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Why a function fails: its status, and in words.
struct Failure(i32, String);

impl From<AnnotateError> for Failure {
    fn from(error: AnnotateError) -> Failure {
        let status = match error {
            AnnotateError::Options(_) => STRANDLINE_ARGUMENT,
            AnnotateError::Model(_) => STRANDLINE_MODEL,
            _ => STRANDLINE_INTERNAL,
        };
        Failure(status, error.to_string())
    }
}

fn null(name: &str) -> Failure {
    Failure(STRANDLINE_ARGUMENT, format!("{name} is null"))
}

fn no_handle(handle: u64, kind: &str) -> Failure {
    Failure(
        STRANDLINE_HANDLE,
        format!("{handle} is no {kind}, or no more"),
    )
}

/// Runs a function's body; its failure is kept for [`strandline_last_error`].
fn guarded(body: impl FnOnce() -> Result<i32, Failure>) -> i32 {
    let ran = catch_unwind(AssertUnwindSafe(body));
    let failed = match ran {
        Ok(Ok(status)) => return status,
        Ok(Err(failure)) => failure,
        Err(_) => Failure(STRANDLINE_INTERNAL, "a panic inside strandline".to_string()),
    };
    // At a thread's very end there is nothing to keep it in.
    let _ = FAILURE.try_with(|kept| *kept.borrow_mut() = failed.1);
    failed.0
}

fn models(handle: u64) -> Result<Arc<Models>, Failure> {
    match TABLE.get(handle) {
        Some(Entry::First(models)) => Ok(models),
        _ => Err(no_handle(handle, "annotator")),
    }
}

fn open_read(handle: u64) -> Result<Arc<Mutex<OpenRead>>, Failure> {
    match TABLE.get(handle) {
        Some(Entry::Second(read)) => Ok(read),
        _ => Err(no_handle(handle, "read")),
    }
}

/// Runs something on an open read. One that panicked inside is over.
fn with_read(
    handle: u64,
    run: impl FnOnce(&mut OpenRead) -> Result<i32, Failure>,
) -> Result<i32, Failure> {
    let read = open_read(handle)?;
    let mut read = match read.lock() {
        Ok(read) => read,
        Err(poisoned) => {
            let mut read = poisoned.into_inner();
            read.is_over = true;
            read
        }
    };
    run(&mut read)
}

/// The version of the interface that the library has: compare it with STRANDLINE_ABI.
#[unsafe(no_mangle)]
pub extern "C" fn strandline_abi() -> u32 {
    STRANDLINE_ABI
}

/// The version of strandline, as text that lives as long as the program.
#[unsafe(no_mangle)]
pub extern "C" fn strandline_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Opens models. `options` is null for the default, or text that ends with NUL: a line of KEY=VALUE
/// for each option, such as "tier=fast". Keys are `tasks`, `tier`, `clade`, `molecule`, `strand`,
/// `min-score`, `prior`, `model`, `max-starts` and `everywhere` (`true` or `false`), as `strandline
/// annotate` has them. The annotator is put into `annotator`; strandline_free frees it.
///
/// Returns STRANDLINE_OK, STRANDLINE_ARGUMENT, STRANDLINE_MODEL.
///
/// # Safety
/// `options` is null or ends with NUL; `annotator` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strandline_open(options: *const c_char, annotator: *mut u64) -> i32 {
    guarded(|| {
        if annotator.is_null() {
            return Err(null("annotator"));
        }
        let mut request = Request::default();
        if !options.is_null() {
            // SAFETY: it ends with NUL, says the caller.
            let text = unsafe { CStr::from_ptr(options) }.to_str();
            let text = text.map_err(|_| {
                Failure(STRANDLINE_ARGUMENT, "the options are no UTF-8".to_string())
            })?;
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                let split = line.split_once('=');
                let (key, value) = split.ok_or_else(|| {
                    let message = format!("the option {line:?} is no KEY=VALUE");
                    Failure(STRANDLINE_ARGUMENT, message)
                })?;
                request.set(key.trim(), value.trim())?;
            }
        }
        let opened = request.open(true)?;
        let names = opened.models().iter();
        let names = names.map(|model| format!("{}/{}", model.name, model.version));
        let models = Models {
            names: names.collect(),
            annotator: opened,
        };
        let handle = TABLE.insert(Entry::First(Arc::new(models)));
        // SAFETY: it is not null, and can be written, says the caller.
        unsafe { annotator.write(handle) };
        Ok(STRANDLINE_OK)
    })
}

/// Begins a read, which is put into `read`; strandline_free frees it. It needs the annotator no
/// longer, which may be freed before.
///
/// Returns STRANDLINE_OK, STRANDLINE_HANDLE, STRANDLINE_ARGUMENT.
///
/// # Safety
/// `read` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strandline_begin(annotator: u64, read: *mut u64) -> i32 {
    guarded(|| {
        if read.is_null() {
            return Err(null("read"));
        }
        let models = models(annotator)?;
        let open = OpenRead {
            state: models.annotator.read(),
            calls: VecDeque::new(),
            is_over: false,
        };
        let handle = TABLE.insert(Entry::Second(Arc::new(Mutex::new(open))));
        // SAFETY: it is not null, and can be written, says the caller.
        unsafe { read.write(handle) };
        Ok(STRANDLINE_OK)
    })
}

/// Adds bases to a read: letters of any case, U for T, IUPAC codes count as N. Calls that they make
/// certain wait for strandline_next_call. Where a byte is no nucleotide, none is added.
///
/// Returns STRANDLINE_OK, STRANDLINE_HANDLE, STRANDLINE_ARGUMENT, STRANDLINE_BASE,
/// STRANDLINE_OVER, STRANDLINE_MODEL.
///
/// # Safety
/// `bases` can be read for `length` bytes; it may be null where `length` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strandline_push(read: u64, bases: *const c_char, length: usize) -> i32 {
    guarded(|| {
        with_read(read, |read| {
            if read.is_over {
                return Err(Failure(STRANDLINE_OVER, "the read is over".to_string()));
            }
            let bases: &[u8] = match length {
                0 => &[],
                _ if bases.is_null() => return Err(null("bases")),
                // SAFETY: so many bytes can be read, says the caller.
                _ => unsafe { std::slice::from_raw_parts(bases.cast(), length) },
            };
            if let Some(at) = bases.iter().position(|&letter| code(letter) == NOT_A_BASE) {
                let byte = bases[at].escape_ascii();
                let message = format!("'{byte}' at byte {at} of these bases is no nucleotide");
                return Err(Failure(STRANDLINE_BASE, message));
            }
            let calls = &mut read.calls;
            read.state.push(bases, &mut |call| calls.push_back(call))?;
            Ok(STRANDLINE_OK)
        })
    })
}

/// Ends a read: the rest of its calls wait for strandline_next_call.
///
/// Returns STRANDLINE_OK, STRANDLINE_HANDLE, STRANDLINE_OVER, STRANDLINE_MODEL.
#[unsafe(no_mangle)]
pub extern "C" fn strandline_finish(read: u64) -> i32 {
    guarded(|| {
        with_read(read, |read| {
            if std::mem::replace(&mut read.is_over, true) {
                return Err(Failure(STRANDLINE_OVER, "the read is over".to_string()));
            }
            let calls = &mut read.calls;
            read.state.finish(&mut |call| calls.push_back(call))?;
            Ok(STRANDLINE_OK)
        })
    })
}

/// Takes the next call of a read, in the order in which they became certain, into `call`.
///
/// Returns STRANDLINE_OK; STRANDLINE_NO_CALL where none waits, and `call` is left alone;
/// STRANDLINE_HANDLE, STRANDLINE_ARGUMENT.
///
/// # Safety
/// `call` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strandline_next_call(read: u64, call: *mut StrandlineCall) -> i32 {
    guarded(|| {
        if call.is_null() {
            return Err(null("call"));
        }
        with_read(read, |read| {
            let Some(next) = read.calls.pop_front() else {
                return Ok(STRANDLINE_NO_CALL);
            };
            // SAFETY: it is not null, and can be written, says the caller.
            unsafe { call.write(next.into()) };
            Ok(STRANDLINE_OK)
        })
    })
}

/// Frees an annotator or a read, once. Calls that wait are gone.
///
/// Returns STRANDLINE_OK, STRANDLINE_HANDLE.
#[unsafe(no_mangle)]
pub extern "C" fn strandline_free(handle: u64) -> i32 {
    guarded(|| match TABLE.remove(handle) {
        Some(_) => Ok(STRANDLINE_OK),
        None => Err(no_handle(handle, "annotator or read")),
    })
}

/// Copies text and NUL, as far as there is room; gives the bytes that all of it takes.
///
/// # Safety
/// `buffer` can be written for `size` bytes; it may be null where `size` is 0.
unsafe fn copy(text: &str, buffer: *mut c_char, size: usize) -> usize {
    if !buffer.is_null() && size > 0 {
        let mut count = text.len().min(size - 1);
        while !text.is_char_boundary(count) {
            count -= 1;
        }
        // SAFETY: count + 1 bytes are at most `size`, which can be written, says the caller.
        unsafe {
            buffer.copy_from_nonoverlapping(text.as_ptr().cast(), count);
            buffer.add(count).write(0);
        }
    }
    text.len() + 1
}

/// Copies the name and version of one of the annotator's models ("splice-auto/2.0.0") and NUL into
/// `buffer`, cut to `size` bytes, and the bytes that all of it takes into `needed`, unless that is
/// null. `buffer` may be null where `size` is 0.
///
/// Returns STRANDLINE_OK, STRANDLINE_HANDLE, STRANDLINE_ARGUMENT (there is no such model).
///
/// # Safety
/// `buffer` can be written for `size` bytes, or `size` is 0; `needed` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strandline_model_name(
    annotator: u64,
    model: u32,
    buffer: *mut c_char,
    size: usize,
    needed: *mut usize,
) -> i32 {
    guarded(|| {
        let models = models(annotator)?;
        let count = models.names.len();
        let name = models.names.get(model as usize).ok_or_else(|| {
            let message = format!("there is no model {model} of {count}");
            Failure(STRANDLINE_ARGUMENT, message)
        })?;
        if buffer.is_null() && size > 0 {
            return Err(null("buffer"));
        }
        // SAFETY: the caller's.
        let bytes = unsafe { copy(name, buffer, size) };
        if !needed.is_null() {
            // SAFETY: it can be written, says the caller.
            unsafe { needed.write(bytes) };
        }
        Ok(STRANDLINE_OK)
    })
}

/// Why the last function that failed on this thread did: copies the message and NUL into `buffer`,
/// cut to `size` bytes, and returns the bytes that all of it takes. `buffer` may be null.
///
/// # Safety
/// `buffer` is null or can be written for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strandline_last_error(buffer: *mut c_char, size: usize) -> usize {
    let message = FAILURE.try_with(|failure| failure.borrow().clone());
    let message = message.unwrap_or_else(|_| "the thread is at its end".to_string());
    // SAFETY: the caller's.
    unsafe { copy(&message, buffer, size) }
}
