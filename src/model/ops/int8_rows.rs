//! Signed rows that the kernels of transformers write.

use super::form::{RowKind, Written};
use super::operator::Attributes;
use crate::kernels::norm::Int8Rows;
use std::ops::Range;
use tract_core::internal::*;

/// The bytes of some rows of an output, as rows of one scale or with one behind each.
pub(super) fn int8_rows<'a>(
    attributes: &Attributes,
    target: &'a mut [u8],
    (form, scale): (Written, f32),
    (rows, channels): (&Range<usize>, usize),
) -> TractResult<Int8Rows<'a>> {
    let of = |pitch| (attributes.halo + rows.start) * pitch..(attributes.halo + rows.end) * pitch;
    match form {
        Written::Signed => Ok(Int8Rows::Static {
            bytes: &mut target[of(channels)],
            scale,
        }),
        Written::Dynamic => {
            let pitch = RowKind::Dynamic.pitch(channels);
            let bytes = &mut target[of(pitch)];
            Ok(Int8Rows::Dynamic { bytes })
        }
        other => bail!("{} does not write {other:?}", attributes.label),
    }
}
