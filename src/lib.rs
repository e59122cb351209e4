//! Splice-site, promoter and expression calls from reads, with int8 models, on the machine beside
//! the sequencer.
//!
//! ```
//! use strandline::{Annotator, Options};
//!
//! let annotator = Annotator::builtin(Options::default())?;
//! let mut read = annotator.read();
//! let mut calls = Vec::new();
//! read.push(b"GATTACAGGTAAGTCCTTTTTCTCTCCCTGCAGGATCC", &mut calls)?; // a read may come in pieces
//! read.finish(&mut calls)?;
//! for call in &calls {
//!     println!("{}-{} {} {} {:.3}", call.start, call.end, call.strand, call.kind, call.score);
//! }
//! # Ok::<(), strandline::AnnotateError>(())
//! ```
//!
//! An [`Annotator`] holds models and options, is `Send + Sync` and cheap to clone; a [`ReadState`]
//! holds one read that may still be growing. What a program needs beyond that:
//!
//! - [`Model`] and [`Runner`]: a packed network of one's own, and its numbers; [`nucleotide`]: the
//!   base codes that it reads;
//! - [`sink`]: calls written as text, or into BAM records;
//! - [`live`], [`follow`] and [`decide`]: many growing reads at once, a folder that fills, and
//!   whether to go on sequencing a read.
//!
//! Everything else is public for the program, the tests and the benches only, and may change.
//!
//! # The house
//!
//! The crate has one wing a folder of `src`. A wing uses those that its row names and no others;
//! `tests/house` reads this table and checks every path in the source against it.
//!
//! | wing | uses | comes in -> goes out |
//! | --- | --- | --- |
//! | `reads` | nothing | bytes of FASTA, FASTQ, BAM, plain or gzip -> base codes |
//! | `kernels` | nothing | int8 and float arithmetic by instruction set |
//! | `call` | nothing | what a call is |
//! | `metrics` | nothing | counters that must add up, latency -> Prometheus |
//! | `tokenise` | reads | base codes -> token ids of language models, windows |
//! | `model` | kernels | packed file, mapped and checked -> a network that runs |
//! | `compile` | model, kernels | ONNX -> packed file |
//! | `annotate` | tokenise, model, reads, call | models with a task -> calls of one read |
//! | `sink` | call | calls -> formats |
//! | `stream` | annotate, sink, reads, metrics, call | reads -> calls, in time and in order |
//! | `fleet` | reads | lines of an output -> a broker; chunks of reads -> workers -> answers |
//! | `lab` | all but lab, study, cells, fleet, cli | for measuring, not for annotating |
//! | `study` | all but lab, study, cells, fleet, cli | variants, maps of bases, motifs, genes |
//! | `cells` | all but lab, study, cells, fleet, cli | cells -> types, vectors, responses |
//! | `cli` | all but cli | arguments -> a plan -> one of the above; prints |
//!
//! `src/bindings` holds crates of their own, for C and Python, that use this one as any program
//! does: what they show stands in `strandline.h` and `__init__.pyi` there.
//!
//! `kernels` and the map of a model file (`model/map.rs`) are the only places of unsafe code, and
//! in `src/bindings/c` the pointers that C gives.
//! `model` knows no biology and no ONNX: it runs graphs in tract, with operators of its own.
//! `compile` alone knows tract-onnx and tract-nnef.
//!
//! One thing goes against the arrows. A packed file may hold operators of tract's own, and only
//! `compile` can read those. So this root hands `model` a reader, the constant `FOREIGN_GRAPHS`,
//! which implements the trait `model::foreign::ForeignGraph`. It is empty without the feature
//! `pack`. No wing uses anything else of the root; the names below are for users.
//!
//! In `cli`, `model`, `compile` and `stream` no two files use each other, directly or through
//! others. A `mod.rs` there shows names to the outside, and files of a wing import each other by
//! their own paths.
//!
//! # Three ways through it
//!
//! **A FASTQ read.** `reads/source` opens a file or standard input, and unpacks gzip.
//! `reads/fastx` finds the records and turns letters into base codes, in chunks that are reused.
//! `stream/batch` reads on one thread and gives the chunks of a read to one worker.
//! `annotate/read` takes them in, and scores positions as soon as all that their scores depend on
//! is there. `model/carried` computes the new rows of a network and keeps those that later
//! positions need; other networks are run on windows by `model/runner`, in tract. Both compute in
//! `kernels`.
//! `annotate/scan` picks the peaks and `annotate/calibrate` makes probabilities of them: a call.
//! Back on the caller's thread `stream/batch` puts the records into their order, and `sink` writes.
//! The one detour: emptied chunks go back to the reader.
//!
//! **A chunk from a link.** `stream/link` decodes frames (`firmware_bridge`) into pieces of reads,
//! each with its channel and its place. `stream/live` gives a channel's pieces to one worker, by
//! the same engine as a batch. From there on a piece goes the way of a FASTQ read, but calls leave
//! with each piece, and before a deadline. The one detour: `stream/decide` looks at the calls and
//! answers the board through the link, keep or eject.
//!
//! **An ONNX file.** `compile/fuse` brings a network to one form, whoever exported or quantised it:
//! quantisation pairs become ranges, and what belongs together (layer norm, GELU, attention,
//! embeddings, upsampling) becomes one operator. `compile/lower` recognises in that graph what our
//! operators do. `compile/quantize` runs it in float on sample input, the one detour, and chooses
//! scales: one for all rows where that serves, one each where it does not. `compile/pack` writes
//! one safetensors file: weights in the layout of the kernels, and the graph as a list of layers.
//! `model/file` maps such a file and checks it whole, and `model/graph` builds a tract plan whose
//! operators read their weights from the map.
//!
//! # Promises
//!
//! **The same answer whatever the cutting.** Positions are scored in ranges, each with all the
//! context that its scores and the call rule can see, so neither tiles nor pushes show in the
//! calls. For that the built-in networks have no stride: a grid would tie the
//! reverse strand's scores to the length of a read that is still growing. At a read's own ends the
//! context is zero padding, as in training, and the call is flagged.
//!
//! **The same bits on every device.** A model file that declares `reproducible: bits` runs in
//! integer sums, which are exact, and in single f32 operations of a stated order; `kernels` defines
//! them. Every instruction set is tested against the scalar reference.
//!
//! **Nothing disappears.** reads in = reads out + rejected + shed, printed at the end of a run and
//! checked in tests; a run that breaks off ends with an error. A truncated file is never treated as
//! a complete one.
//!
//! **Steady state allocates nothing** and memory is bounded by configuration: chunks are pooled,
//! operators' outputs come from one arena a worker, a read keeps only the bases that later
//! positions can still see.
//!
//! # Rows that are kept
//!
//! A window's margins are computed again with the next window: with chunks of 400 bases that is
//! several times the work. Where every layer of a network is an integer convolution of stride 1,
//! the rows that later positions still read are kept instead, for each read, layer and strand
//! (`model/carried`). The reverse strand is the mirrored network over forward bases. Sums of
//! integers are the same in any order, so the bits are those of a window. All reads together keep
//! at most `Options::kept_memory`; one that has no room goes on in windows, from the next push on.
//! While a cheaper tier stands in under overload, its rows are kept instead.
//!
//! # Networks with two outputs
//!
//! They become two plans. The first gives the cheap tier's rows and whatever the rest reads of it.
//! The second gets a list of the wanted rows of the output; each of its convolutions computes those
//! that these need, as far away as the layers behind it reach. A row's bits do not depend on which
//! others are computed. Where rows are kept, those of the second stage are too, and each is
//! computed once in a read, however many survivors need it.
//!
//! # Features
//!
//! | feature | brings |
//! | --- | --- |
//! | `tract` | models run (tract-core); without it parsers, kernels and the link build in seconds |
//! | `cli` | the program; with `tract` |
//! | `pack` | `compile`, for ONNX and for files with operators of tract's own; with `tract` |
//! | `study` | `study`, for the effect of variants; with `tract` |
//! | `cells` | `cells`, for single cells; with `tract` |
//! | `serial` | serial ports |
//! | `fleet` | `fleet`, for NATS JetStream; with `cli`, and not in `full` |
//! | `parquet` | calls as Parquet |
//! | `full` | `cli`, `pack`, `study`, `cells` and `serial`: what the tests are run with |
//!
//! `cli` and `serial` are on by default.
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[doc(hidden)]
pub mod annotate;
#[doc(hidden)]
pub mod call;
#[cfg(feature = "cells")]
#[doc(hidden)]
pub mod cells;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "pack")]
#[doc(hidden)]
pub mod compile;
#[doc(hidden)]
pub mod fleet;
#[doc(hidden)]
pub mod kernels;
#[doc(hidden)]
pub mod lab;
#[doc(hidden)]
pub mod metrics;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod reads;
pub mod sink;
#[doc(hidden)]
pub mod stream;
#[cfg(feature = "study")]
#[doc(hidden)]
pub mod study;
#[doc(hidden)]
pub mod tokenise;

