//! How well embeddings keep types apart and batches together.

use super::nearest::Vectors;

/// Why a score has no meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// There is not one label a cell.
    #[error("there are {labels} labels for {cells} cells")]
    Labels {
        /// Labels.
        labels: usize,
        /// Cells.
        cells: usize,
    },
    /// All cells have one label, or each has its own.
    #[error(
        "{kinds} different labels of {cells} cells: there must be at least 2, and fewer than cells"
    )]
    Kinds {
        /// Labels that differ.
        kinds: usize,
        /// Cells.
        cells: usize,
    },
    /// No neighbours are asked for.
    #[error("at least one neighbour is needed")]
    Neighbours,
}

/// Silhouettes by cosine distance (Rousseeuw 1987): (b − a) / max(a, b), where a is the mean
/// distance to the other cells of a cell's label, and b the least of those to the cells of each
/// other label. From −1 to 1; 0 for a label of one cell. High for types and near 0 for batches is
/// good.
#[derive(Debug, Clone, PartialEq)]
pub struct Silhouette {
    /// The mean over the cells.
    pub mean: f64,
    /// That of each cell.
    pub cells: Vec<f64>,
}

/// Silhouettes of cells [n, d] by their labels, any numbers. Time grows with n × d × labels, not
/// with the square of n: the mean distance to the cells of a label is 1 less the product with their
/// mean vector.
///
/// # Errors
/// Where there is not one label a cell, where all have the same one, or each has its own.
pub fn silhouette(vectors: &Vectors, labels: &[u32]) -> Result<Silhouette, ScoreError> {
    let (labels, counts) = counted(vectors, labels)?;
    let width = vectors.width();
    let mut sums = vec![0.0_f64; counts.len() * width];
    for (cell, label) in labels.iter().enumerate() {
        let sum = &mut sums[label * width..][..width];
        for (sum, value) in sum.iter_mut().zip(vectors.row(cell)) {
            *sum += f64::from(*value);
        }
    }
    let cells: Vec<f64> = labels
        .iter()
        .enumerate()
        .map(|(cell, own)| {
            if counts[*own] == 1 {
                return 0.0;
            }
            let row = vectors.row(cell);
            let (mut within, mut beside) = (0.0, f64::INFINITY);
            for (label, sum) in sums.chunks_exact(width).enumerate() {
                let product: f64 = row
                    .iter()
                    .zip(sum)
                    .map(|(x, sum)| f64::from(*x) * sum)
                    .sum();
                let count = counts[label] as f64;
                if label == *own {
                    let length: f64 = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
                    within = ((count - 1.0) - (product - length)) / (count - 1.0);
                } else {
                    beside = f64::min(beside, (count - product) / count);
                }
            }
            // Rounding alone can make the distance of equal vectors negative.
            let (within, beside) = (within.max(0.0), beside.max(0.0));
            let most = within.max(beside);
            if most > 0.0 {
                (beside - within) / most
            } else {
                0.0
            }
        })
        .collect();
    Ok(Silhouette {
        mean: cells.iter().sum::<f64>() / cells.len() as f64,
        cells,
    })
}

/// How well batches are mixed: the share of neighbours that are of another batch, over all cells'
/// `k` nearest by cosine, divided by that share were neighbours drawn at random. 1 is mixed, 0 is
/// apart; it can be above 1.
///
/// # Errors
/// Where there is not one batch a cell, where all have the same one or each its own, or `k` is 0.
pub fn mixing(vectors: &Vectors, batches: &[u32], k: usize) -> Result<f64, ScoreError> {
    let (batches, counts) = counted(vectors, batches)?;
    if k == 0 {
        return Err(ScoreError::Neighbours);
    }
    let neighbours = vectors.nearest_others(k);
    let mut others = 0_u64;
    for (own, neighbours) in batches.iter().zip(neighbours.iter()) {
        let of_others = neighbours
            .iter()
            .filter(|(index, _)| batches[*index as usize] != *own);
        others += of_others.count() as u64;
    }
    let cells = batches.len() as f64;
    let share = others as f64 / (cells * neighbours.k() as f64);
    let chance = |count: &usize| *count as f64 / cells * (cells - *count as f64) / (cells - 1.0);
    Ok(share / counts.iter().map(chance).sum::<f64>())
}

