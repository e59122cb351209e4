//! Every command in the documents is run, or is in the table of those that cannot be run here.
//!
//! Commands stand in blocks of the language `sh`. Each document has a folder of its own with copies
//! of the sample files, in which its commands run one after another. A block of the language `text`
//! is what one of the commands of the block before it prints. A comment `# exit code N` behind a
//! command says that it fails. Blocks that nothing checks are in a table, too.
#![cfg(unix)]

mod markdown;
mod options;
mod sandbox;
mod tables;

use markdown::{Block, Document, documents};
use sandbox::{Printed, Sandbox};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Mutex;
use tables::{NOT_CHECKED, NOT_RUN, RUN};

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Why a command is not run here, if it is not: the place in [`NOT_RUN`].
fn not_run(command: &str) -> Option<usize> {
    NOT_RUN
        .iter()
        .position(|(start, _)| command.starts_with(start))
}

/// Why a block is not checked, if it is not: the place in [`NOT_CHECKED`].
fn not_checked(document: &Document, block: &Block) -> Option<usize> {
    let first = block.lines.first().map_or("", |line| line.trim());
    NOT_CHECKED
        .iter()
        .position(|(name, start, _)| *name == document.name && first.starts_with(start))
}

/// True for code that another test checks, or that commands use.
fn is_used(document: &Document, block: &Block) -> bool {
    match &*block.language {
        "rust" => document.name == "README.md",
        "toml" => block.file_name().is_some() || block.is_manifest(),
        _ => false,
    }
}

/// The programs that a command starts.
fn programs(command: &str) -> Vec<&str> {
    options::simple_commands(command)
        .into_iter()
        .map(|words| words[0])
        .collect()
}

