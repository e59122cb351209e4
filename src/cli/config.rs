//! `--config`: options of `annotate` from a TOML file. They become words of the command line before
//! it is parsed, so that each is checked as if it had been given there.

use super::arguments::program::Arguments;
use super::error::CliError;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory};
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The command whose options a file may hold.
const COMMAND: &str = "annotate";

/// The key of what is no option.
const INPUTS: &str = "inputs";

/// What stands in the file, or is wrong there, with its place in bytes.
type Placed<T> = (Range<usize>, T);

/// A command line with the options of the file that its `--config` names, but for those that it has
/// itself.
///
/// # Errors
/// Where the file cannot be read, or holds what is no option or no value of one; the message names
/// file, line and column.
pub(super) fn with_file(mut words: Vec<OsString>) -> Result<Vec<OsString>, CliError> {
    let program = Arguments::command();
    // What else is wrong is for the parser of the whole line.
    let parsed = program.ignore_errors(true).try_get_matches_from(&words);
    let Some((given, path)) = parsed.as_ref().ok().and_then(named_file) else {
        return Ok(words);
    };
    let text = std::fs::read_to_string(path).map_err(CliError::io(path))?;
    let options = options(path, &text, given)?;
    // Only flags stand before the command.
    let at = words.iter().position(|word| word == COMMAND);
    let behind = at.map_or(words.len(), |at| at + 1);
    words.splice(behind..behind, options.into_iter().map(OsString::from));
    Ok(words)
}

/// What the command line has of the command, and the file that it names.
fn named_file(program: &ArgMatches) -> Option<(&ArgMatches, &PathBuf)> {
    let given = program.subcommand_matches(COMMAND)?;
    let path = given.try_get_one::<PathBuf>("config").ok()??;
    Some((given, path))
}

/// The file's options as words, without those that are `given`.
fn options(path: &Path, text: &str, given: &ArgMatches) -> Result<Vec<String>, CliError> {
    let refuse = |span: Range<usize>, reason: &str| {
        let (line, column) = place(text, span.start);
        let file = path.display();
        CliError::Usage(format!("{file}: line {line}, column {column}: {reason}"))
    };
    let table = DeTable::parse(text)
        .map_err(|error| refuse(error.span().unwrap_or_default(), error.message()))?;
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let program = Arguments::command();
    let mut options = vec![];
    for (key, value) in entries {
        let name = key.get_ref();
        let argument = argument(&program, name).ok_or_else(|| {
            let reason = format!("{name:?} is no option of {COMMAND}");
            refuse(key.span(), &reason)
        })?;
        let words = words(argument, name, value).map_err(|(at, reason)| refuse(at, reason))?;
        for (at, word) in &words {
            if let Some(reason) = wrong_value(word) {
                return Err(refuse(at.clone(), &reason));
            }
        }
        let id = argument.get_id().as_str();
        if given.value_source(id) != Some(ValueSource::CommandLine) {
            options.extend(words.into_iter().map(|(_, word)| word));
        }
    }
    Ok(options)
}

/// The option of this long name, or the inputs; not the file itself.
fn argument<'a>(program: &'a Command, name: &str) -> Option<&'a Arg> {
    let mut arguments = program.find_subcommand(COMMAND)?.get_arguments();
    arguments.find(|argument| match argument.get_long() {
        Some(long) => long == name && long != "config",
        None => argument.is_positional() && name == INPUTS,
    })
}

