//! What stands on the command line, a file for each command. Only the file that plans a command
//! reads its arguments.

pub mod annotate;
pub mod bench;
pub mod bench_model;
pub mod cells;
pub mod eval;
pub mod explain;
pub mod fleet;
pub mod flow_cell;
pub mod packed;
pub mod program;
pub mod replay;
pub mod score;
pub mod simulate;
pub mod values;
pub mod variants;
