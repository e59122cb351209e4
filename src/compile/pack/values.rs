//! How one form of a value is made of another.

use super::emitter::Emitter;
use super::form::{Form, RowsRecord, Value, real};
use super::listing::Wire;
use crate::kernels::Activation;
use crate::model::manifest::Precision;
use crate::model::ops::affine::AffineSpec;
use crate::model::ops::form::{RowKind, Written};
use crate::model::ops::one_hot::OneHotSpec;
use crate::model::ops::plain::{FromPlainSpec, ToPlainSpec};
use crate::model::ops::quantise::QuantiseSpec;
use crate::model::ops::spec::Spec;
use tract_nnef::internal::*;

impl Emitter<'_> {
    /// The form in which a value, never negative or any, is written, its scale, and what there is
    /// to record of it.
    pub(super) fn form(&self, output: OutletId, positive: bool) -> TractResult<Form> {
        let channels_last = self.layout(output).is_ok_and(|(_, last)| last);
        if self.without_halo.contains(&output) {
            return Ok(Form::float(Written::Last));
        }
        let integer = self.precision == Precision::Int8;
        let foreign = self.foreign_read.contains(&output) || self.kept.contains(&output);
        if !integer || foreign || (!positive && self.wanted_float.contains(&output)) {
            return Ok(Form::float(Written::Rows));
        }
        let range = self.ranges.of(output)?;
        if channels_last && range.by_row() {
            return Ok(Form::float(Written::Rows));
        }
        let scale = range.scale(positive);
        Ok(Form {
            written: if positive {
                Written::Unsigned
            } else {
                Written::Signed
            },
            scale,
            record: Some(RowsRecord {
                scale: Some(scale),
                signal_to_noise: range.signal_to_noise(false),
            }),
        })
    }

    /// Rows of a value as a layer of this precision reads them.
    pub(super) fn rows_of(&mut self, of: OutletId) -> TractResult<Option<(Wire, RowKind, usize)>> {
        let value = match self.precision {
            Precision::Int8 => self.integer(of)?,
            _ => self.float(of)?,
        };
        Ok(match value {
            Some(Value::Integer { outlet, kind, rate }) => Some((outlet, kind, rate)),
            Some(Value::Rows { outlet, rate }) => Some((outlet, RowKind::Float, rate)),
            _ => None,
        })
    }

    /// Rows of a value as they are, integer or float.
    pub(super) fn any_rows(&mut self, of: OutletId) -> TractResult<Option<(Wire, RowKind, usize)>> {
        Ok(match self.values.get(&of).copied() {
            Some(Value::Integer { outlet, kind, rate }) => Some((outlet, kind, rate)),
            _ => match self.float(of)? {
                Some(Value::Rows { outlet, rate }) => Some((outlet, RowKind::Float, rate)),
                _ => None,
            },
        })
    }

    /// Exchanges the last two axes of a tensor of tract's.
    fn transpose(&mut self, outlet: Wire) -> Wire {
        let label = self.label("turn");
        self.wire_foreign(&label, AxisOp::Move(1, 2), outlet)
    }

    /// Integer rows of a value: as they are, or made of float ones.
    pub(super) fn integer(&mut self, of: OutletId) -> TractResult<Option<Value>> {
        if let Some(value) = self.quantised.get(&of) {
            return Ok(Some(*value));
        }
        let value = match self.values.get(&of).copied() {
            Some(value @ Value::Integer { .. }) => return Ok(Some(value)),
            Some(Value::Rows { outlet, rate }) => self.quantise(of, outlet, rate)?,
            Some(Value::Plain(_)) => {
                let Some(Value::Rows { outlet, rate }) = self.float(of)? else {
                    return Ok(None);
                };
                self.quantise(of, outlet, rate)?
            }
            _ => return Ok(None),
        };
        self.quantised.insert(of, value);
        Ok(Some(value))
    }

    fn quantise(&mut self, of: OutletId, rows: Wire, rate: usize) -> TractResult<Value> {
        let (channels, channels_last) = self.layout(of)?;
        let range = self.ranges.of(of)?;
        // Rows with a scale behind them cannot be widened.
        let dynamic = channels_last && range.by_row() && channels.is_multiple_of(4);
        let scale = real(range.scale(false))?;
        let spec = Spec::from(QuantiseSpec {
            channels,
            scale,
            rate,
            output: if dynamic {
                Written::Dynamic
            } else {
                Written::Signed
            },
        });
        let label = self.label(&format!("{}_int8", self.network.model.node(of.node).name));
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[rows, self.length])?;
        let record = RowsRecord {
            scale: (!dynamic).then_some(range.scale(false)),
            signal_to_noise: range.signal_to_noise(dynamic),
        };
        self.record(&label, operator, 0, Some(record));
        let kind = if dynamic {
            RowKind::Dynamic
        } else {
            RowKind::Signed(scale)
        };
        Ok(Value::Integer { outlet, kind, rate })
    }

    /// Float rows of a value that has them, or of one of tract's.
    pub(super) fn float(&mut self, of: OutletId) -> TractResult<Option<Value>> {
        let plain = match self.values.get(&of).copied() {
            Some(value @ Value::Rows { .. }) => return Ok(Some(value)),
            Some(Value::Plain(outlet)) => outlet,
            _ => return Ok(None),
        };
        let Some((outlet, rate)) = self.rows_of_plain(of, plain, Written::Rows)? else {
            return Ok(None);
        };
        let value = Value::Rows { outlet, rate };
        self.values.insert(of, value);
        self.plain_values.insert(of, plain);
        Ok(Some(value))
    }

    /// Rows of one of tract's values, where it has the shape of rows; and their rate.
    fn rows_of_plain(
        &mut self,
        of: OutletId,
        plain: Wire,
        output: Written,
    ) -> TractResult<Option<(Wire, usize)>> {
        let fact = self.network.model.outlet_fact(of)?;
        let single = fact.rank() == 3 && fact.shape[0] == 1.to_dim();
        let (true, Ok((channels, channels_last)), Ok(rate)) = (
            single && fact.datum_type == f32::datum_type(),
            self.layout(of),
            self.network.rate(of),
        ) else {
            return Ok(None);
        };
        let plain = if channels_last {
            self.transpose(plain)
        } else {
            plain
        };
        let label = self.label("rows");
        let spec = Spec::from(FromPlainSpec {
            channels,
            rate,
            output,
        });
        Ok(Some((
            self.wire(&label, spec, &[plain, self.length])?,
            rate,
        )))
    }

    /// A vector of ours, or of tract's `[1, channels]`.
    pub(super) fn vector(&mut self, of: OutletId) -> TractResult<Option<Wire>> {
        match self.values.get(&of).copied() {
            Some(Value::Vector(outlet)) => Ok(Some(outlet)),
            Some(Value::Plain(outlet)) => {
                let fact = self.network.model.outlet_fact(of)?;
                if fact.rank() != 2
                    || fact.shape[0] != 1.to_dim()
                    || fact.datum_type != f32::datum_type()
                {
                    return Ok(None);
                }
                let label = self.label("vector");
                let outlet = self.wire_foreign(&label, AxisOp::Rm(0), outlet);
                self.values.insert(of, Value::Vector(outlet));
                Ok(Some(outlet))
            }
            _ => Ok(None),
        }
    }

    /// Float rows without halo, and their rate: what the graph gives and a soft-max takes.
    pub(super) fn last_rows(&mut self, of: OutletId) -> TractResult<Option<(Wire, usize)>> {
        let (rows, kind, rate) = match self.values.get(&of).copied() {
            Some(Value::Last { outlet, rate }) => return Ok(Some((outlet, rate))),
            Some(Value::Plain(outlet)) => return self.rows_of_plain(of, outlet, Written::Last),
            _ => match self.any_rows(of)? {
                Some((_, RowKind::Dynamic, _)) | None => return Ok(None),
                Some(found) => found,
            },
        };
        let (channels, _) = self.layout(of)?;
        let label = self.label("output_rows");
        self.floats(format!("{label}.factor"), &vec![1.0; channels]);
        self.floats(format!("{label}.term"), &vec![0.0; channels]);
        let spec = Spec::from(AffineSpec {
            channels,
            rows: kind,
            activation: Activation::Identity,
            gain: real(1.0)?,
            rate,
            output: Written::Last,
        });
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[rows, self.length])?;
        self.record(&label, operator, 0, None);
        Ok(Some((outlet, rate)))
    }

    /// The value of an outlet in the float graph's own layout.
    pub(super) fn plain_value(&mut self, outlet: OutletId) -> TractResult<Wire> {
        if let Some(wired) = self.plain_values.get(&outlet) {
            return Ok(*wired);
        }
        let source = self.network.model.node(outlet.node);
        let wired = match self.values.get(&outlet).copied() {
            Some(Value::Plain(wired)) => wired,
            Some(Value::Vector(mut vector)) => {
                // Its one long axis stands where the float graph has it.
                let shape = &self.network.model.outlet_fact(outlet)?.shape;
                let long = shape.iter().position(|dim| *dim != 1.to_dim());
                let long = long.unwrap_or(shape.rank() - 1);
                for axis in (0..shape.rank()).filter(|axis| *axis != long) {
                    let label = self.label(&format!("{}_plain", source.name));
                    vector = self.wire_foreign(&label, AxisOp::Add(axis), vector);
                }
                vector
            }
            Some(Value::Ids(ids)) => {
                let wanted = self.network.model.outlet_fact(outlet)?.datum_type;
                let label = self.label("ids");
                let cast = tract_nnef::tract_core::ops::cast::cast(wanted);
                let ids = self.wire_foreign(&label, cast, ids);
                let label = self.label("ids_plain");
                self.wire_foreign(&label, AxisOp::Add(0), ids)
            }
            Some(Value::Codes) => {
                let label = self.label("one_hot");
                let wired = self.wire(&label, OneHotSpec {}.into(), &[self.input, self.length])?;
                if self.network.channels_last(outlet)? {
                    self.transpose(wired)
                } else {
                    wired
                }
            }
            Some(value @ (Value::Integer { .. } | Value::Rows { .. })) => {
                let label = self.label(&format!("{}_plain", source.name));
                let (channels, channels_last) = self.layout(outlet)?;
                let (rows, kind, rate) = match value {
                    Value::Integer { outlet, kind, rate } => (outlet, kind, rate),
                    Value::Rows { outlet, rate } => (outlet, RowKind::Float, rate),
                    _ => bail!("no rows"),
                };
                let spec = Spec::from(ToPlainSpec {
                    channels,
                    rows: kind,
                    rate,
                });
                let wired = self.wire(&label, spec, &[rows, self.length])?;
                if channels_last {
                    self.transpose(wired)
                } else {
                    wired
                }
            }
            Some(other) => bail!(
                "{} became {other:?} and is read by something that is not lowered",
                source.name
            ),
            None => {
                let fact = self.network.model.outlet_fact(outlet)?;
                let konst = fact
                    .konst
                    .clone()
                    .with_context(|| format!("{source} came late"))?;
                let label = self.label(&source.name);
                self.listing.constant(&label, konst)
            }
        };
        self.plain_values.insert(outlet, wired);
        Ok(wired)
    }
}
