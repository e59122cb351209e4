//! Why a file cannot be read.

/// Why a file cannot be read.
#[derive(Debug)]
pub struct Fault {
    /// The node, tensor or input.
    pub node: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Fault {
    /// A fault of a node, tensor or input.
    pub fn new(node: impl Into<String>, reason: impl Into<String>) -> Fault {
        Fault {
            node: node.into(),
            reason: reason.into(),
        }
    }
}
