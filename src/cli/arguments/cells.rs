//! What the commands of `cells` take.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum CellsCommand {
    /// Types of cells, with probabilities
    Annotate(AnnotateCellsArguments),
    /// A vector for each cell, of length 1
    Embed(EmbedArguments),
    /// The nearest cells of a reference, and what most of them are
    Map(MapArguments),
    /// What knocking a gene out, down or over does to all others
    Perturb(PerturbArguments),
    /// Genes that a model has close together: neighbours, communities, a picture
    Network(NetworkArguments),
}

/// What the values of an input are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ValuesArgument {
    /// Counts of molecules
    Counts,
    /// ln(1 + normalised counts)
    Lognorm,
}

/// The model of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelOf {
    pub batch: String,
    pub file: PathBuf,
}

fn model_of(text: &str) -> Result<ModelOf, String> {
    match text.split_once('=') {
        Some((batch, file)) if !batch.is_empty() && !file.is_empty() => Ok(ModelOf {
            batch: batch.to_string(),
            file: file.into(),
        }),
        _ => Err("a batch, =, and a model file".to_string()),
    }
}

/// How cells are read and prepared.
#[derive(Debug, Clone, Args)]
pub struct CellsOptions {
    /// A model file [default: the built-in one]
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// What the values of all inputs are [default: looked at in the first cells of each]
    #[arg(long = "input", value_name = "VALUES", value_enum)]
    pub values: Option<ValuesArgument>,
    /// The matrix of this name in `layers` of an .h5ad
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// The matrix `raw` of an .h5ad, which many have beside a scaled `X`
    #[arg(long, conflicts_with = "layer")]
    pub raw: bool,
    /// Names of genes, one a line, for a matrix without any
    #[arg(long, value_name = "FILE")]
    pub genes: Option<PathBuf>,
    /// Draw which genes of a cell are left out where it has more than the model takes, and among
    /// equal bins, as the published code does [default: the highest values stay, and ties have a
    /// rule]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Threads [default: one for each core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

#[derive(Debug, Args)]
pub struct AnnotateCellsArguments {
    /// A 10x folder, .h5ad, 10x .h5, .npz, MatrixMarket, TSV or CSV with a row a cell
    pub input: PathBuf,
    #[command(flatten)]
    pub options: CellsOptions,
    /// Types below this probability are unknown [default: the model's]
    #[arg(long, value_name = "P")]
    pub min_probability: Option<f32>,
    /// Score a growing 10x folder again and again, until it is stopped: cells that are new, and
    /// those whose counts have grown by the share of `--growth`
    #[arg(long)]
    pub follow: bool,
    /// Growth of a cell's counts from which on it is scored again
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, requires = "follow")]
    pub growth: f64,
    /// Seconds between two looks at a growing folder
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 10.0,
        requires = "follow"
    )]
    pub interval: f64,
    /// End once the folder has not changed for so many looks [default: never]
    #[arg(
        long,
        value_name = "LOOKS",
        requires = "follow",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub until_quiet: Option<u32>,
    /// TSV, a line a cell ('-': standard output); or an .h5ad, a copy of that input with the same
    /// columns in `obs`
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("named").multiple(true))]
pub struct EmbedArguments {
    /// A 10x folder, .h5ad, 10x .h5, .npz, MatrixMarket, TSV or CSV with a row a cell
    pub input: PathBuf,
    #[command(flatten)]
    pub options: CellsOptions,
    /// A column of the input with the types of its cells: their silhouette is printed
    #[arg(long, value_name = "COLUMN", group = "named")]
    pub label: Option<String>,
    /// TSV with a header, whose first column names cells: columns for an input without any
    #[arg(long, value_name = "FILE", requires = "named")]
    pub labels: Option<PathBuf>,
    /// A column of the input with batches: their silhouette and mixing are printed
    #[arg(long, value_name = "COLUMN", group = "named")]
    pub batch: Option<String>,
    /// The model of the cells of a batch, for networks with a norm for each (DSBN); given again for
    /// each batch. Cells of others have no vector
    #[arg(
        long,
        value_name = "BATCH=FILE",
        requires = "batch",
        conflicts_with = "model",
        allow_hyphen_values = true,
        value_parser = model_of
    )]
    pub model_of: Vec<ModelOf>,
    /// `.npy` of float32, cells by width; or an .h5ad, a copy of that input with the array
    /// `X_strandline` in `obsm`; or TSV ('-': TSV on standard output). Cells that cannot be used
    /// have NaN in arrays, and no line in TSV
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
}

#[derive(Debug, Args)]
pub struct MapArguments {
    /// The cells in question
    pub query: PathBuf,
    /// Cells whose labels are known
    #[arg(long, value_name = "INPUT")]
    pub reference: PathBuf,
    /// TSV with a header, whose first column names cells of the reference: columns for one without
    /// any
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// The column of the reference with its labels
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    pub label: String,
    /// Neighbours that are asked
    #[arg(
        short = 'k',
        long,
        value_name = "K",
        default_value_t = 10,
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    pub neighbours: u16,
    #[command(flatten)]
    pub options: CellsOptions,
    /// TSV, a line a cell ('-': standard output)
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
}

/// How a gene is perturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PerturbationArgument {
    /// Knocked out
    Ko,
    /// Knocked down
    Kd,
    /// Over-expressed
    Oe,
}

#[derive(Debug, Args)]
pub struct PerturbArguments {
    /// Control cells
    pub input: PathBuf,
    /// A gene that is perturbed; several at once where it is given again
    #[arg(long = "gene", value_name = "GENE", required = true)]
    pub perturbed: Vec<String>,
    /// How; a model knows what it was trained on, the built-in one knock-outs
    #[arg(long = "as", value_enum, default_value = "ko")]
    pub how: PerturbationArgument,
    /// Genes in the output, those that change most [default: all]
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    #[command(flatten)]
    pub options: CellsOptions,
    /// TSV, a line a gene ('-': standard output)
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
}

#[derive(Debug, Args)]
pub struct NetworkArguments {
    /// A model file [default: the built-in model of types]
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Only these genes, one a line [default: all of the model]
    #[arg(long, value_name = "FILE")]
    pub genes: Option<PathBuf>,
    /// Neighbours of each gene in the graph that is divided
    #[arg(
        short = 'k',
        long,
        value_name = "K",
        default_value_t = 15,
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    pub neighbours: u16,
    /// Resolution of the Leiden communities: more gives smaller ones
    #[arg(long, value_name = "R", default_value_t = 40.0)]
    pub resolution: f64,
    /// Fewest genes of a program
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub min_genes: usize,
    /// Least cosine of an edge that is written
    #[arg(
        long,
        value_name = "COSINE",
        default_value_t = 0.4,
        allow_negative_numbers = true
    )]
    pub min_cosine: f32,
    /// Begins the order in which genes are looked at
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Programs as TSV, a line a gene
    #[arg(long, value_name = "FILE")]
    pub programs: Option<PathBuf>,
    /// Edges as GraphML
    #[arg(long, value_name = "FILE")]
    pub graphml: Option<PathBuf>,
    /// A picture
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Edges as TSV ('-': standard output)
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
}
