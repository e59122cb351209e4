//! Manifests as `pack` reads them: `models/*.toml` are good ones to start from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strandline::annotate::Task;
use strandline::model::manifest::Manifest;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(manifest) = Manifest::from_toml(text) {
        let _ = Task::of(&manifest);
    }
});
