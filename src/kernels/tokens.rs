//! Pooling over the tokens of a sequence: `[token][width]` f32 to one row.

use super::lanes::{Kernel, Lanes, dispatch};
use super::{Isa, LANES};

/// What becomes of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pool {
    /// The sum in the order of the tokens, divided by their number; 0 where there are none.
    Mean,
    /// The largest value, of equal ones the first; 0 where there are none.
    Max,
}

/// Pools the rows of `[token][out.len()]` finite values whose byte in `mask` is not 0, or all.
///
/// # Panics
/// Where the width is 0, the values are not whole rows, or the mask is not one byte a row.
pub fn pool(isa: Isa, pool: Pool, values: &[f32], mask: Option<&[u8]>, out: &mut [f32]) {
    assert!(!out.is_empty() && values.len().is_multiple_of(out.len()));
    if let Some(mask) = mask {
        assert_eq!(mask.len(), values.len() / out.len());
    }
    let tokens = Tokens {
        pool,
        values,
        mask,
        out,
    };
    dispatch(isa, tokens);
}

struct Tokens<'a> {
    pool: Pool,
    values: &'a [f32],
    mask: Option<&'a [u8]>,
    out: &'a mut [f32],
}

impl Kernel for Tokens<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let width = self.out.len();
        let mut count = 0;
        for (t, row) in self.values.chunks_exact(width).enumerate() {
            if self.mask.is_some_and(|mask| mask[t] == 0) {
                continue;
            }
            count += 1;
            if count == 1 {
                self.out.copy_from_slice(row);
                continue;
            }
            let (groups, tail) = self.out.as_chunks_mut::<LANES>();
            let (x_groups, x_tail) = row.as_chunks::<LANES>();
            for (y, x) in groups.iter_mut().zip(x_groups) {
                s.store(join(s, self.pool, s.load(y), s.load(x)), y);
            }
            if !tail.is_empty() {
                let y = join(s, self.pool, s.load_part(tail), s.load_part(x_tail));
                s.store_part(y, tail);
            }
        }
        match (count, self.pool) {
            (0, _) => self.out.fill(0.0),
            (_, Pool::Max) => {}
            (_, Pool::Mean) => {
                let count = count as f32;
                for y in self.out.iter_mut() {
                    *y /= count;
                }
            }
        }
    }
}

#[inline(always)]
fn join<S: Lanes>(s: S, pool: Pool, y: S::F, x: S::F) -> S::F {
    match pool {
        Pool::Mean => s.add(y, x),
        Pool::Max => s.select_less(y, x, x, y),
    }
}
