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
//! holds one read that may still be growing. The command line ([`pipeline`]) uses nothing else.
//!
//! # The way of the data
//!
//! ```text
//! source -> fastx -> nucleotide -> annotate -> model -> kernels
//!    link ---/                        |  \--> calibrate -> call -> sink
//!           \____ pipeline, or live, joins them ______________/
//! ```
//!
//! | module | comes in -> goes out |
//! | --- | --- |
//! | [`source`] | a file or standard input, plain or gzip -> bytes |
//! | [`fastx`] | bytes -> chunks of records, as base codes; bad records with file, number and byte |
//! | [`nucleotide`] | letters -> codes; reverse complement; strands |
//! | [`annotate`] | a read, or its next piece -> windows with context -> calls |
//! | [`model`] | the model file, mapped and checked; its graph in tract with our operators; packing from ONNX |
//! | [`kernels`] | int8 and float arithmetic by instruction set, one scalar reference |
//! | [`calibrate`] | raw output -> score |
//! | [`call`] | what a call is |
//! | [`sink`] | calls -> TSV, BED, GFF3, bedGraph, JSON Lines, splice scores, BAM tags; arrays -> .npy |
//! | [`pipeline`] | threads, bounded lock-free queues, order, shutdown: records one after another |
//! | [`live`] | the same for reads that are still growing, many at once: deadlines, overload, decisions |
//! | [`follow`] | a folder that fills -> the complete records of its files, each once |
//! | [`link`] | frames of an accessory board -> pieces of reads; calls and decisions -> frames |
//! | [`replay`] | reads -> what a flow cell would say, by the clock |
//! | [`mod@bench`] | what a machine sustains, with what it did meanwhile |
//! | [`metrics`] | counters that must add up, latency |
//! | [`builtin`] | the models that are compiled in |
//! | [`simulate`], [`truth`], [`evaluate`], [`verify`] | reads with known sites, and how well they are found |
//!
//! # Promises
//!
//! **The same answer whatever the cutting.** Positions are scored in ranges; each range in a window
//! that holds all the context its scores and the call rule can see, so neither tiles nor pushes
//! show in the calls. For that the built-in networks have no stride: a grid would tie the reverse
//! strand's scores to the length of a read that is still growing. At a read's own ends the context
//! is zero padding, as in training, and the call is flagged.
//!
//! **The same bits on every device.** A model file that declares `reproducible: bits` runs in
//! integer sums, which are exact, and in single f32 operations of a stated order; [`kernels`]
//! defines them. Every instruction set is tested against the scalar reference.
//!
//! **Nothing disappears.** reads in = reads out + rejected + shed, printed at the end of a run and
//! checked in tests; a truncated file is never taken for a complete one.
//!
//! **Steady state allocates nothing** and memory is bounded by configuration: chunks are pooled,
//! operators' outputs come from one arena a worker, a read keeps only the bases that later
//! positions can still see.
//!
//! # tract and our operators
//!
//! [`model::pack`] reads an ONNX network in three steps. [`model::fuse`] brings it to one form,
//! whoever exported or quantised it: quantisation pairs become ranges, and what belongs together
//! (layer norm, GELU, attention, embeddings, upsampling) becomes one operator, which tract can also
//! run in float. The lowering then recognises what our operators do in tract's graph, and quantises
//! it on sample input: int8 rows with one scale for all where that serves, with one each where it
//! does not. The file is one safetensors with the weights in the layout of the kernels and the
//! graph as a list of layers. Opening it maps the file, checks it whole, and builds a tract plan
//! whose operators read their weights from the map and take their outputs from the worker's arena.
//! Where all operators are ours, the plan is fixed to one tile length and a second input says how
//! much of the tile is filled; an operator that stayed tract's makes the graph an NNEF text and the
//! plan take each length as it is.
//!
//! A network of two outputs becomes two plans. The first gives the cheap tier's rows and whatever
//! the rest reads of it; the second is told which rows of the output are wanted, and each of its
//! convolutions computes those that these need, as far away as the layers behind it reach. A row's
//! bits do not depend on which others are computed.
//!
//! # Without tract
//!
//! The feature `tract` is on by default. Without it everything but [`annotate`], [`builtin`],
//! [`verify`] and the graph builds, in seconds: parsers, pipeline, kernels, the model file.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod annotate;
pub mod call;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "pack")]
pub mod compile;
pub mod kernels;
pub mod lab;
pub mod metrics;
pub mod model;
pub mod reads;
pub mod sink;
pub mod stream;

#[cfg(feature = "tract")]
pub use annotate::{AnnotateError, Annotator, Options, ReadState};
#[cfg(feature = "tract")]
pub use model::Model;

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
