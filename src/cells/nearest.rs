//! Nearest neighbours by cosine, exact: every vector is compared with every other.
//!
//! The sums of a product have a fixed order, written so that compilers make vector instructions of
//! it. So a cosine has the same bits on every platform, and whatever is searched for beside it.

use std::collections::HashMap;

/// Partial sums of a product. Vectors are kept with zeros up to a multiple of it.
const LANES: usize = 8;
/// Bytes of the vectors that a block of queries is compared with; they stay in the second cache.
const BLOCK_BYTES: usize = 128 << 10;
/// Queries of a block.
const QUERIES: usize = 16;

/// Why vectors have no neighbours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// A value is no finite number.
    #[error("row {row}, column {column} is no finite number")]
    NotFinite {
        /// The vector, from 0.
        row: usize,
        /// The value's place in it, from 0.
        column: usize,
    },
    /// A vector has no direction.
    #[error("row {row} is all zero")]
    Zero {
        /// The vector, from 0.
        row: usize,
    },
    /// Vectors are not as wide as stated.
    #[error("{values} values do not make rows of {width}")]
    Rows {
        /// Values there are.
        values: usize,
        /// Values of a row.
        width: usize,
    },
    /// Two sets of vectors that do not belong together.
    #[error("vectors of {queries} values cannot be compared with those of {reference}")]
    Widths {
        /// Values of a query.
        queries: usize,
        /// Values of a vector of the reference.
        reference: usize,
    },
    /// There is not one label a vector.
    #[error("there are {labels} labels for {vectors} vectors")]
    Labels {
        /// Labels.
        labels: usize,
        /// Vectors.
        vectors: usize,
    },
}

/// Vectors of length 1.
#[derive(Debug, Clone)]
pub struct Vectors {
    /// Rows of `stride` values, the last of them zero where the width is no multiple of the lanes.
    values: Vec<f32>,
    width: usize,
    stride: usize,
}

impl Vectors {
    /// Vectors \[n, `width`\], row by row, brought to length 1: the length in f64, each value
    /// rounded to f32.
    ///
    /// # Errors
    /// Where a value is not finite, a vector is zero, or the last row is not whole.
    pub fn new(values: &[f32], width: usize) -> Result<Vectors, VectorError> {
        if width == 0 || !values.len().is_multiple_of(width) {
            let values = values.len();
            return Err(VectorError::Rows { values, width });
        }
        let stride = width.next_multiple_of(LANES);
        let mut out = Vec::with_capacity(values.len() / width * stride);
        for (row, vector) in values.chunks_exact(width).enumerate() {
            if let Some(column) = vector.iter().position(|value| !value.is_finite()) {
                return Err(VectorError::NotFinite { row, column });
            }
            let squares: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            if squares == 0.0 {
                return Err(VectorError::Zero { row });
            }
            let length = squares.sqrt();
            out.extend(vector.iter().map(|x| (f64::from(*x) / length) as f32));
            out.resize((row + 1) * stride, 0.0);
        }
        Ok(Vectors {
            values: out,
            width,
            stride,
        })
    }

    /// Some of them, by their rows.
    ///
    /// # Panics
    /// Where there are not so many.
    pub fn some(&self, rows: &[usize]) -> Vectors {
        let values = rows.iter().flat_map(|&row| self.padded(row)).copied();
        Vectors {
            values: values.collect(),
            width: self.width,
            stride: self.stride,
        }
    }

    /// Vectors there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.stride
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Values of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// A vector.
    ///
    /// # Panics
    /// Where there are no more than `row`.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.stride..][..self.width]
    }

    fn padded(&self, row: usize) -> &[f32] {
        &self.values[row * self.stride..][..self.stride]
    }

    /// The cosine of two vectors, from −1 to 1.
    ///
    /// # Panics
    /// Where there are no more than `a` or `b`.
    pub fn cosine(&self, a: usize, b: usize) -> f32 {
        let (a, b) = (self.padded(a), self.padded(b));
        products([a, a], [b, b])[0][0]
    }

    /// The `k` nearest of these for each query, or all where there are fewer.
    ///
    /// # Errors
    /// Where queries have another width.
    pub fn nearest(&self, queries: &Vectors, k: usize) -> Result<Neighbours, VectorError> {
        if self.width != queries.width {
            return Err(VectorError::Widths {
                queries: queries.width,
                reference: self.width,
            });
        }
        Ok(search(queries, self, k.min(self.len()), false))
    }

    /// The `k` nearest of the others for each vector, or all others where there are fewer.
    pub fn nearest_others(&self, k: usize) -> Neighbours {
        search(self, self, k.min(self.len().saturating_sub(1)), true)
    }
}

