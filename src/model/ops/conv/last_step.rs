//! Steps of a convolution that its rows do not fill.

use crate::kernels::{ConvInt8, Residual, View};
use crate::model::ops::scratch::StepRows;

/// Runs the step behind the last whole one of a convolution, of which only the first `kept` values
/// are wanted: what is added there is copied first, because rows behind the last one need not
/// exist.
pub(super) fn last_step(
    step: &mut StepRows,
    conv: &ConvInt8,
    kept: usize,
    run: impl FnOnce(&ConvInt8, &mut Vec<f32>, &mut Vec<u8>),
) {
    let StepRows {
        floats,
        bytes,
        added_floats,
        added_bytes,
    } = step;
    let (steps, pitch) = (conv.positions, conv.shape.channels_out);
    let mut one = *conv;
    one.positions = 1;
    one.input.first += steps * conv.shape.stride * conv.input.pitch;
    let dense = |data| View {
        data,
        first: 0,
        pitch,
    };
    match conv.residual {
        Residual::None => (),
        Residual::Unsigned(rows, _) | Residual::Signed(rows, _) => {
            let from = rows.first + steps * rows.pitch;
            added_bytes.clear();
            added_bytes.extend_from_slice(&rows.data[from..from + kept]);
            added_bytes.resize(pitch, 0);
        }
        Residual::Float(rows) => {
            let from = rows.first + steps * rows.pitch;
            added_floats.clear();
            added_floats.extend_from_slice(&rows.data[from..from + kept]);
            added_floats.resize(pitch, 0.0);
        }
    }
    one.residual = match conv.residual {
        Residual::None => Residual::None,
        Residual::Unsigned(_, scale) => Residual::Unsigned(dense(added_bytes), scale),
        Residual::Signed(_, scale) => Residual::Signed(dense(added_bytes), scale),
        Residual::Float(_) => Residual::Float(View {
            data: added_floats,
            first: 0,
            pitch,
        }),
    };
    run(&one, floats, bytes);
}
