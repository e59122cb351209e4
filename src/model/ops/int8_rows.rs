//! Signed rows that the kernels of transformers write.

use super::form::{RowKind, Written};
use super::operator::Attributes;
use crate::kernels::norm::Int8Rows;
use tract_core::internal::*;

/// Those bytes of an output that hold data, as rows of one scale or with one behind each.
pub(super) fn int8_rows<'a>(
    attributes: &Attributes,
    target: &'a mut [u8],
    (form, scale): (Written, f32),
    (rows, channels): (usize, usize),
) -> TractResult<Int8Rows<'a>> {
    match form {
        Written::Signed => Ok(Int8Rows::Static {
            bytes: &mut target[attributes.data(rows, channels)],
            scale,
        }),
        Written::Dynamic => {
            let pitch = RowKind::Dynamic.pitch(channels);
            let bytes = &mut target[attributes.data(rows, pitch)];
            Ok(Int8Rows::Dynamic { bytes })
        }
        other => bail!("{} does not write {other:?}", attributes.label),
    }
}
