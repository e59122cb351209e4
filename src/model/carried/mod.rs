//! Networks whose rows are computed once, however a sequence grows.
//!
//! A [`Runner`](crate::model::Runner) looks at a window, and computes the window's margins again
//! with the next one. Where every layer is an integer convolution of stride 1, the rows that later
//! positions still need can be kept instead, for each layer and strand: a push then computes new
//! rows only. Sums of integers do not depend on how rows are cut, so the bits are the same.
//!
//! The reverse strand is the mirrored network over forward bases: taps in reverse, complementary
//! channels of the bases.
//!
//! ```text
//! codes --> first stage, every row --> output, or which rows the second stage is asked for
//!                \--> second stage: rows near those, each once
//! ```
//!
//! | what | file |
//! | --- | --- |
//! | which networks, and their layers in both directions | `network` |
//! | what a read keeps between pushes | `kept` |
//! | values while a push is worked on | `work` |
//! | a push | `push` |
//! | a sequence with one code changed at a time | `altered` |

mod altered;
mod kept;
mod network;
mod push;
mod work;

pub(crate) use altered::Altered;
pub(crate) use kept::KeptRows;
pub(crate) use network::Carried;
pub use work::LookCost;
pub(crate) use work::Work;