/// The words that give an option its value, each with its place; `Err` where it is of another kind.
fn words(
    argument: &Arg,
    name: &str,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<Placed<String>>, Placed<&'static str>> {
    let word = |value: &Spanned<DeValue<'_>>| {
        let at = value.span();
        let Some(text) = scalar(value.get_ref()) else {
            return Err((at, "a string or a number is expected"));
        };
        let word = if argument.is_positional() {
            // No name of a file is an option.
            let hidden = text.len() > 1 && text.starts_with('-');
            format!("{}{text}", if hidden { "./" } else { "" })
        } else {
            format!("--{name}={text}")
        };
        Ok((at, word))
    };
    match (argument.get_action(), value.get_ref()) {
        (ArgAction::SetTrue, DeValue::Boolean(set)) => {
            let flag = set.then(|| (value.span(), format!("--{name}")));
            Ok(flag.into_iter().collect())
        }
        (ArgAction::SetTrue, _) => Err((value.span(), "true or false is expected")),
        (ArgAction::Append, DeValue::Array(values)) => values.iter().map(word).collect(),
        _ => Ok(vec![word(value)?]),
    }
}

/// A string or a number as it would stand on the command line.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            let decimal = i64::from_str_radix(number.as_str(), number.radix());
            // What is too large is refused as it stands.
            Some(decimal.map_or_else(|_| number.to_string(), |decimal| decimal.to_string()))
        }
        DeValue::Float(number) => Some(number.as_str().to_string()),
        _ => None,
    }
}

/// What the parser says against a word by itself.
fn wrong_value(word: &str) -> Option<String> {
    let line = ["strandline", COMMAND, word];
    let error = Arguments::command().try_get_matches_from(line).err()?;
    if !matches!(
        error.kind(),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation
    ) {
        return None;
    }
    let said = error.render().to_string();
    let said = said.split("\n\n").next().unwrap_or(&said);
    Some(said.trim_start_matches("error: ").to_string())
}

