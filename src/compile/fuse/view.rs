//! Reshapes, transposes, slices and squeezes read as one thing: which element of which source an
//! element is.
//!
//! A source is a tensor `[1, T, D]` or `[1, C, T]`. Each axis of a view is a list of atoms: the
//! rows (T), or columns with a size and a stride in the source. Exporters split heads in endless
//! permutations of view operators; their atoms are always the same.

use super::dim::Dim;
use super::net::Net;
use super::node::{Value, node, with};
use tract_onnx::pb::NodeProto;

/// A factor of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atom {
    /// All rows of the source.
    Row,
    /// So many columns of the source, so far apart.
    Column {
        /// How many.
        size: usize,
        /// How far apart.
        stride: usize,
    },
}

/// What a tensor shows of its source.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The source.
    pub source: String,
    /// True for a source `[1, C, T]`.
    pub channels_first: bool,
    /// Rows of the source.
    pub rows: Dim,
    /// Columns of the source.
    pub width: usize,
    /// First column.
    pub offset: usize,
    /// Atoms by axis; none for an axis of one.
    pub axes: Vec<Vec<Atom>>,
    /// Factor on all elements.
    pub scale: f32,
    /// Base of the rotation by position that was applied along the last axis.
    pub rotary: Option<f32>,
}

/// Columns of a source as heads: head h, element e is column `offset + h · stride + e`.
#[derive(Debug, Clone, PartialEq)]
pub struct Heads {
    /// Number of heads.
    pub count: usize,
    /// Elements of a head.
    pub size: usize,
    /// First column.
    pub offset: usize,
    /// From head to head.
    pub stride: usize,
}

impl View {
    /// The view that a tensor is of itself.
    pub(super) fn base(net: &Net, name: &str) -> Option<View> {
        let shape = net.shape(name)?;
        let [Dim::ONE, a, b] = shape.as_slice() else {
            return None;
        };
        let is_length = |d: &Dim| d.times > 0 || *d == net.rows;
        let (rows, columns, channels_first) = match (is_length(a), is_length(b)) {
            (true, false) => (*a, *b, false),
            (false, true) => (*b, *a, true),
            (true, true) if a.times == 0 => (*a, *b, false),
            _ => return None,
        };
        let width = columns.size().filter(|&w| w > 0)?;
        let columns = vec![Atom::Column {
            size: width,
            stride: 1,
        }];
        let axes = if channels_first {
            vec![vec![], columns, vec![Atom::Row]]
        } else {
            vec![vec![], vec![Atom::Row], columns]
        };
        Some(View {
            source: name.to_string(),
            channels_first,
            rows,
            width,
            offset: 0,
            axes,
            scale: 1.0,
            rotary: None,
        })
    }

    fn atom_size(&self, atom: &Atom) -> Dim {
        match atom {
            Atom::Row => self.rows,
            Atom::Column { size, .. } => Dim::new(*size as i64),
        }
    }

    /// Size of an axis.
    pub fn size(&self, at: usize) -> Option<Dim> {
        let atoms = self.axes.get(at)?;
        atoms
            .iter()
            .try_fold(Dim::ONE, |p, a| p.multiply(self.atom_size(a)))
    }

    /// Takes `count` elements from `start` on of an axis.
    pub(super) fn narrow(&mut self, at: usize, start: i64, count: i64) -> Option<()> {
        let size = self.size(at)?.fixed()?;
        let start = if start < 0 { start + size } else { start };
        if start < 0 || count < 1 || start.checked_add(count)? > size {
            return None;
        }
        let (mut start, mut count) = (start as usize, count as usize);
        // From the innermost atom outwards: an atom is either taken whole, or it is the one that is
        // cut.
        let atoms = &mut self.axes[at];
        let mut cut = false;
        for i in (0..atoms.len()).rev() {
            let Atom::Column { size, stride } = atoms[i] else {
                return None;
            };
            if !cut && start.is_multiple_of(size) && count.is_multiple_of(size) {
                start /= size;
                count /= size;
                continue;
            }
            if !cut && start % size + count <= size {
                self.offset += start % size * stride;
                atoms[i] = Atom::Column {
                    size: count,
                    stride,
                };
                start /= size;
                count = 1;
                cut = true;
                continue;
            }
            if !cut || count != 1 {
                return None;
            }
            self.offset += start % size * stride;
            atoms[i] = Atom::Column { size: 1, stride };
            start /= size;
        }
        atoms.retain(|a| !matches!(a, Atom::Column { size: 1, .. }));
        Some(())
    }

