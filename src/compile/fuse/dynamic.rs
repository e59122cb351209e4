//! Dynamic quantisation back to float: products of integers, put to scale behind them.

use super::fault::Fault;
use super::integers::{MOVES, floats, lost, moved_constant, output};
use super::net::Net;
use super::node::label;
use tract_onnx::pb::NodeProto;

/// `Cast(MatMulInteger(x, w)) · (scale of x · scale of w)`, at the product, and the same of a
/// convolution.
pub fn rewrite(net: &mut Net, op: &NodeProto) -> Result<Option<Vec<NodeProto>>, Fault> {
    for (sum, scales) in [(0, 1), (1, 0)] {
        let cast = op.input.get(sum).and_then(|i| net.producer_of(i, "Cast"));
        let Some(product) = cast.and_then(|c| net.producer(c.input.first()?)) else {
            continue;
        };
        let operator = match product.op_type.as_str() {
            "MatMulInteger" => "MatMul",
            "ConvInteger" => "Conv",
            _ => continue,
        };
        let product = product.clone();
        // By its zero point: its integers may have been transposed or reshaped on the way.
        let quantise = product
            .input
            .get(2)
            .and_then(|i| net.producer_of(i, "DynamicQuantizeLinear"));
        let quantise = quantise.cloned();
        let by = op
            .input
            .get(scales)
            .ok_or_else(|| lost(op, "it has no scales"))?;
        let Some(both) = net.producer_of(by, "Mul") else {
            return folded(net, op, product, operator, by).map(Some);
        };
        let stated = quantise.and_then(|q| q.output.get(1).cloned());
        let fixed = |name: &String| net.constants.contains_key(name);
        let (scale, weight_scale) = match (both.input.as_slice(), stated) {
            ([a, b], Some(stated)) if *a == stated => (a.clone(), b.clone()),
            ([a, b], Some(stated)) if *b == stated => (b.clone(), a.clone()),
            ([a, b], None) if fixed(a) && fixed(b) && net.scalar(a).is_some() => {
                (a.clone(), b.clone())
            }
            _ => return Err(lost(op, "its scales are not those of its operands")),
        };
        // Rows of a table in integers go straight into the product.
        if let (true, Some(zero)) = (fixed(&scale), product.input.get(2)) {
            moved_constant(net, &product, &product.input[0], &scale, Some(zero))?;
        }
        return float_product(net, op, product, operator, &weight_scale).map(|n| Some(vec![n]));
    }
    Ok(None)
}

/// The product `product` on floats, at the node `op` that puts its integers to scale.
fn float_product(
    net: &mut Net,
    op: &NodeProto,
    product: NodeProto,
    operator: &str,
    scale: &str,
) -> Result<NodeProto, Fault> {
    let (weight, zero) = match product.input.get(1) {
        Some(weight) => (weight.clone(), product.input.get(3).cloned()),
        None => return Err(lost(&product, "it has no weights")),
    };
    let name = format!("{}.{}.float", label(&product), weight);
    // A scale a channel may come in the shape that broadcasting wants.
    let axis = if operator == "Conv" { 0 } else { -1 };
    let zero = zero.as_ref();
    let tensor = floats(net, &product, &weight, scale, zero, axis, name.clone())?;
    net.constants.insert(name.clone(), tensor);
    let mut made = product;
    made.op_type = operator.to_string();
    made.input[1] = name;
    made.input.truncate(2);
    made.output = vec![output(op)?];
    Ok(made)
}

/// The product of rows of a table where an optimiser has multiplied the two scales: the weights
/// take the one that is left, and the rows stay in steps. They are moved anew, since others that
/// read the table may give it its own scale.
fn folded(
    net: &mut Net,
    op: &NodeProto,
    mut product: NodeProto,
    operator: &str,
    scale: &str,
) -> Result<Vec<NodeProto>, Fault> {
    let unknown = || lost(op, "its scales are neither a product nor a constant");
    if !net.constants.contains_key(scale) {
        return Err(unknown());
    }
    let mut moves = Vec::new();
    let mut rows = product.input.first().cloned().ok_or_else(unknown)?;
    while !net.constants.contains_key(&rows) {
        let source = net
            .producer(&rows)
            .filter(|n| MOVES.contains(&n.op_type.as_str()));
        let source = source.ok_or_else(unknown)?.clone();
        rows = source.input.first().cloned().unwrap_or_default();
        moves.push(source);
    }
    let new = |name: &String| format!("{}.{name}.steps", label(&product));
    let one = net.add_floats(new(&"one".to_string()), &[], &[1.0]);
    let tensor = floats(
        net,
        &product,
        &rows,
        &one,
        product.input.get(2),
        0,
        new(&rows),
    )?;
    net.constants.insert(new(&rows), tensor);
    let mut nodes: Vec<NodeProto> = moves.into_iter().rev().collect();
    for node in &mut nodes {
        node.name = new(&node.name);
        node.input[0] = new(&node.input[0]);
        node.output = node.output.iter().map(new).collect();
    }
    product.input[0] = new(&product.input[0]);
    nodes.push(float_product(net, op, product, operator, scale)?);
    Ok(nodes)
}