/// Line and column of a byte, from 1; columns in characters.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or(before);
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::annotate::AnnotateArguments;
    use crate::cli::arguments::program;
    use clap::Parser;

    /// The words of a command line behind `annotate`, with a file of this text at the end.
    fn with_text(text: &str, line: &[&str]) -> Result<Vec<String>, CliError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        let file = format!("--config={}", path.display());
        let all = ["strandline", "-q", "annotate"].iter().chain(line);
        let all = all.map(OsString::from).chain([OsString::from(&file)]);
        let words = with_file(all.collect())?;
        let words = words.into_iter().map(|word| word.into_string().unwrap());
        Ok(words.skip(3).filter(|word| *word != file).collect())
    }

    fn parsed(text: &str, line: &[&str]) -> AnnotateArguments {
        let words = with_text(text, line).unwrap();
        let all = ["strandline", "annotate"].map(String::from);
        let arguments = Arguments::try_parse_from(all.into_iter().chain(words)).unwrap();
        let program::Command::Annotate(arguments) = arguments.command else {
            panic!("another command");
        };
        *arguments
    }

    fn refused(text: &str) -> String {
        match with_text(text, &[]) {
            Err(CliError::Usage(message)) => message,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn every_kind_of_option_may_stand_in_a_file() {
        let text = "
            inputs = ['a.fq', '-b.fq', '-']
            tasks = ['splice', 'promoter']
            min-score = 0.5
            threads = 0x10
            prior = 'donor=0.001'
            label = ['a=1', 'b=x y']
            strict = true
            check-model = false
            deadline = 250
            output = 'calls, all.tsv'
        ";
        let arguments = parsed(text, &[]);
        let inputs = arguments.inputs.iter().map(|path| path.to_str().unwrap());
        assert_eq!(inputs.collect::<Vec<_>>(), ["a.fq", "./-b.fq", "-"]);
        assert_eq!(arguments.tasks.len(), 2);
        assert_eq!(arguments.min_score, Some(0.5));
        assert_eq!(arguments.threads, Some(16));
        assert_eq!((arguments.priors.len(), arguments.labels.len()), (1, 2));
        assert!(arguments.strict && !arguments.check_model);
        assert_eq!(arguments.deadline.unwrap().as_millis(), 250);
        assert_eq!(arguments.output, Some("calls, all.tsv".into()));
        assert!(with_text("", &[]).unwrap().is_empty());
    }

    /// A file may hold every option there is, by the name that the help has.
    #[test]
    fn every_option_has_a_key() {
        let program = Arguments::command();
        let annotate = program.find_subcommand(COMMAND).unwrap();
        let names = annotate.get_arguments().filter_map(Arg::get_long);
        let names: Vec<&str> = names.filter(|name| *name != "config").collect();
        assert!(names.len() > 30, "{names:?}");
        for name in names {
            assert!(argument(&program, name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_command_line_goes_before_the_file() {
        let text = "tasks = ['splice', 'promoter']\nthreads = 3\ninputs = 'a'\norder = 'ready'";
        let line = ["--tasks=splice", "-o", "out", "b", "--threads", "1"];
        let words = with_text(text, &line).unwrap();
        assert_eq!(words, [&["--order=ready"][..], &line].concat());
        // What needs another option finds it in the file.
        let line = ["--until-idle", "1"];
        let arguments = parsed("follow = 'run'\noutput = 'o'", &line);
        assert!(arguments.follow.is_some() && arguments.until_idle.is_some());
        // Both are checked, also what is not used of the file.
        assert!(with_text("threads = 0", &["--threads", "1"]).is_err());
    }

    #[test]
    fn a_broken_file_is_refused_with_line_and_column() {
        for (text, expected) in [
            (
                "threads = 1\nthread = 2",
                "line 2, column 1: \"thread\" is no",
            ),
            ("config = 'x'", "column 1: \"config\" is no option"),
            ("[annotate]\nthreads = 1", "line 1, column 2: \"annotate\""),
            ("help = true", "\"help\" is no option"),
            ("strict = 1", "column 10: true or false"),
            ("strict = 'yes'", "column 10: true or false"),
            ("threads = true", "column 11: a string or a number"),
            ("threads = [1, 2]", "column 11: a string or a number"),
            ("output = {}", "column 10: a string or a number"),
            ("follow = 2026-01-01", "column 10: a string or a number"),
            (
                "tasks = [\n 'splice', 'splce']",
                "line 2, column 12: invalid value 'splce'",
            ),
            (
                "tasks = ['splice', ['tf']]",
                "column 20: a string or a number",
            ),
            ("\"é\" = 1\n", "column 1: \"é\" is no option"),
            ("label = ['e=é', 'ä']", "column 17: invalid value 'ä'"),
            ("é = 1", "line 1, column 1"),
            (
                "threads = 0",
                "column 11: invalid value '0' for '--threads <N>'",
            ),
            ("threads = 99999999999999999999", "column 11: invalid value"),
            ("until-idle = 'soon'", "column 14: invalid value 'soon'"),
            ("tier = 'best'", "column 8: invalid value 'best'"),
            (
                "threads = 1\nthreads = 2",
                "line 2, column 1: duplicate key",
            ),
            ("output = 'calls", "line 1, column"),
            ("output = ", "line 1, column"),
            ("\u{0}", "line 1, column 2"),
        ] {
            let message = refused(text);
            assert!(message.contains(expected), "{text}: {message}");
            assert!(message.contains("c.toml: line "), "{text}: {message}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_an_error_of_its_name() {
        for path in ["no/such.toml", "/"] {
            let line = ["strandline", "annotate", "--config", path];
            let error = with_file(line.map(OsString::from).to_vec()).unwrap_err();
            assert!(matches!(error, CliError::Io { file, .. } if file == path));
        }
        // Other commands have no such option, and what is wrong otherwise is not looked at.
        for line in [
            &["strandline", "count", "--config", "no/such.toml"][..],
            &["strandline", "annotate", "--", "--config=no/such.toml"],
            &["strandline", "annotate", "--bogus"],
            &["strandline", "annotate", "--help"],
            &["strandline"],
        ] {
            let line: Vec<OsString> = line.iter().map(OsString::from).collect();
            assert_eq!(with_file(line.clone()).unwrap(), line);
        }
    }
}