#[test]
fn commands_do_what_the_documents_say() {
    let failures = Mutex::new(vec![]);
    let used = Mutex::new((HashSet::new(), HashSet::new()));
    let documents = documents();
    std::thread::scope(|scope| {
        for document in &documents {
            scope.spawn(|| {
                let (found, commands, blocks) = check(document);
                failures.lock().unwrap().extend(found);
                let mut used = used.lock().unwrap();
                used.0.extend(commands);
                used.1.extend(blocks);
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    let used = used.into_inner().unwrap();
    for (place, (start, _)) in NOT_RUN.iter().enumerate() {
        if !used.0.contains(&place) {
            failures.push(format!(
                "no document has the command {start:?} of the table"
            ));
        }
    }
    for (place, (name, start, _)) in NOT_CHECKED.iter().enumerate() {
        if !used.1.contains(&place) {
            failures.push(format!("{name} has no block {start:?} that is not checked"));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Runs a document's commands: what is wrong, and which rows of [`NOT_RUN`] and of [`NOT_CHECKED`]
/// were needed.
fn check(document: &Document) -> (Vec<String>, Vec<usize>, Vec<usize>) {
    let (mut failures, mut used, mut unchecked) = (vec![], vec![], vec![]);
    let sandbox = Sandbox::new(document);
    let mut printed: Option<Vec<Printed>> = None;
    for block in &document.blocks {
        let mut fail = |line, text: String| {
            failures.push(format!("{}:{line}: {text}", document.name));
        };
        match &*block.language {
            "sh" => {
                let mut all = vec![];
                for command in block.commands() {
                    if let Some(place) = not_run(&command.text) {
                        used.push(place);
                    } else if let Some(other) = programs(&command.text)
                        .into_iter()
                        .find(|program| !RUN.contains(program))
                    {
                        let text = &command.text;
                        fail(
                            command.line,
                            format!("{other:?} is in neither table: {text}"),
                        );
                    } else {
                        let ran = sandbox.run(&command.text);
                        if ran.code != command.code {
                            let text = format!(
                                "{} ended with {} instead of {}:\n{}",
                                command.text,
                                ran.code,
                                command.code,
                                ran.lines.join("\n")
                            );
                            fail(command.line, text);
                        }
                        all.push(ran);
                    }
                }
                printed = Some(all);
            }
            "text" => match &printed {
                None => fail(block.line, "output without a command before it".to_string()),
                Some(all) if all.is_empty() => match not_checked(document, block) {
                    Some(place) => unchecked.push(place),
                    None => fail(
                        block.line,
                        "output of commands that are not run".to_string(),
                    ),
                },
                Some(all) if all.iter().any(|ran| ran.shows(&block.lines)) => {}
                Some(all) => {
                    let lines = all.iter().flat_map(|ran| ran.lines.iter().cloned());
                    let lines: Vec<String> = lines.collect();
                    fail(
                        block.line,
                        format!("prints this instead:\n{}", lines.join("\n")),
                    );
                }
            },
            _ if is_used(document, block) => {}
            language => match not_checked(document, block) {
                Some(place) => unchecked.push(place),
                None => fail(
                    block.line,
                    format!("nothing checks this block of the language {language:?}"),
                ),
            },
        }
    }
    (failures, used, unchecked)
}

#[test]
fn options_and_files_that_commands_name_exist() {
    let mut failures = vec![];
    for document in documents() {
        for (line, command) in document.all_commands() {
            for problem in options::problems(&command) {
                failures.push(format!("{}:{line}: {problem}: {command}", document.name));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn links_lead_somewhere() {
    let documents = documents();
    let mut failures = vec![];
    for document in &documents {
        for (line, problem) in document.broken_links() {
            failures.push(format!("{}:{line}: {problem}", document.name));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// A document of the package links to nothing that the package lacks.
#[test]
fn the_package_has_what_its_documents_link_to() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, list) = manifest.split_once("\ninclude = [\n").unwrap();
    let (list, _) = list.split_once("\n]\n").unwrap();
    let patterns: Vec<&str> = list
        .lines()
        .map(|line| line.trim().trim_matches([',', '"']))
        .collect();
    let packed = |name: &str| {
        patterns
            .iter()
            .any(|pattern| match pattern.split_once('*') {
                None => name == *pattern,
                Some((start, end)) => {
                    let rest = name.strip_prefix(start);
                    let rest = rest.and_then(|rest| rest.strip_suffix(end.trim_start_matches("*")));
                    rest.is_some_and(|rest| end == "*" || !rest.contains('/'))
                }
            })
    };
    assert!(packed("src/lib.rs") && packed("models/te.safetensors") && !packed("models/te.toml"));
    let (mut failures, mut links) = (vec![], 0);
    for document in documents().iter().filter(|d| packed(&d.name)) {
        for (line, path) in document.linked_files() {
            links += 1;
            let folder = format!("{}/", path.trim_end_matches('/'));
            let inside = patterns.iter().any(|pattern| pattern.starts_with(&folder));
            if !packed(&path) && !inside {
                failures.push(format!("{}:{line}: {path} is not packed", document.name));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(links > 40, "{links} links");
}

#[test]
fn documents_keep_the_house_style() {
    let mut failures = vec![];
    for document in documents() {
        let name = &document.name;
        for (number, line) in document.text.lines().enumerate() {
            if line.chars().count() > 100 {
                failures.push(format!("{name}:{}: more than 100 columns", number + 1));
            }
        }
        for line in document.indented_code() {
            failures.push(format!(
                "{name}:{line}: code without a fence and a language"
            ));
        }
        if name == "README.md" && document.text.lines().count() > 150 {
            failures.push("README.md has more than 150 lines".to_string());
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// The library's example in the README is the one that is run.
#[test]
fn the_readme_shows_the_example() {
    let example = std::fs::read_to_string(root().join("examples/embed.rs")).unwrap();
    let lines: HashSet<&str> = example.lines().map(str::trim).collect();
    let documents = documents();
    let readme = documents.iter().find(|d| d.name == "README.md").unwrap();
    let mut shown = 0;
    for block in readme.blocks.iter().filter(|b| b.language == "rust") {
        for line in block.lines.iter().filter(|line| !line.is_empty()) {
            assert!(lines.contains(line.trim()), "{line}");
            shown += 1;
        }
    }
    assert!(shown > 3);
}

/// The manifest that the model cards explain is one.
#[test]
fn manifests_in_the_documents_parse() {
    let mut parsed = 0;
    for document in documents() {
        for block in document.blocks.iter().filter(|b| b.is_manifest()) {
            let text = block.lines.join("\n");
            strandline::model::manifest::Manifest::from_toml(&text).unwrap();
            parsed += 1;
        }
    }
    assert!(parsed > 0);
}
