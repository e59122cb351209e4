//! `strandline.h` is what cbindgen makes of the source. STRANDLINE_BLESS=1 writes it anew.

use std::path::Path;

#[test]
fn the_header_is_that_of_the_source() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).unwrap();
    let made = cbindgen::Builder::new()
        .with_src(folder.join("src/lib.rs"))
        .with_config(config)
        .generate()
        .unwrap();
    let mut bytes = vec![];
    made.write(&mut bytes);
    let made = String::from_utf8(bytes).unwrap();
    let path = folder.join("strandline.h");
    if std::env::var_os("STRANDLINE_BLESS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(made == kept, "strandline.h is of another source: {made}");
}
