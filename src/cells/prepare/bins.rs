//! Values to bins by quantiles of a cell's own values, as scGPT's `preprocess.py` does it with
//! NumPy.
//!
//! NumPy 2 computes `quantile` of float32 values at float64 points as follows: the difference of
//! two neighbouring values is rounded to float32, all else is float64. Edges are then compared
//! with values in float64. Both are done so here: a bin is NumPy's, to the bit of its edge.

/// Edges of the bins of values that are sorted, ascending: `edges` quantiles from 0 to 1,
/// interpolated linearly. Neither may be empty.
pub(super) fn quantiles(sorted: &[f32], edges: usize, out: &mut Vec<f64>) {
    out.clear();
    let last = sorted.len() - 1;
    // As `linspace` makes its points: a step, times a number.
    let step = 1.0 / (edges.max(2) - 1) as f64;
    for edge in 0..edges {
        let point = if edge > 0 && edge + 1 == edges {
            1.0
        } else {
            edge as f64 * step
        };
        let place = last as f64 * point;
        let whole = place.floor();
        let share = place - whole;
        let low = sorted[(whole as usize).min(last)];
        let high = sorted[(whole as usize + 1).min(last)];
        let apart = f64::from(high - low);
        out.push(if share < 0.5 {
            f64::from(low) + apart * share
        } else {
            f64::from(high) - apart * (1.0 - share)
        });
    }
}

/// The edges at or below a value, and those below it: `np.digitize` from the left and from the
/// right. They differ where a value is an edge.
pub(super) fn digits(value: f32, edges: &[f64]) -> (usize, usize) {
    let value = f64::from(value);
    let left = edges.partition_point(|edge| *edge <= value);
    let right = edges[..left].partition_point(|edge| *edge < value);
    (left, right)
}

/// A bin between the two, right exclusive, by a number of [0, 1).
pub(super) fn between(left: usize, right: usize, number: f64) -> usize {
    (number * (right as f64 - left as f64) + left as f64).ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_interpolated() {
        let mut edges = vec![];
        quantiles(&[1.0, 2.0, 4.0], 5, &mut edges);
        assert_eq!(edges, [1.0, 1.5, 2.0, 3.0, 4.0]);
        quantiles(&[3.0], 3, &mut edges);
        assert_eq!(edges, [3.0; 3]);
        quantiles(&[3.0, 4.0], 1, &mut edges);
        assert_eq!(edges, [3.0]);
    }

    #[test]
    fn a_value_on_edges_has_several_bins() {
        let edges = [1.0, 1.0, 1.0, 2.0];
        assert_eq!(digits(1.0, &edges), (3, 0));
        assert_eq!(digits(1.5, &edges), (3, 3));
        assert_eq!(digits(2.0, &edges), (4, 3));
        let bins = [0.0, 0.5, 0.999].map(|number| between(3, 0, number));
        assert_eq!(bins, [3, 2, 1]);
        assert_eq!(between(3, 3, 0.7), 3);
    }
}