    /// Distributes the atoms over a new shape, splitting columns where it divides them.
    pub(super) fn regroup(&mut self, shape: &[Dim]) -> Option<()> {
        let mut atoms: Vec<Atom> = merged(&self.axes.concat());
        atoms.reverse();
        let mut axes = vec![];
        for &target in shape {
            let mut left = target;
            let mut axis = vec![];
            while left != Dim::ONE {
                let atom = atoms.pop()?;
                let size = self.atom_size(&atom);
                if let Some(rest) = left
                    .divide(size)
                    .filter(|_| left.times == 0 || size != Dim::ONE)
                    && rest.multiply(size) == Some(left)
                {
                    left = rest;
                    axis.push(atom);
                    continue;
                }
                let Atom::Column { size, stride } = atom else {
                    return None;
                };
                // T · h from columns first: the rows come next.
                if left.times != 0 {
                    return None;
                }
                let outer = left.size().filter(|&o| o > 0 && size % o == 0)?;
                let inner = size / outer;
                axis.push(Atom::Column {
                    size: outer,
                    stride: stride * inner,
                });
                atoms.push(Atom::Column {
                    size: inner,
                    stride,
                });
                left = Dim::ONE;
            }
            axes.push(axis);
        }
        self.axes = axes;
        atoms.is_empty().then_some(())
    }

    /// True where every element of the source appears once and unchanged.
    pub fn is_whole(&self) -> bool {
        let columns: usize = self
            .axes
            .iter()
            .flatten()
            .map(|a| match a {
                Atom::Row => 1,
                Atom::Column { size, .. } => *size,
            })
            .product();
        columns == self.width && self.scale == 1.0 && self.rotary.is_none()
    }

    /// True where the view is the source in its own order, but for axes of one.
    pub fn keeps_order(&self) -> bool {
        let columns = Atom::Column {
            size: self.width,
            stride: 1,
        };
        let order = match (self.channels_first, self.width) {
            (_, 1) => vec![Atom::Row],
            (false, _) => vec![Atom::Row, columns],
            (true, _) => vec![columns, Atom::Row],
        };
        let atoms = merged(&self.axes.concat());
        let atoms: Vec<Atom> = atoms
            .into_iter()
            .filter(|a| !matches!(a, Atom::Column { size: 1, .. }))
            .collect();
        self.is_whole() && atoms == order
    }

    /// Reads `[1, h, T, d]` or `[h, T, d]`; `transposed` for `[…, d, T]`.
    pub fn heads(&self, transposed: bool) -> Option<Heads> {
        let rank = self.axes.len();
        if rank < 3 {
            return None;
        }
        let (rows, elements) = if transposed {
            (rank - 1, rank - 2)
        } else {
            (rank - 2, rank - 1)
        };
        let one = |at: usize| -> Option<(usize, usize)> {
            match merged(&self.axes[at]).as_slice() {
                [] => Some((1, 1)),
                [Atom::Column { size, stride }] => Some((*size, *stride)),
                _ => None,
            }
        };
        if self.axes[rows] != [Atom::Row] {
            return None;
        }
        let outer = merged(&self.axes[..rank - 2].concat());
        let (count, stride) = match outer.as_slice() {
            [] => (1, 0),
            [Atom::Column { size, stride }] => (*size, *stride),
            _ => return None,
        };
        let (size, step) = one(elements)?;
        (step == 1 || size == 1).then_some(Heads {
            count,
            size,
            offset: self.offset,
            stride,
        })
    }

