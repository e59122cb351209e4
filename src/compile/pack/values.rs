//! What the values of the float graph have become, and how one form is made of another.

use super::{Emitter, RowsRecord};
use crate::kernels::Activation;
use crate::model::manifest::{LayerRecord, Precision};
use crate::model::ops::affine::AffineSpec;
use crate::model::ops::form::{Real, RowKind, Written};
use crate::model::ops::layer::Layer;
use crate::model::ops::one_hot::OneHotSpec;
use crate::model::ops::plain::{FromPlainSpec, ToPlainSpec};
use crate::model::ops::quantise::QuantiseSpec;
use crate::model::ops::spec::Spec;
use tract_nnef::internal::*;

/// What a value of the float graph has become. `rate`: positions of the network's input for one
/// row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    /// The base codes.
    Codes,
    /// The token ids.
    Ids,
    /// Integer rows.
    Integer {
        outlet: OutletId,
        kind: RowKind,
        rate: usize,
    },
    /// Float rows with halo.
    Rows { outlet: OutletId, rate: usize },
    /// Float rows without halo.
    Bare { outlet: OutletId, rate: usize },
    /// A vector.
    Vector(OutletId),
    /// As in the float graph.
    Plain(OutletId),
}

pub(super) fn real(value: f32) -> TractResult<Real> {
    Real::try_from(value).map_err(|e| format_err!("{e}"))
}

impl Emitter<'_> {
    pub(super) fn label(&self, name: &str) -> String {
        let clean: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let clean = clean.trim_matches('_').to_string();
        let taken = |label: &str| self.target.nodes().iter().any(|n| n.name == label);
        let mut label = format!("n_{clean}");
        let mut number = 1;
        while taken(&label) {
            number += 1;
            label = format!("n_{clean}_{number}");
        }
        label
    }

    pub(super) fn wire(
        &mut self,
        label: &str,
        spec: Spec,
        inputs: &[OutletId],
    ) -> TractResult<OutletId> {
        let layer = Layer::new(spec, self.precision, self.halo, label)?;
        Ok(self.target.wire_node(label, layer, inputs)?[0])
    }

    /// Channels of a value of rows, and whether they come last, `[1, T, channels]`.
    pub(super) fn layout(&self, outlet: OutletId) -> TractResult<(usize, bool)> {
        let fact = self.network.model.outlet_fact(outlet)?;
        let shape = &fact.shape;
        ensure!(
            shape.rank() == 3,
            "{outlet:?}: rank {}, not 3",
            shape.rank()
        );
        let turned = self.network.turned(outlet)?;
        let channels = shape[if turned { 2 } else { 1 }].to_usize()?;
        Ok((channels, turned))
    }

    /// Exchanges the last two axes of a tensor of tract's.
    pub(super) fn turn(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        let label = self.label("turn");
        Ok(self
            .target
            .wire_node(label, AxisOp::Move(1, 2), &[outlet])?[0])
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

    fn quantise(&mut self, of: OutletId, rows: OutletId, rate: usize) -> TractResult<Value> {
        let (channels, turned) = self.layout(of)?;
        let range = self.ranges.of(of)?;
        // Rows with a scale behind them cannot be widened.
        let dynamic = turned && range.by_row() && channels.is_multiple_of(4);
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
        plain: OutletId,
        output: Written,
    ) -> TractResult<Option<(OutletId, usize)>> {
        let fact = self.network.model.outlet_fact(of)?;
        let single = fact.rank() == 3 && fact.shape[0] == 1.to_dim();
        let (true, Ok((channels, turned)), Ok(rate)) = (
            single && fact.datum_type == f32::datum_type(),
            self.layout(of),
            self.network.rate(of),
        ) else {
            return Ok(None);
        };
        let plain = match turned {
            true => self.turn(plain)?,
            false => plain,
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
    pub(super) fn vector(&mut self, of: OutletId) -> TractResult<Option<OutletId>> {
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
                let outlet = self.target.wire_node(label, AxisOp::Rm(0), &[outlet])?[0];
                self.values.insert(of, Value::Vector(outlet));
                Ok(Some(outlet))
            }
            _ => Ok(None),
        }
    }

    /// Float rows without halo, and their rate: what the graph gives and a soft-max takes.
    pub(super) fn last_rows(&mut self, of: OutletId) -> TractResult<Option<(OutletId, usize)>> {
        let (rows, kind, rate) = match self.values.get(&of).copied() {
            Some(Value::Bare { outlet, rate }) => return Ok(Some((outlet, rate))),
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
    fn plain_value(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        if let Some(wired) = self.plain_values.get(&outlet) {
            return Ok(*wired);
        }
        let source = self.network.model.node(outlet.node);
        let wired = match self.values.get(&outlet).copied() {
            Some(Value::Plain(wired)) => wired,
            Some(Value::Vector(vector)) => {
                let label = self.label(&format!("{}_plain", source.name));
                self.target.wire_node(label, AxisOp::Add(0), &[vector])?[0]
            }
            Some(Value::Ids) => {
                let wanted = self.network.model.outlet_fact(outlet)?.datum_type;
                let label = self.label("ids");
                let cast = tract_nnef::tract_core::ops::cast::cast(wanted);
                let ids = self.target.wire_node(label, cast, &[self.input])?[0];
                let label = self.label("ids_plain");
                self.target.wire_node(label, AxisOp::Add(0), &[ids])?[0]
            }
            Some(Value::Codes) => {
                let label = self.label("one_hot");
                self.wire(&label, OneHotSpec {}.into(), &[self.input, self.length])?
            }
            Some(value @ (Value::Integer { .. } | Value::Rows { .. })) => {
                let label = self.label(&format!("{}_plain", source.name));
                let (channels, turned) = self.layout(outlet)?;
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
                match turned {
                    true => self.turn(wired)?,
                    false => wired,
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
                self.target.add_const(label, konst)?
            }
        };
        self.plain_values.insert(outlet, wired);
        Ok(wired)
    }

    /// Keeps a node as it is, and says so.
    pub(super) fn plain_node(&mut self, id: usize) -> TractResult<()> {
        let node = self.network.model.node(id);
        let mut inputs: TVec<OutletId> = tvec!();
        for input in &node.inputs {
            inputs.push(self.plain_value(*input)?);
        }
        let label = self.label(&node.name);
        let outlets = self.target.wire_node(&label, node.op.clone(), &inputs)?;
        for (slot, outlet) in outlets.iter().enumerate() {
            self.values
                .insert(OutletId::new(id, slot), Value::Plain(*outlet));
        }
        self.manifest.layers.push(LayerRecord {
            name: label,
            operator: node.op.name().to_string(),
            precision: Precision::F32.to_string(),
            output_scale: None,
            signal_to_noise: None,
            macs: 0,
        });
        self.plain
            .push(format!("{} ({})", node.name, node.op.name()));
        Ok(())
    }

    /// Keeps the nodes of a pattern that turned out not to be lowerable, back from its output to
    /// what is known.
    pub(super) fn plain_nodes(&mut self, output: OutletId) -> TractResult<()> {
        let mut pending = vec![output.node];
        let mut order = vec![];
        while let Some(id) = pending.pop() {
            let node = self.network.model.node(id);
            order.push(id);
            for input in &node.inputs {
                let known = self.values.contains_key(input)
                    || self.network.model.outlet_fact(*input)?.konst.is_some();
                if !known && !order.contains(&input.node) {
                    pending.push(input.node);
                }
            }
        }
        for id in order.into_iter().rev() {
            self.plain_node(id)?;
        }
        Ok(())
    }
}
