//! Sizes in terms of the length T, and what is known of a tensor.

use super::tensor;
use tract_onnx::pb::TensorProto;

/// Integer tensors with more elements are not followed: they are weights or ids, not shapes.
pub const MOST_VALUES: usize = 64;

/// `times` · T + `plus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dim {
    /// Multiple of the length.
    pub times: i64,
    /// What is added to it.
    pub plus: i64,
}

impl Dim {
    /// The length.
    pub const T: Dim = Dim { times: 1, plus: 0 };
    /// One.
    pub const ONE: Dim = Dim { times: 0, plus: 1 };

    /// A number.
    pub fn new(plus: i64) -> Dim {
        Dim { times: 0, plus }
    }

    /// Its value where it does not depend on T.
    pub fn fixed(self) -> Option<i64> {
        (self.times == 0).then_some(self.plus)
    }

    /// Its value as a size.
    pub fn size(self) -> Option<usize> {
        usize::try_from(self.fixed()?).ok()
    }

    /// The sum.
    pub fn add(self, other: Dim) -> Option<Dim> {
        Some(Dim {
            times: self.times.checked_add(other.times)?,
            plus: self.plus.checked_add(other.plus)?,
        })
    }

    /// The difference.
    pub fn subtract(self, other: Dim) -> Option<Dim> {
        Some(Dim {
            times: self.times.checked_sub(other.times)?,
            plus: self.plus.checked_sub(other.plus)?,
        })
    }

    /// The product, where at most one factor depends on T.
    pub fn multiply(self, other: Dim) -> Option<Dim> {
        let (by, of) = match (self.fixed(), other.fixed()) {
            (Some(by), _) => (by, other),
            (_, Some(by)) => (by, self),
            _ => return None,
        };
        Some(Dim {
            times: of.times.checked_mul(by)?,
            plus: of.plus.checked_mul(by)?,
        })
    }

    /// The quotient where it is exact.
    pub fn divide(self, other: Dim) -> Option<Dim> {
        if other.times != 0 {
            let by = self.times.checked_div(other.times)?;
            return (self == other.multiply(Dim::new(by))?).then_some(Dim::new(by));
        }
        let by = other.plus;
        if by == 0 || self.times.checked_rem(by)? != 0 {
            return None;
        }
        // A plain number divides as integers do.
        if self.times != 0 && self.plus.checked_rem(by)? != 0 {
            return None;
        }
        Some(Dim {
            times: self.times / by,
            plus: self.plus.checked_div(by)?,
        })
    }
}

/// What is known of a tensor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fact {
    /// Dimensions, `None` where one is not a multiple of T.
    pub shape: Option<Vec<Option<Dim>>>,
    /// Values of a small tensor of whole numbers.
    pub values: Option<Vec<Option<Dim>>>,
    /// True where these values are stored as floats.
    pub float: bool,
}

impl Fact {
    /// A tensor of this shape.
    pub fn shaped(shape: Vec<Option<Dim>>) -> Fact {
        Fact {
            shape: Some(shape),
            ..Fact::default()
        }
    }

    /// A tensor of whole numbers.
    pub fn valued(values: Vec<Option<Dim>>, scalar: bool, float: bool) -> Fact {
        let shape = if scalar {
            vec![]
        } else {
            vec![Some(Dim::new(values.len() as i64))]
        };
        Fact {
            shape: Some(shape),
            values: Some(values),
            float,
        }
    }

    /// What is known of a constant.
    pub fn of_constant(tensor: &TensorProto) -> Fact {
        let shape: Vec<_> = tensor.dims.iter().map(|&d| Some(Dim::new(d))).collect();
        let count = tensor.dims.iter().product::<i64>();
        let small = tensor.dims.len() < 2 && count <= MOST_VALUES as i64;
        let integers = small.then(|| tensor::integers(tensor).ok()).flatten();
        let float = integers.is_none();
        let values = integers.or_else(|| {
            let floats = small.then(|| tensor::floats(tensor).ok()).flatten()?;
            let whole = floats.iter().all(|x| x.fract() == 0.0 && x.abs() < 1e9);
            whole.then(|| floats.iter().map(|&x| x as i64).collect())
        });
        Fact {
            shape: Some(shape),
            values: values.map(|v| v.into_iter().map(|x| Some(Dim::new(x))).collect()),
            float,
        }
    }
}