/// Labels from 0 without gaps, and how often each stands.
fn counted(vectors: &Vectors, labels: &[u32]) -> Result<(Vec<usize>, Vec<usize>), ScoreError> {
    let cells = vectors.len();
    if labels.len() != cells {
        let labels = labels.len();
        return Err(ScoreError::Labels { labels, cells });
    }
    let mut kinds = labels.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.len() < 2 || kinds.len() >= cells {
        let kinds = kinds.len();
        return Err(ScoreError::Kinds { kinds, cells });
    }
    let mut counts = vec![0; kinds.len()];
    let places = labels.iter().map(|label| {
        let place = kinds.partition_point(|kind| kind < label);
        counts[place] += 1;
        place
    });
    let places = places.collect();
    Ok((places, counts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Twelve cells of three types about three axes, in two batches.
    fn cells() -> (Vectors, Vec<u32>, Vec<u32>) {
        let (mut values, mut types, mut batches) = (vec![], vec![], vec![]);
        for cell in 0..12_u32 {
            let mut vector = [
                0.25 * (cell % 5) as f32,
                0.125 * (cell % 7) as f32,
                0.5,
                0.0,
            ];
            vector[cell as usize % 3] += 1.0;
            vector[3] = 0.5 * (cell / 6) as f32;
            values.extend(vector);
            types.push(cell % 3 * 10);
            batches.push(7 - cell / 6);
        }
        (Vectors::new(&values, 4).unwrap(), types, batches)
    }

    fn near(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-6,
            "{found} and not {expected}"
        );
    }

    #[test]
    fn silhouettes_are_those_of_scikit_learn() {
        // scikit-learn 1.9.1: silhouette_samples(x, labels, metric="cosine") of these cells in f64.
        let (vectors, types, batches) = cells();
        let by_type = silhouette(&vectors, &types).unwrap();
        near(by_type.mean, 0.745_147_709_921_8);
        near(by_type.cells[0], 0.776_112_042_859_98);
        near(by_type.cells[11], 0.816_231_493_045_222_4);
        near(
            silhouette(&vectors, &batches).unwrap().mean,
            -0.023_975_988_675_379,
        );
        // A type of one cell.
        let alone = [1, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2];
        let found = silhouette(&vectors, &alone).unwrap();
        near(found.mean, -0.238_246_681_860_028);
        assert_eq!(found.cells[0], 0.0);
    }

    #[test]
    fn mixing_is_1_by_chance() {
        // scikit-learn 1.9.1: NearestNeighbors(metric="cosine") of these cells without themselves.
        let (vectors, _, batches) = cells();
        near(
            mixing(&vectors, &batches, 3).unwrap(),
            1.171_296_296_296_296_7,
        );
        // All the others are neighbours: what chance gives.
        near(mixing(&vectors, &batches, 50).unwrap(), 1.0);
    }

    #[test]
    fn labels_that_say_nothing_are_errors() {
        let (vectors, types, _) = cells();
        let said = |labels: &[u32]| silhouette(&vectors, labels).unwrap_err().to_string();
        assert_eq!(said(&[1; 3]), "there are 3 labels for 12 cells");
        let kinds = "different labels of 12 cells: there must be at least 2, and fewer than cells";
        assert_eq!(said(&[4; 12]), format!("1 {kinds}"));
        let all: Vec<u32> = (0..12).collect();
        assert_eq!(said(&all), format!("12 {kinds}"));
        let error = mixing(&vectors, &types, 0).unwrap_err();
        assert_eq!(error.to_string(), "at least one neighbour is needed");
        // Equal vectors have no distances at all.
        let equal = Vectors::new(&[0.3; 8], 2).unwrap();
        near(silhouette(&equal, &[0, 1, 0, 1]).unwrap().mean, 0.0);
    }

    proptest! {
        #[test]
        fn the_order_of_cells_changes_nothing(order in Just((0..12_usize).collect::<Vec<_>>())
            .prop_shuffle())
        {
            let (vectors, types, batches) = cells();
            let rows: Vec<f32> = order.iter().flat_map(|c| vectors.row(*c)).copied().collect();
            let moved = Vectors::new(&rows, 4).unwrap();
            let pick = |of: &[u32]| order.iter().map(|cell| of[*cell]).collect::<Vec<_>>();
            let found = silhouette(&moved, &pick(&types)).unwrap();
            let straight = silhouette(&vectors, &types).unwrap();
            prop_assert!((found.mean - straight.mean).abs() < 1e-7);
            let found = mixing(&moved, &pick(&batches), 3).unwrap();
            prop_assert!((found - mixing(&vectors, &batches, 3).unwrap()).abs() < 1e-7);
        }
    }
}