/// The nearest of each query, the nearest first; of equal cosines the lower index first.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    queries: usize,
    k: usize,
    found: Vec<(u32, f32)>,
}

impl Neighbours {
    /// Neighbours that each query has.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Index and cosine of those of a query.
    ///
    /// # Panics
    /// Where there are no more queries than `query`.
    pub fn of(&self, query: usize) -> &[(u32, f32)] {
        &self.found[query * self.k..][..self.k]
    }

    /// Those of each query, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &[(u32, f32)]> {
        (0..self.queries).map(|query| self.of(query))
    }
}

fn search(queries: &Vectors, reference: &Vectors, k: usize, others: bool) -> Neighbours {
    let mut out = Neighbours {
        queries: queries.len(),
        k,
        found: Vec::with_capacity(queries.len() * k),
    };
    if k == 0 {
        return out;
    }
    let rows = (BLOCK_BYTES / (reference.stride * size_of::<f32>())).max(2);
    let mut best: [Vec<(u32, f32)>; QUERIES] = Default::default();
    for from in (0..queries.len()).step_by(QUERIES) {
        let block = from..(from + QUERIES).min(queries.len());
        for first in (0..reference.len()).step_by(rows) {
            let last = (first + rows).min(reference.len());
            for query in block.clone().step_by(2) {
                // An odd one out is computed twice, and used once.
                let pair = [query, (query + 1).min(block.end - 1)];
                let own = pair.map(|query| queries.padded(query));
                for row in (first..last).step_by(2) {
                    let two = [row, (row + 1).min(last - 1)];
                    let cosines = products(own, two.map(|row| reference.padded(row)));
                    for (query, cosines) in (query..block.end).zip(cosines) {
                        for (row, cosine) in (row..last).zip(cosines) {
                            if !(others && query == row) {
                                keep(&mut best[query - from], k, row as u32, cosine);
                            }
                        }
                    }
                }
            }
        }
        for best in &mut best[..block.len()] {
            out.found.append(best);
        }
    }
    out
}

/// Keeps a candidate where it is among the `k` best. They come by ascending index, so that of equal
/// ones the first stay.
fn keep(best: &mut Vec<(u32, f32)>, k: usize, index: u32, cosine: f32) {
    if best.len() == k {
        if best.last().is_some_and(|worst| cosine <= worst.1) {
            return;
        }
        best.pop();
    }
    let place = best.partition_point(|kept| kept.1 >= cosine);
    best.insert(place, (index, cosine));
}

/// The products of two vectors with two others: each is loaded once for two uses.
fn products(a: [&[f32]; 2], b: [&[f32]; 2]) -> [[f32; 2]; 2] {
    let mut sums = [[[0.0_f32; LANES]; 2]; 2];
    let (a0, a1) = (a[0].chunks_exact(LANES), a[1].chunks_exact(LANES));
    let (b0, b1) = (b[0].chunks_exact(LANES), b[1].chunks_exact(LANES));
    for ((a0, a1), (b0, b1)) in a0.zip(a1).zip(b0.zip(b1)) {
        for lane in 0..LANES {
            sums[0][0][lane] += a0[lane] * b0[lane];
            sums[0][1][lane] += a0[lane] * b1[lane];
            sums[1][0][lane] += a1[lane] * b0[lane];
            sums[1][1][lane] += a1[lane] * b1[lane];
        }
    }
    sums.map(|sums| {
        sums.map(|s| {
            let sum = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
            sum.clamp(-1.0, 1.0)
        })
    })
}