    /// Nodes that make `output`, a tensor of `shape`, which is this view of `source` instead of its
    /// own source. `None` for a view of a part.
    pub fn emit(
        &self,
        net: &mut Net,
        source: &str,
        output: &str,
        shape: &[Dim],
    ) -> Option<Vec<NodeProto>> {
        if !self.is_whole() {
            return None;
        }
        let mut columns: Vec<(usize, usize)> = vec![];
        let atoms: Vec<Atom> = merged(&self.axes.concat());
        let atoms: Vec<&Atom> = atoms
            .iter()
            .filter(|a| !matches!(a, Atom::Column { size: 1, .. }))
            .collect();
        let whole = Atom::Column {
            size: self.width,
            stride: 1,
        };
        // Rows and columns exchanged are what the lowering takes for the same rows.
        let width = Dim::new(self.width as i64);
        let (swapped, swapped_shape) = if self.channels_first {
            ([&Atom::Row, &whole], [Dim::ONE, self.rows, width])
        } else {
            ([&whole, &Atom::Row], [Dim::ONE, width, self.rows])
        };
        if atoms == swapped && shape == swapped_shape {
            let made = node("Transpose", output, &[source], &[output]);
            return Some(vec![with(made, "perm", Value::Ints(vec![0, 2, 1]))]);
        }
        for atom in &atoms {
            if let Atom::Column { size, stride } = atom {
                columns.push((*stride, *size));
            }
        }
        columns.sort_unstable_by(|a, b| b.cmp(a));
        // The source with its columns apart, then its axes in the view's order, then the view's
        // shape.
        let mut sizes: Vec<i64> = columns.iter().map(|(_, size)| *size as i64).collect();
        let row_axis = if self.channels_first { sizes.len() } else { 0 };
        sizes.insert(row_axis, -1);
        let perm: Option<Vec<i64>> = atoms
            .iter()
            .map(|atom| match atom {
                Atom::Row => Some(row_axis as i64),
                Atom::Column { size, stride } => {
                    let at = columns.iter().position(|c| c == &(*stride, *size))?;
                    Some((if self.channels_first { at } else { at + 1 }) as i64)
                }
            })
            .collect();
        let perm = perm?;
        let mut nodes = vec![];
        let mut from = source.to_string();
        if !perm.is_sorted() {
            let apart = net.add_integers(format!("{output}.apart"), &sizes);
            let (a, b) = (format!("{output}.split"), format!("{output}.moved"));
            nodes.push(node("Reshape", &a, &[&from, &apart], &[&a]));
            nodes.push(with(
                node("Transpose", &b, &[&a], &[&b]),
                "perm",
                Value::Ints(perm),
            ));
            from = b;
        }
        let sizes = open_shape(shape)?;
        let target = net.add_integers(format!("{output}.shape"), &sizes);
        nodes.push(node("Reshape", output, &[&from, &target], &[output]));
        Some(nodes)
    }
}

/// A shape as `Reshape` takes it, with -1 for what depends on the length.
pub fn open_shape(shape: &[Dim]) -> Option<Vec<i64>> {
    let sizes: Vec<i64> = shape.iter().map(|d| d.fixed().unwrap_or(-1)).collect();
    (sizes.iter().filter(|&&s| s == -1).count() < 2).then_some(sizes)
}

/// Neighbouring columns that are one run become one atom.
fn merged(atoms: &[Atom]) -> Vec<Atom> {
    let mut out: Vec<Atom> = vec![];
    for &atom in atoms {
        if let Atom::Column { size: 1, .. } = atom {
            continue;
        }
        if let (
            Some(Atom::Column {
                size: a,
                stride: outer,
            }),
            Atom::Column {
                size: b,
                stride: inner,
            },
        ) = (out.last().copied(), atom)
            && outer == inner * b
            && let Some(last) = out.last_mut()
        {
            *last = Atom::Column {
                size: a * b,
                stride: inner,
            };
            continue;
        }
        out.push(atom);
    }
    out
}
