//! The value branch of a network whose values are bins: so few that it becomes a table.

use super::network::Network;
use super::steps::{LevelsStep, Step};
use crate::model::genes::join;
use crate::model::manifest::Cells;
use std::collections::HashSet;
use tract_nnef::internal::*;

/// Puts a table in the place of all that depends on values alone. A value has at most as many
/// levels as there are bins; computing what they become once costs nothing later, and nothing of
/// them is rounded to int8.
pub fn tabulate(network: &mut Network, cells: &Cells) -> TractResult<()> {
    let (Some(values), Some(bins)) = (network.values, cells.bins) else {
        return Ok(());
    };
    let model = &network.model;
    let mut alone: HashSet<OutletId> = HashSet::from([values]);
    for id in model.eval_order()? {
        let node = model.node(id);
        let constant = |input: &&OutletId| {
            let fact = model.outlet_fact(**input);
            fact.is_ok_and(|fact| fact.konst.is_some())
        };
        let mut inputs = node
            .inputs
            .iter()
            .filter(|input| !constant(input))
            .peekable();
        if inputs.peek().is_some() && inputs.all(|input| alone.contains(input)) {
            alone.extend((0..node.outputs.len()).map(|slot| OutletId::new(id, slot)));
        }
    }
    // What others read of it.
    let outputs = model.output_outlets()?;
    let mut border = alone.iter().filter(|outlet| {
        let mut readers = model.node(outlet.node).outputs[outlet.slot]
            .successors
            .iter();
        let other = readers.any(|reader| !alone.contains(&OutletId::new(reader.node, 0)));
        other || outputs.contains(outlet)
    });
    let (Some(&output), None) = (border.next(), border.next()) else {
        return Ok(());
    };
    if output == values || model.outlet_fact(output)?.rank() != 3 {
        return Ok(());
    }
    let mut levels: Vec<f32> = (0..bins).map(|bin| bin as f32).collect();
    if cells.cls.is_some() {
        levels.push(cells.cls_value);
    }
    levels.sort_by(f32::total_cmp);
    levels.dedup();
    let mut branch = model.clone();
    branch.select_output_outlets(&[output])?;
    let plan = SimplePlan::new(branch.into_optimized()?)?;
    let feed = network.feed(&join(&vec![0; levels.len()], &levels, &[]))?;
    let rows = plan.run(feed)?;
    let table = rows[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    let name = model.node(output.node).name.clone();
    network.steps.retain(|step| !alone.contains(&step.output()));
    let step = LevelsStep {
        name,
        input: values,
        width: table.len() / levels.len(),
        levels,
        table,
        output,
    };
    network.steps.insert(0, Step::Levels(step));
    Ok(())
}