/// What vectors are, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// For each vector the index of its name.
    pub of: Vec<u32>,
    /// The names, in the order of their first use.
    pub names: Vec<String>,
}

impl Labels {
    /// Numbers the labels of vectors.
    pub fn new<'a>(labels: impl IntoIterator<Item = &'a str>) -> Labels {
        let (mut out, mut indices) = (Labels::default(), HashMap::new());
        for label in labels {
            let index = *indices.entry(label).or_insert_with(|| {
                out.names.push(label.to_string());
                out.names.len() as u32 - 1
            });
            out.of.push(index);
        }
        out
    }
}

/// What most neighbours of a query are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Majority<'a> {
    /// The label.
    pub label: &'a str,
    /// Its share among the neighbours, above 0, at most 1.
    pub share: f32,
}

/// Labelled vectors.
#[derive(Debug, Clone)]
pub struct Reference {
    vectors: Vectors,
    labels: Labels,
}

impl Reference {
    /// Vectors and a label each.
    ///
    /// # Errors
    /// Where their numbers differ.
    pub fn new(vectors: Vectors, labels: Labels) -> Result<Reference, VectorError> {
        if vectors.len() != labels.of.len() {
            return Err(VectorError::Labels {
                labels: labels.of.len(),
                vectors: vectors.len(),
            });
        }
        Ok(Reference { vectors, labels })
    }

    /// The vectors.
    pub fn vectors(&self) -> &Vectors {
        &self.vectors
    }

    /// Their labels.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The `k` nearest of each query; see [`Vectors::nearest`].
    ///
    /// # Errors
    /// Where queries have another width.
    pub fn nearest(&self, queries: &Vectors, k: usize) -> Result<Neighbours, VectorError> {
        self.vectors.nearest(queries, k)
    }

