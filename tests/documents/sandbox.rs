//! A copy of the sample files in which the commands of a document run.

use crate::markdown::Document;
use crate::root;
use crate::tables::STAND_INS;
use flate2::read::MultiGzDecoder;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

/// How many of the sample reads stand for READS.
const SAMPLE: usize = 4;

pub struct Sandbox {
    folder: tempfile::TempDir,
}

/// What a command gave.
pub struct Printed {
    pub code: i32,
    /// Standard output, then standard error.
    pub lines: Vec<String>,
}

impl Sandbox {
    pub fn new(document: &Document) -> Sandbox {
        let folder = tempfile::tempdir().unwrap();
        let to = |name: &str| folder.path().join(name);
        let folders = [
            "tests/data",
            "tests/data/inputs",
            "tests/data/variants",
            "tests/data/cells",
            "tests/data/cells/pbmc",
            "models",
            "models/float",
            "models/dnabert-small",
        ];
        for name in folders {
            copy(&root().join(name), &to(name));
        }
        let program = env!("CARGO_BIN_EXE_strandline");
        fs::create_dir_all(to("target/release")).unwrap();
        symlink(program, to("target/release/strandline")).unwrap();
        let reads = File::open(root().join("tests/data/reads.fastq.gz")).unwrap();
        let lines = BufReader::new(MultiGzDecoder::new(reads)).lines();
        let lines: Vec<String> = lines.take(4 * SAMPLE).map(Result::unwrap).collect();
        fs::write(to("sample.fastq"), lines.join("\n") + "\n").unwrap();
        // A file that the document shows.
        for block in document.blocks.iter().filter(|b| b.language == "toml") {
            if let Some(name) = block.file_name() {
                fs::write(to(name), block.lines.join("\n")).unwrap();
            }
        }
        Sandbox { folder }
    }

    pub fn run(&self, command: &str) -> Printed {
        let mut command = command.replace("cargo run --release -- ", "strandline ");
        for (name, file) in STAND_INS {
            let words = command.split(' ');
            let words = words.map(|word| if word == *name { *file } else { word });
            command = words.collect::<Vec<_>>().join(" ");
        }
        let folder = self.folder.path();
        let path = std::env::var("PATH").unwrap();
        let ran = Command::new("bash")
            .args(["-eo", "pipefail", "-c", &command])
            .current_dir(folder)
            .env(
                "PATH",
                format!("{}/target/release:{path}", folder.display()),
            )
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&ran.stdout), text(&ran.stderr));
        Printed {
            code: ran.status.code().unwrap_or(-1),
            lines: out.lines().chain(err.lines()).map(str::to_string).collect(),
        }
    }
}

/// Copies the files of a folder, not those of the folders in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

impl Printed {
    /// True where the lines of a document are what was printed, but for times and the instruction
    /// set. `...` stands for any lines.
    pub fn shows(&self, lines: &[String]) -> bool {
        let printed: Vec<String> = self.lines.iter().map(|line| masked(line)).collect();
        let parts: Vec<&[String]> = lines.split(|line| line == "...").collect();
        let mut at = 0;
        for (number, part) in parts.iter().enumerate() {
            let wanted: Vec<String> = part.iter().map(|line| masked(line)).collect();
            let rest = &printed[at..];
            let place = if number == 0 {
                rest.starts_with(&wanted).then_some(0)
            } else if number + 1 == parts.len() {
                let last = rest.len().checked_sub(wanted.len());
                last.filter(|_| rest.ends_with(&wanted))
            } else {
                let mut windows = rest.windows(wanted.len());
                windows.position(|window| window == wanted)
            };
            let Some(place) = place else { return false };
            at += place + wanted.len();
        }
        at == printed.len()
    }
}

/// A line with one blank between words and `#` in place of times, rates and the instruction set.
fn masked(line: &str) -> String {
    const UNITS: [&str; 7] = ["s", "ms", "µs", "us", "ns", "kb/s", "Mb/s"];
    let words: Vec<&str> = line.split_whitespace().collect();
    let plain = |word: &str| word.trim_end_matches(',').to_string();
    let number = |word: &str| word.parse::<f64>().is_ok();
    let time = |word: &str| {
        let unit = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        unit.len() < word.len() && UNITS.contains(&unit)
    };
    let mut out = vec![];
    for (at, word) in words.iter().enumerate() {
        let own = plain(word);
        let next = words
            .get(at + 1)
            .map(|word| plain(word))
            .unwrap_or_default();
        let before = if at > 0 {
            plain(words[at - 1])
        } else {
            String::new()
        };
        let rate = UNITS.contains(&&*own) && number(&before);
        let counted = number(&own) && UNITS.contains(&&*next);
        let set = words[0] == "models" && before == "on";
        let hidden = time(&own) || rate || counted || set;
        out.push(if hidden {
            "#".to_string()
        } else {
            word.to_string()
        });
    }
    out.join(" ")
}
