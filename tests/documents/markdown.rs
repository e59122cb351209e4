//! As much of Markdown as the documents use.

use crate::root;
use std::fs;
use std::path::Path;

/// A Markdown file.
pub struct Document {
    /// Its path in the repository.
    pub name: String,
    pub text: String,
    pub blocks: Vec<Block>,
}

/// A fenced block.
pub struct Block {
    /// The first word behind the fence.
    pub language: String,
    /// The number of its first line.
    pub line: usize,
    pub lines: Vec<String>,
    /// The paragraph before it.
    pub before: String,
}

/// A command, its lines joined.
pub struct Command {
    pub line: usize,
    pub text: String,
    /// The exit code that the document states, else 0.
    pub code: i32,
}

/// Every document of the repository.
pub fn documents() -> Vec<Document> {
    let mut names: Vec<String> = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "benches/arm.md",
        "models/README.md",
        "models/convert/README.md",
        "tests/data/README.md",
        "tests/data/inputs/README.md",
    ]
    .map(str::to_string)
    .to_vec();
    for file in fs::read_dir(root().join("docs")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            names.push(format!("docs/{name}"));
        }
    }
    names.sort();
    names.into_iter().map(Document::open).collect()
}

impl Document {
    fn open(name: String) -> Document {
        let text = fs::read_to_string(root().join(&name)).unwrap();
        let (mut blocks, mut open, mut before) = (vec![], None::<Block>, String::new());
        for (number, line) in text.lines().enumerate() {
            let fence = line.trim_start().strip_prefix("```");
            match (&mut open, fence) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => block.lines.push(line.to_string()),
                (None, Some(language)) => {
                    open = Some(Block {
                        language: language.to_string(),
                        line: number + 2,
                        lines: vec![],
                        before: std::mem::take(&mut before),
                    });
                }
                (None, None) if line.starts_with('#') => before.clear(),
                (None, None) => {
                    before.push_str(line);
                    before.push('\n');
                }
            }
        }
        assert!(open.is_none(), "{name}: a fence that is not closed");
        Document { name, text, blocks }
    }

    /// Lines outside of fenced blocks, with their numbers.
    fn prose(&self) -> Vec<(usize, &str)> {
        let mut fenced = false;
        let mut lines = vec![];
        for (number, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                lines.push((number + 1, line));
            }
        }
        lines
    }

    /// Numbers of lines that Markdown would take for code because they are indented.
    pub fn indented_code(&self) -> Vec<usize> {
        let mut blank = true;
        let mut found = vec![];
        for (number, line) in self.prose() {
            if blank && line.starts_with("    ") {
                found.push(number);
            }
            blank = line.trim().is_empty();
        }
        found
    }

    /// Commands in blocks and those between backticks, with line numbers.
    pub fn all_commands(&self) -> Vec<(usize, String)> {
        let mut all = vec![];
        for block in self.blocks.iter().filter(|b| b.language == "sh") {
            let commands = block.commands().into_iter();
            all.extend(commands.map(|command| (command.line, command.text)));
        }
        for (number, line) in self.prose() {
            for code in line.split('`').skip(1).step_by(2) {
                let first = code.split(' ').next().unwrap();
                if ["strandline", "cargo", "python", "just"].contains(&first) && first != code {
                    all.push((number, code.to_string()));
                }
            }
        }
        all
    }

    /// Files and folders that are linked to, by their path from the root.
    pub fn linked_files(&self) -> Vec<(usize, String)> {
        let folder = Path::new(&self.name).parent().unwrap();
        let mut files = vec![];
        for (number, line) in self.prose() {
            for link in line.split("](").skip(1) {
                let link = link.split([')', '#']).next().unwrap();
                if link.is_empty() || link.starts_with("http") {
                    continue;
                }
                let mut names: Vec<&str> = folder.to_str().unwrap().split('/').collect();
                names.retain(|name| !name.is_empty());
                for name in link.split('/') {
                    if name == ".." {
                        names.pop();
                    } else {
                        names.push(name);
                    }
                }
                files.push((number, names.join("/")));
            }
        }
        files
    }

    /// Links to files and headings that do not exist.
    pub fn broken_links(&self) -> Vec<(usize, String)> {
        let folder = Path::new(&self.name).parent().unwrap();
        let mut broken = vec![];
        for (number, line) in self.prose() {
            for link in line.split("](").skip(1) {
                let link = link.split(')').next().unwrap();
                if link.starts_with("http") {
                    continue;
                }
                let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
                let path = if path.is_empty() {
                    root().join(&self.name)
                } else {
                    root().join(folder).join(path)
                };
                if !path.exists() {
                    broken.push((number, format!("{link} does not exist")));
                } else if !anchor.is_empty() && !anchors(&path).contains(&anchor.to_string()) {
                    broken.push((number, format!("{link}: no such heading")));
                }
            }
        }
        broken
    }
}

/// The anchors of a document's headings.
fn anchors(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}

impl Block {
    /// The name of the file that a block shows, which the paragraph before it ends with.
    pub fn file_name(&self) -> Option<&str> {
        let name = self.before.rsplit('`').nth(1)?;
        name.ends_with(&format!(".{}", self.language))
            .then_some(name)
    }

    /// True for a model's manifest.
    pub fn is_manifest(&self) -> bool {
        self.language == "toml" && self.lines.iter().any(|line| line == "[[outputs]]")
    }

    /// The commands of a block of shell: lines that go on are joined, and loops are one command.
    pub fn commands(&self) -> Vec<Command> {
        let mut commands = vec![];
        let mut open = None::<Command>;
        for (number, line) in self.lines.iter().enumerate() {
            let (code, comment) = line.split_once(" #").unwrap_or((line, ""));
            let code = code.trim();
            if code.is_empty() || code.starts_with('#') {
                continue;
            }
            let goes_on = code.ends_with('\\');
            let code = code.trim_end_matches('\\').trim_end();
            let command = open.get_or_insert_with(|| Command {
                line: self.line + number,
                text: String::new(),
                code: 0,
            });
            command.text.push_str(code);
            command.text.push(if goes_on { ' ' } else { '\n' });
            if let Some(status) = comment.trim().strip_prefix("exit code ") {
                command.code = status.parse().unwrap();
            }
            let in_loop = command.text.starts_with("for ") && code != "done";
            if !goes_on && !in_loop {
                command.text.pop();
                commands.extend(open.take());
            }
        }
        assert!(
            open.is_none(),
            "line {}: a command without an end",
            self.line
        );
        commands
    }
}
