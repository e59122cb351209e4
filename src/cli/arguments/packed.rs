//! What the commands on packed model files take: `pack`, `inspect`, `verify`.

use super::values::{Budget, cosine};
use crate::model::manifest::Precision;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct PackArguments {
    /// A float network with an input of [1, 4, T] or [1, T, 4], one-hot A, C, G, T, or of token ids
    /// [1, T]
    pub onnx: PathBuf,
    /// What the model is, as TOML [default: a raw model, as far as the network itself tells]
    #[arg(long, value_name = "M.toml")]
    pub manifest: Option<PathBuf>,
    /// Print the manifest of a raw model of this network, to be made one of a task
    #[arg(long, conflicts_with_all = ["manifest", "output"])]
    pub print_manifest: bool,
    /// int8, fp16 or f32
    #[arg(long, default_value = "int8")]
    pub precision: Precision,
    /// With int8: rows whose rounding error lies less than so many decibels below them stay float,
    /// and what reads them keeps weights in fp16 [default: 20]
    #[arg(long, value_name = "DECIBELS")]
    pub min_snr: Option<f32>,
    /// Reads to choose activation scales on; cells for a model that reads these, of which the first
    /// 256 at most are used
    #[arg(long, value_name = "INPUT")]
    pub calibrate: Vec<PathBuf>,
    /// Fail unless every instruction set will give the same bits
    #[arg(long)]
    pub require_bits: bool,
    /// The least cosine of outputs and the network's own that will do; the file says so [default:
    /// .98 for int8, .9998 for fp16, .99999 for f32]
    #[arg(long, value_name = "COSINE", value_parser = cosine)]
    pub allow_difference: Option<f64>,
    /// Write the file without comparing it with the network; the file says so
    #[arg(long, conflicts_with = "allow_difference")]
    pub no_check: bool,
    /// Time for reading the network and for each sample, and memory for all
    #[arg(long, value_name = "TIME,MEMORY", default_value = "60s,4GB")]
    pub budget: Budget,
    /// The model file
    #[arg(
        short,
        long,
        value_name = "OUT",
        required_unless_present = "print_manifest"
    )]
    pub output: Option<PathBuf>,
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
    /// The least cosine of outputs and the network's own that will do [default: .98 for int8,
    /// .9998 for fp16, .99999 for f32]
    #[arg(long, value_name = "COSINE", value_parser = cosine, requires = "against")]
    pub allow_difference: Option<f64>,
    /// Time for reading the network and for each sample, and memory for all
    #[arg(long, value_name = "TIME,MEMORY", default_value = "60s,4GB")]
    pub budget: Budget,
    /// Reads to compare on, or token ids, one sequence a line; without them and the network only
    /// the file's hashes are checked
    #[arg(value_name = "READS", requires = "against")]
    pub reads: Vec<PathBuf>,
}
