//! Our operators inside tract's graph.
//!
//! An operator is one file, or a folder as [`conv`] is: its specification as it stands in a graph's
//! text, the checks of that, the tensors it needs, the shape of its output, and its run
//! ([`operator`]). To tract all of them are one type, the [`Layer`]: a [`Spec`], and what every
//! layer has. Weights are regions of the model file, read in place.
//!
//! What a run needs beside its inputs is passed to it ([`context`]): the runner's buffers, so that
//! nothing is allocated in steady state and layers whose outputs do not live at the same time share
//! memory; working memory; and the rows that are asked for.
//!
//! A graph has two sources: `codes` (u8 `[T]`; u32 ids for networks that read tokens), and
//! `length`, an i64 of which T is the most. One that reads cells has two more: `values` (f32 `[T]`)
//! and `flags` (u32 `[T]`). Hidden rows are `[T / rate + 2 · halo, channels]`, one
//! row for `rate` positions of the input, with `halo` zero rows before the first and after the last
//! of the rows that `length` fills: the end of a sequence is the zero padding that the network was
//! trained with, whatever the tile's size.
//!
//! # Another operator
//!
//! Two places here, and two in `compile` where a graph's nodes become one:
//! 1. `ops/NAME.rs`: a struct with the fields that stand in a graph's text, and its
//!    [`Operator`](operator::Operator); plus its `mod` line here. [`repeat`] is a short one to
//!    copy, [`dense`] one with tensors.
//! 2. The list in [`spec`]: `Name(NameSpec),`. Its name there, in snake case, is `op` in the text.
//! 3. `compile/lower`: a `Step`, what its `match`es say of it, and what finds it.
//! 4. `compile/pack`: an arm in `step.rs`, and the emitter, which writes its tensors and makes the
//!    specification.

pub(crate) mod affine;
mod arena;
pub(crate) mod attention;
pub(crate) mod context;
pub(crate) mod conv;
pub(crate) mod dense;
pub(crate) mod embed;
pub(crate) mod form;
pub(crate) mod frames;
mod int8_rows;
pub(crate) mod join;
pub(crate) mod layer;
pub(crate) mod layer_norm;
pub(crate) mod levels;
#[cfg(test)]
mod mutations;
pub(crate) mod one_hot;
mod operator;
pub(crate) mod plain;
pub(crate) mod pool;
pub(crate) mod quantise;
pub(crate) mod repeat;
mod rows;
pub(crate) mod rows_dense;
pub(crate) mod scalar;
pub(crate) mod scratch;
pub(crate) mod softmax;
pub(crate) mod spec;
pub(crate) mod sum;
pub(crate) mod vector_norm;
mod wanted;
pub(crate) mod widen;
pub(crate) mod window;
