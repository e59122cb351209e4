//! aarch64: NEON.
use super::{ConvInt8, Output, scalar};

pub(super) fn conv_int8_dot(conv: &ConvInt8, out: &mut Output) {
    scalar::conv_int8(conv, out);
}

pub(super) fn conv_int8_neon(conv: &ConvInt8, out: &mut Output) {
    scalar::conv_int8(conv, out);
}
