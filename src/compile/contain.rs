//! What a foreign network can do to the program that reads it, and how that ends.

use crate::model::error::ModelError;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Runs what reads or runs a foreign network. What was overlooked in one, here or in tract, ends
/// its reading, not the program.
pub(super) fn contained<T>(
    path: &Path,
    action: &'static str,
    work: impl FnOnce() -> Result<T, ModelError>,
) -> Result<T, ModelError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(ModelError::Graph {
            file: path.display().to_string(),
            action,
            reason: match message(&*panic) {
                text if text.contains("failed to allocate") => "it takes too much memory".into(),
                text => format!("it could not be understood: {text}"),
            },
        })
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    // Where the environment asks for them, errors of tract have the stack behind them.
    let text = text.and_then(|text| text.split("\n\nStack backtrace").next());
    text.unwrap_or("no reason is known")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let path = Path::new("net.onnx");
        let none: [u8; 0] = [];
        let at = std::hint::black_box(2);
        let ran = contained(path, "lowering", || Ok(none[at]));
        let said = ran.unwrap_err().to_string();
        assert!(
            said.starts_with("net.onnx: lowering: it could not be understood: index out of"),
            "{said}"
        );
        assert_eq!(contained(path, "lowering", || Ok(7)).unwrap(), 7);
    }
}
