//! Whether what a command names exists: options, scripts, tests, benches, features.

use crate::root;
use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::sync::{LazyLock, Mutex};

/// The simple commands of a line of shell, as words: without loops, redirections and variables.
pub fn simple_commands(command: &str) -> Vec<Vec<&str>> {
    let mut all = vec![];
    let parts = command
        .split(['\n', ';', '|'])
        .flat_map(|part| part.split("&&"));
    for part in parts {
        let mut words: Vec<&str> = part.split_whitespace().collect();
        while let Some(first) = words.first() {
            let variable = first
                .split_once('=')
                .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
            // What stands before the program: variables, keywords, and the core it is pinned to.
            if variable || ["do", "then", "taskset", "-c", "0"].contains(first) {
                words.remove(0);
            } else {
                break;
            }
        }
        if words.is_empty() || ["for", "done", "cd"].contains(&words[0]) {
            continue;
        }
        let run = words.starts_with(&["cargo", "run"]);
        if let Some(at) = words.iter().position(|word| run && *word == "--") {
            words.drain(..=at);
            words.insert(0, "strandline");
        }
        all.push(words);
    }
    all
}

/// What is wrong with a command.
pub fn problems(command: &str) -> Vec<String> {
    let mut problems = vec![];
    for words in simple_commands(command) {
        let program = words[0].rsplit('/').next().unwrap();
        match program {
            "strandline" => strandline(&words, &mut problems),
            "cargo" => cargo(&words, &mut problems),
            "python" if words.get(1) != Some(&"-m") => python(&words, &mut problems),
            "pip" => files_after("-r", &words, &mut problems),
            "just" => recipe(&words, &mut problems),
            _ if words[0].contains('/') && !words[0].starts_with("venv/") => {
                exists(words[0], &mut problems);
            }
            _ => {}
        }
    }
    problems
}

fn exists(path: &str, problems: &mut Vec<String>) {
    // Commands of the recipes are run in their folder.
    let places = [root().join(path), root().join("models/train").join(path)];
    if !places.iter().any(|place| place.exists()) {
        problems.push(format!("{path} does not exist"));
    }
}

fn files_after(option: &str, words: &[&str], problems: &mut Vec<String>) {
    for pair in words.windows(2).filter(|pair| pair[0] == option) {
        exists(pair[1], problems);
    }
}

/// The long and short options among words.
fn options<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let options = words
        .iter()
        .filter(|word| word.starts_with('-') && **word != "-");
    options
        .map(|word| word.split('=').next().unwrap())
        .collect()
}

fn strandline(words: &[&str], problems: &mut Vec<String>) {
    static HELP: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);
    let Some(name) = words.get(1) else { return };
    if *name == "help" || name.starts_with('-') {
        return;
    }
    // What stands behind `--` goes to another command.
    let end = words.iter().position(|word| *word == "--");
    let (words, rest) = words.split_at(end.unwrap_or(words.len()));
    if let Some(rest) = rest.get(1..) {
        strandline(&[&["strandline", "annotate"], rest].concat(), problems);
    }
    // The one command that has commands of its own.
    let count = if *name == "cells" { 2 } else { 1 };
    let path = words.get(1..=count).unwrap_or_default();
    let mut help = HELP.lock().unwrap();
    let text = help.entry(path.join(" ")).or_insert_with(|| {
        let program = env!("CARGO_BIN_EXE_strandline");
        let ran = Command::new(program)
            .args(path)
            .arg("--help")
            .output()
            .unwrap();
        String::from_utf8(ran.stdout).unwrap()
    });
    if text.is_empty() {
        problems.push(format!("there is no command {name}"));
    }
    let known: Vec<&str> = text
        .split([' ', ',', '\n', '='])
        .filter(|word| word.starts_with('-'))
        .collect();
    for option in options(words) {
        if !known.contains(&option) {
            problems.push(format!("{name} has no option {option}"));
        }
    }
}

fn cargo(words: &[&str], problems: &mut Vec<String>) {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut package = "";
    for pair in words.windows(2) {
        let [option, value] = pair else {
            unreachable!()
        };
        let any = |paths: &[String]| paths.iter().any(|path| root().join(path).exists());
        let found = match *option {
            "--" => break,
            "-p" => {
                package = value;
                let binding = value.trim_start_matches("strandline-");
                let folders = [
                    format!("{value}/Cargo.toml"),
                    format!("src/bindings/{binding}/Cargo.toml"),
                ];
                any(&folders) || *value == "strandline"
            }
            "--test" if value.chars().all(char::is_uppercase) => true,
            "--test" => any(&[
                format!("tests/{value}.rs"),
                format!("tests/{value}/main.rs"),
                format!("{package}/tests/{value}.rs"),
            ]),
            "--bench" => any(&[
                format!("benches/{value}.rs"),
                format!("benches/{value}/main.rs"),
            ]),
            "--example" => any(&[format!("examples/{value}.rs")]),
            "--features" => value
                .split(',')
                .all(|f| manifest.contains(&format!("\n{f} = ["))),
            "--fuzz-dir" => any(&[value.to_string()]),
            _ => true,
        };
        if !found {
            problems.push(format!("no {value} for {option}"));
        }
    }
    if words.contains(&"fuzz") {
        let target = words.last().unwrap();
        exists(&format!("tests/fuzz/fuzz_targets/{target}.rs"), problems);
    }
}

fn python(words: &[&str], problems: &mut Vec<String>) {
    let Some(script) = words.get(1) else { return };
    let places = [
        root().join(script),
        root().join("models/train").join(script),
    ];
    let Some(text) = places
        .iter()
        .find_map(|place| fs::read_to_string(place).ok())
    else {
        problems.push(format!("{script} does not exist"));
        return;
    };
    for option in options(&words[2..]) {
        if !text.contains(&format!("\"{option}\"")) {
            problems.push(format!("{script} has no option {option}"));
        }
    }
}

fn recipe(words: &[&str], problems: &mut Vec<String>) {
    let text = fs::read_to_string(root().join("justfile")).unwrap();
    let Some(name) = words.get(1) else { return };
    let heads = text.lines().filter_map(|line| line.split_once(':'));
    if !heads
        .into_iter()
        .any(|(head, _)| head.split(' ').next() == Some(name))
    {
        problems.push(format!("the justfile has no recipe {name}"));
    }
}
