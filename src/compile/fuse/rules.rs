//! The rules, applied node by node until none fits.

use super::fault::Fault;
use super::net::Net;
use super::node::{self, label};
use super::scalar;
use super::{attention, conv, elementwise, embed, function, gelu, layer_norm, linear, mask, pool};

/// Puts fused operators in the place of what they recognise.
pub fn fuse(net: &mut Net, notes: &mut Vec<String>) -> Result<(), Fault> {
    let rules = [
        linear::absorb,
        embed::absorb,
        scalar::scalar,
        linear::linear,
        linear::slice,
        layer_norm::layer_norm,
        layer_norm::written_out,
        gelu::gelu,
        function::function,
        embed::embedding,
        embed::cumulative,
        pool::pool,
        mask::masked_mean,
        conv::absorb,
        conv::split,
        conv::slice,
        conv::upsample,
        conv::flat,
        conv::untwist,
        conv::closing,
        conv::hoist,
        elementwise::hoist,
    ];
    let most = 20 * net.nodes.len() + 1000;
    let mut steps = 0;
    let mut at = 0;
    while at < net.nodes.len() {
        steps += 1;
        if steps > most {
            return Err(Fault::new(
                label(&net.nodes[at]),
                "the graph's rewriting does not end",
            ));
        }
        // Its inputs may be known better than before.
        net.infer_node(at);
        let name = net.nodes[at].op_type.as_str();
        let elementwise = ["strandline.Gelu", function::FUNCTION].contains(&name);
        if name.starts_with(node::PREFIX) && !elementwise {
            at += 1;
            continue;
        }
        let mut new = rules.iter().find_map(|rule| rule(net, at));
        if new.is_none() {
            let found = match net.nodes[at].op_type.as_str() {
                "Attention" => attention::operator(net, at),
                _ => attention::attention(net, at),
            };
            match found {
                Ok(found) => new = found,
                Err(reason) => notes.push(format!(
                    "{}: attention was not recognised: {reason}",
                    label(&net.nodes[at])
                )),
            }
        }
        match new {
            Some(new) => net.replace(at, new),
            None => at += 1,
        }
    }
    net.drop_dead();
    Ok(())
}
