//! What the commands on packed model files take: `pack`, `inspect`, `verify`.

use super::values::Budget;
use crate::model::manifest::Precision;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct PackArguments {
    /// A float network with an input of [1, 4, T], one-hot A, C, G, T
    pub onnx: PathBuf,
    /// What the model is, as TOML
    #[arg(long, value_name = "M.toml")]
    pub manifest: PathBuf,
    /// int8, fp16 or f32
    #[arg(long, default_value = "int8")]
    pub precision: Precision,
    /// Reads to choose activation scales on
    #[arg(long, value_name = "READS")]
    pub calibrate: Vec<PathBuf>,
    /// Fail unless every instruction set will give the same bits
    #[arg(long)]
    pub require_bits: bool,
    /// Time for reading the network and for each sample, and memory for all
    #[arg(long, value_name = "TIME,MEMORY", default_value = "60s,4GB")]
    pub budget: Budget,
    /// The model file
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
}

#[derive(Debug, Args)]
pub struct InspectArguments {
    /// A model file
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// A model file
    pub file: PathBuf,
    /// The network it was packed from
    #[arg(long, value_name = "MODEL.onnx")]
    pub against: Option<PathBuf>,
    /// Time for reading the network and for each sample, and memory for all
    #[arg(long, value_name = "TIME,MEMORY", default_value = "60s,4GB")]
    pub budget: Budget,
    /// Reads to compare on; without them and the network only the file's hashes are checked
    #[arg(value_name = "READS", requires = "against")]
    pub reads: Vec<PathBuf>,
}
