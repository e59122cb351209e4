//! Puts the memory map where the linker looks for it.

use std::{env, fs, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    // A Stellaris LM3S6965.
    let map = "MEMORY {
        FLASH : ORIGIN = 0x00000000, LENGTH = 256K
        RAM : ORIGIN = 0x20000000, LENGTH = 64K
    }\n";
    fs::write(out.join("memory.x"), map).expect("a file in OUT_DIR");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rerun-if-changed=build.rs");
}
