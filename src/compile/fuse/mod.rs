//! ONNX graphs, as exporters and quantisers write them, in the few operators that the lowering
//! knows.
//!
//! All of this happens on the ONNX file's own nodes, before tract reads them: there the patterns
//! are still what the exporter wrote. What is recognised becomes nodes of the domain `strandline`,
//! which [`super::reference`] computes in tract; the rest stays as it is.
//!
//! | step | file |
//! | --- | --- |
//! | a file from beginning to end, and what comes out | `import`, `imported` |
//! | what a file must be, what its inputs mean, why it is refused | `inputs`, `meaning`, `fault` |
//! | the graph, its nodes, its constants | `net`, `node`, `tensor` |
//! | quantised files back to float | `qdq`, `dynamic`, `integers`, `nbits` |
//! | the same, rounding as the file says, to be compared with | `rounded` |
//! | half precision widened | `half` |
//! | operators that an optimiser has merged, taken apart | `standard` |
//! | shapes and small integers in terms of the length T | `dim`, `shape`, `axes`, `window` |
//! | constants folded, pieces of the graph tried out | `tidy`, `probe` |
//! | reshapes, transposes, slices: which element of which source | `view`, `trace` |
//! | the rules that recognise operators, node by node | `rules` |
//! | linear layers, layer norms, pools | `rows`, `linear`, `layer_norm`, `pool` |
//! | functions of single elements | `function`, `gelu`, `elementwise` |
//! | attention, rotation by position, masks | `attention`, `rotary`, `mask` |
//! | tokens, positions, token types | `embed` |
//! | masks and token types where no padding is | `unpadded` |
//! | convolutions without padding, and outputs that are cut | `crop` |
//! | dilated convolutions, written as space-to-batch | `dilate` |
//! | convolutions in two dimensions, channels last, upsampling | `conv` |

mod attention;
mod axes;
mod conv;
mod crop;
mod dilate;
mod dim;
mod dynamic;
mod elementwise;
mod embed;
mod fault;
mod function;
mod gelu;
mod half;
mod import;
mod imported;
mod inputs;
mod integers;
mod layer_norm;
mod linear;
mod mask;
mod meaning;
mod nbits;
mod net;
mod node;
mod pool;
mod probe;
mod qdq;
mod rotary;
mod rounded;
mod rows;
mod rules;
mod scalar;
mod shape;
mod standard;
mod tensor;
#[cfg(test)]
mod tests;
mod tidy;
mod trace;
mod unpadded;
mod view;
mod window;

pub use import::{external_data, read, rewritten, standardised};
pub use imported::{Imported, to_tract};
pub use meaning::{Input, Meaning};