pub use annotate::Task;
#[cfg(feature = "tract")]
pub use annotate::{
    AnnotateError, Annotator, ModelInfo, Molecule, Options, Priors, ReadState, Request, Strands,
};
pub use call::{Call, CallKind, CallSink, Flags, Strand};
pub use metrics::Metrics;
pub use model::manifest::Tier;
#[cfg(feature = "tract")]
pub use model::{Model, ModelError, Runner};
#[doc(inline)]
pub use reads::nucleotide;
pub use stream::batch::{Order, PipelineConfig};
#[cfg(feature = "tract")]
pub use stream::model_tags;
#[doc(inline)]
pub use stream::{decide, follow, link, live};

// Readers and kernels share no wing; what one writes for "no base" is what the other takes for it.
const _: () = assert!(reads::nucleotide::N == kernels::NO_BASE);

/// Who reads graphs with operators of tract's own. Wings do not know those above them, so the house
/// itself hands `model` what `compile` has.
#[cfg(feature = "tract")]
pub(crate) const FOREIGN_GRAPHS: Option<&dyn model::foreign::ForeignGraph> = {
    #[cfg(feature = "pack")]
    {
        Some(&compile::foreign::NnefGraphs)
    }
    #[cfg(not(feature = "pack"))]
    {
        None
    }
};
