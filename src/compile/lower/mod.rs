//! From a float network in tract's graph to a list of steps, most of which our operators can do.
//!
//! The ONNX file is imported by [`fuse`](super::fuse) and tract-onnx, its constants are propagated,
//! and then each node is either part of a pattern or stays what it is.
//!
//! | step | file |
//! | --- | --- |
//! | a file from beginning to end | `import` |
//! | the float graph, the sizes of its rows, how far they reach | `network` |
//! | what it consists of | `steps` |
//! | the walk over the graph, questions about it | `walk`, `finder` |
//! | convolutions and linear layers with all that melts into them | `conv` |
//! | rows: functions, sums, pools, concatenation, fused operators | `rows` |
//! | vectors: pooling by reading frame, dense layers | `dense` |

mod conv;
mod dense;
mod finder;
mod import;
mod levels;
mod network;
mod rows;
mod steps;
mod walk;

pub use import::{open, read};
pub use levels::tabulate;
pub use network::{Network, one_hot};
pub use steps::{
    AffineStep, AttentionStep, ConvStep, DenseStep, EmbedStep, LayerNormStep, LevelsStep,
    ScalarStep, Step,
};
