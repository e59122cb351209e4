//! Why a command failed, and the exit code that says so.

use super::report::note;
use crate::annotate::AnnotateError;
use crate::model::ModelError;
use crate::sink::clean;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Annotate(#[from] AnnotateError),
    #[error("{file}: {source}{}", advice(source))]
    Io { file: String, source: io::Error },
    #[error("{0}")]
    Input(String),
    /// Already reported where it happened.
    #[error("")]
    Reported,
    /// In a child of the program, which has reported it and ended with this code.
    #[cfg(feature = "pack")]
    #[error("")]
    Child(u8),
    #[error("{0}")]
    Usage(String),
    /// By a signal, before its end; the exit code says which.
    #[error("stopped by a signal")]
    Stopped(u8),
}

/// What can be done about it, where that is plain.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room and run again",
        _ => "",
    }
}

impl CliError {
    /// Bad input, for the reason that `error` gives.
    pub(super) fn input(error: impl ToString) -> CliError {
        CliError::Input(error.to_string())
    }

    /// Wrong usage, for the reason that `message` gives.
    pub(super) fn usage(message: impl ToString) -> CliError {
        CliError::Usage(message.to_string())
    }

    /// Options that do not go together are wrong usage; the rest stays what it is.
    pub(super) fn options(error: AnnotateError) -> CliError {
        match error {
            AnnotateError::Options(message) => CliError::Usage(message),
            other => other.into(),
        }
    }

    /// An error of the system, under the file's name.
    pub(super) fn io(file: &Path) -> impl Fn(io::Error) -> CliError + '_ {
        move |source| CliError::Io {
            file: file.display().to_string(),
            source,
        }
    }
}

/// Text that may hold names of somebody else's, without what a terminal would obey.
fn harmless(text: &str) -> String {
    let lines = text.split('\n').map(|line| match line {
        "" => String::new(),
        line => clean(line.as_bytes()),
    });
    lines.collect::<Vec<String>>().join("\n")
}

/// Prints why a command failed and gives its exit code: 0, 1 for bad input, 2 for wrong usage,
/// 130 or 143 after a signal. A closed pipe is no error.
pub(super) fn exit_code(result: Result<(), CliError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(CliError::Reported) => ExitCode::from(1),
        #[cfg(feature = "pack")]
        Err(CliError::Child(code)) => ExitCode::from(code),
        Err(CliError::Stopped(code)) => ExitCode::from(code),
        Err(CliError::Usage(message)) => {
            note(format_args!("error: {message}"));
            ExitCode::from(2)
        }
        Err(error) => {
            note(format_args!("error: {}", harmless(&error.to_string())));
            ExitCode::from(1)
        }
    }
}
