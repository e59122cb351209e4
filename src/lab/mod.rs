//! For measuring, not for annotating: reads with known sites, how well they are found, what a
//! machine sustains.

#[cfg(feature = "tract")]
pub mod bench;
pub mod evaluate;
pub mod replay;
pub mod simulate;
pub mod truth;
#[cfg(feature = "pack")]
pub mod verify;
