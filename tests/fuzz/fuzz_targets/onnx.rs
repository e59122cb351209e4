//! ONNX files: our checks and rewriting, up to the call of tract. `models/float` holds good ones to
//! start from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strandline::compile::rewritten;

fuzz_target!(|data: &[u8]| {
    let _ = rewritten(data);
});
