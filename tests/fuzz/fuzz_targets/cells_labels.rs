//! What a table says of cells, and a list of genes: any bytes are an answer or an error. There are
//! never more cells than lines, and names have no blanks around them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;
use strandline::cells::input::{column, list};

static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let name = format!("strandline-cells-labels-{}", std::process::id());
    std::env::temp_dir().join(name)
});

fuzz_target!(|data: &[u8]| {
    std::fs::write(&*FILE, data).expect("a file");
    // What is compressed has more lines than these.
    let is_gzip = data.starts_with(&[0x1f, 0x8b]);
    let lines = data.split(|&byte| byte == b'\n').count();
    let lines = if is_gzip { usize::MAX } else { lines };
    if let Ok(labels) = column(&FILE, "label") {
        assert!(labels.len() < lines, "more cells than lines");
        for (cell, label) in &labels {
            assert_eq!((cell.trim(), label.trim()), (&**cell, &**label));
        }
    }
    if let Ok(names) = list(&FILE) {
        assert!(!names.is_empty() && names.len() <= lines);
        assert!(
            names
                .iter()
                .all(|name| !name.is_empty() && name.trim() == name)
        );
    }
});