    /// What most of a query's neighbours are; of equally many, what the nearest of them is. None
    /// without neighbours.
    pub fn majority(&self, neighbours: &[(u32, f32)]) -> Option<Majority<'_>> {
        let labels = neighbours
            .iter()
            .map(|(index, _)| self.labels.of[*index as usize]);
        let mut best = None;
        for label in labels.clone() {
            let count = labels.clone().filter(|other| *other == label).count();
            if best.is_none_or(|(_, most)| count > most) {
                best = Some((label, count));
            }
        }
        best.map(|(label, count)| Majority {
            label: &self.labels.names[label as usize],
            share: count as f32 / neighbours.len() as f32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn random(rows: usize, width: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut value = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..rows * width).map(|_| value()).collect()
    }

    /// All cosines in f64, sorted.
    fn by_sorting(queries: &[f32], reference: &[f32], width: usize) -> Vec<Vec<(u32, f64)>> {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        let sorted = queries.chunks(width).map(|query| {
            let cosine = |row: &[f32]| dot(query, row) / (dot(query, query) * dot(row, row)).sqrt();
            let mut all: Vec<(u32, f64)> = (0..).zip(reference.chunks(width).map(cosine)).collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            all
        });
        sorted.collect()
    }

    #[test]
    fn neighbours_are_those_of_sorting() {
        for (queries, rows, width, k) in [(33, 701, 20, 10), (1, 1, 1, 3), (17, 300, 512, 7)] {
            let (own, other) = (random(queries, width, 1), random(rows, width, 2));
            let reference = Vectors::new(&other, width).unwrap();
            let found = reference
                .nearest(&Vectors::new(&own, width).unwrap(), k)
                .unwrap();
            assert_eq!(found.k(), k.min(rows));
            for (found, sorted) in found.iter().zip(by_sorting(&own, &other, width)) {
                for ((index, cosine), (expected, exact)) in found.iter().zip(sorted) {
                    assert!((f64::from(*cosine) - exact).abs() < 1e-6);
                    assert_eq!(*index, expected);
                }
            }
        }
    }

    #[test]
    fn of_equal_ones_the_lower_index_is_first() {
        // Five directions, each many times over, in more than one block.
        let values: Vec<f32> = (0..40_000)
            .flat_map(|row| [(row % 5) as f32, 1.0, 0.5])
            .collect();
        let vectors = Vectors::new(&values, 3).unwrap();
        let query = Vectors::new(&[1.0, 1.0, 0.5], 3).unwrap();
        let found = vectors.nearest(&query, 4).unwrap();
        let indices: Vec<u32> = found.of(0).iter().map(|found| found.0).collect();
        assert_eq!(indices, [1, 6, 11, 16]);
    }

    #[test]
    fn a_vector_is_no_neighbour_of_its_own() {
        let vectors = Vectors::new(&[1.0, 0.0, 1.0, 0.0, 0.0, 2.0], 2).unwrap();
        let found = vectors.nearest_others(5);
        assert_eq!(found.k(), 2);
        assert_eq!(found.of(0), [(1, 1.0), (2, 0.0)]);
        assert_eq!(found.of(2), [(0, 0.0), (1, 0.0)]);
        let alone = Vectors::new(&[1.0], 1).unwrap().nearest_others(5);
        assert_eq!((alone.k(), alone.iter().count()), (0, 1));
    }

    #[test]
    fn the_majority_has_a_share() {
        let vectors = Vectors::new(&random(5, 3, 1), 3).unwrap();
        let labels = Labels::new(["T", "B", "T", "B", "NK"]);
        assert_eq!(
            (&labels.of[..], labels.names.len()),
            (&[0, 1, 0, 1, 2][..], 3)
        );
        let reference = Reference::new(vectors.clone(), labels).unwrap();
        let majority = |indices: &[u32]| {
            let found: Vec<(u32, f32)> = indices.iter().map(|index| (*index, 0.5)).collect();
            reference.majority(&found).map(|m| (m.label, m.share))
        };
        assert_eq!(
            majority(&[4, 1, 0, 2, 3]),
            Some(("B", 0.4)),
            "the nearest of two equal ones"
        );
        assert_eq!(majority(&[4, 0, 2]), Some(("T", 2.0 / 3.0)));
        assert_eq!(majority(&[]), None);
        let error = Reference::new(vectors, Labels::new(["T"])).unwrap_err();
        assert_eq!(error.to_string(), "there are 1 labels for 5 vectors");
    }

    #[test]
    fn bad_vectors_are_named() {
        let said = |values: &[f32], width| Vectors::new(values, width).unwrap_err().to_string();
        let with_nan = [1.0, 2.0, 3.0, f32::NAN];
        assert_eq!(said(&with_nan, 2), "row 1, column 1 is no finite number");
        assert_eq!(said(&[1.0, 2.0, 0.0, -0.0], 2), "row 1 is all zero");
        assert_eq!(said(&[1.0; 5], 2), "5 values do not make rows of 2");
        assert_eq!(said(&[], 0), "0 values do not make rows of 0");
        let vectors = Vectors::new(&[1.0; 4], 2).unwrap();
        let error = vectors.nearest(&Vectors::new(&[1.0], 1).unwrap(), 1);
        let said = "vectors of 1 values cannot be compared with those of 2";
        assert_eq!(error.unwrap_err().to_string(), said);
        // The greatest and the smallest numbers still have a direction.
        for value in [f32::MAX, f32::from_bits(1)] {
            assert_eq!(Vectors::new(&[value, 0.0], 2).unwrap().row(0), [1.0, 0.0]);
        }
    }

    proptest! {
        #[test]
        fn other_queries_change_nothing(rows in 1_usize..60, queries in 1_usize..40) {
            let reference = Vectors::new(&random(rows, 5, 3), 5).unwrap();
            let values = random(queries, 5, 4);
            let all = reference.nearest(&Vectors::new(&values, 5).unwrap(), 6).unwrap();
            for (query, found) in values.chunks(5).zip(all.iter()) {
                let alone = reference.nearest(&Vectors::new(query, 5).unwrap(), 6).unwrap();
                prop_assert_eq!(alone.of(0), found);
            }
        }
    }
}
