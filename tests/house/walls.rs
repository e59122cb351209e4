//! Which wing may use which, and whether files of a wing use each other in a circle.

use crate::source::Source;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The wings by name, from the table in the crate documentation.
pub struct Wings {
    uses: BTreeMap<String, BTreeSet<String>>,
    to_come: BTreeSet<String>,
}

impl Wings {
    /// Reads the rows `| wing | uses | .. |` of the table whose head is `| wing | uses |`. A cell
    /// `uses` names wings, or `nothing`, or `all but` some.
    pub fn read(lib: &str) -> Wings {
        let rows = lib
            .lines()
            .map(|line| line.trim_start_matches("//!").trim())
            .skip_while(|line| !line.starts_with("| wing | uses |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        let plain = |cell: &str| cell.trim().replace(['`', '[', ']'], "");
        let (mut cells, mut to_come) = (vec![], BTreeSet::new());
        for row in rows {
            let mut columns = row.trim_matches('|').split('|');
            let (name, uses) = (columns.next(), columns.next());
            let (name, uses) = (plain(name.unwrap_or("")), plain(uses.unwrap_or("")));
            let wing = name.trim_end_matches("(to come)").trim().to_string();
            if wing != name {
                to_come.insert(wing.clone());
            }
            cells.push((wing, uses));
        }
        let all: BTreeSet<String> = cells.iter().map(|(wing, _)| wing.clone()).collect();
        let names = |list: &str| -> BTreeSet<String> {
            let names: BTreeSet<String> = list.split(", ").map(str::to_string).collect();
            let unknown: Vec<_> = names.difference(&all).collect();
            assert!(unknown.is_empty(), "no wings in the table: {unknown:?}");
            names
        };
        let uses = cells.iter().map(|(wing, uses)| {
            let uses = match (uses.as_str(), uses.strip_prefix("all but ")) {
                ("nothing", _) => BTreeSet::new(),
                (_, Some(others)) => all.difference(&names(others)).cloned().collect(),
                (list, None) => names(list),
            };
            (wing.clone(), uses)
        });
        Wings {
            uses: uses.collect(),
            to_come,
        }
    }

    /// Those that there is code for.
    pub fn built(&self) -> BTreeSet<String> {
        let built = self
            .uses
            .keys()
            .filter(|wing| !self.to_come.contains(*wing));
        built.cloned().collect()
    }

    /// Wings that use each other, directly or through others.
    pub fn circles(&self) -> Vec<String> {
        circles(&self.uses)
    }

    fn allow(&self, from: &str, to: &str) -> bool {
        self.uses.get(from).is_some_and(|uses| uses.contains(to))
    }
}

/// What goes from one wing to another.
#[derive(Default)]
pub struct Arrows {
    pub found: BTreeSet<(String, String)>,
    /// Those that the table does not have, with file and line.
    pub wrong: Vec<String>,
}

/// The one item of the crate's root that a wing may use, and the wing.
const HANDED_IN: (&str, &str) = ("model", "FOREIGN_GRAPHS");

/// Names that a wing shows as its own although a wing below has them, and where they come from.
const OWN: [(&str, &str); 1] = [("model::sigmoid", "kernels::math::sigmoid")];

/// Every path that leaves its wing, and where the `use` items on it lead further.
pub fn arrows(source: &Source, wings: &Wings) -> Arrows {
    let mut arrows = Arrows::default();
    for (name, file) in &source.files {
        let Some(wing) = file.module.first() else {
            continue;
        };
        let references = source.references(file);
        let ways = references.iter().flat_map(|reference| {
            let ways = source.ways(&reference.path).into_iter();
            ways.map(move |way| (reference, way))
        });
        for (reference, way) in ways {
            let to = way.first().map_or("", String::as_str);
            let place = format!("src/{name}:{}", reference.line);
            if to == wing || (wing.as_str(), to) == HANDED_IN {
                continue;
            }
            if !wings.uses.contains_key(to) {
                let why = "crate root; name the wing's own path";
                arrows
                    .wrong
                    .push(format!("{place}: {wing} uses `{to}` of the {why}"));
                continue;
            }
            arrows.found.insert((wing.clone(), to.to_string()));
            let (path, end) = (reference.path.join("::"), way.join("::"));
            if wings.allow(wing, to) || OWN.contains(&(path.as_str(), end.as_str())) {
                continue;
            }
            let through = if path == end {
                path
            } else {
                format!("{path} is {end}")
            };
            arrows
                .wrong
                .push(format!("{place}: {wing} -> {to} ({through})"));
        }
    }
    arrows
}

/// Who uses whom among the files of a wing.
pub fn uses(source: &Source, wing: &str) -> BTreeMap<String, BTreeSet<String>> {
    let own = |module: &[String]| module.first().is_some_and(|first| first == wing);
    let files = source.files.iter().filter(|(_, file)| own(&file.module));
    let uses = files.map(|(name, file)| {
        let references = source.references(file);
        let inside = references.iter().filter(|r| own(&r.path));
        let to = inside.map(|r| source.file_of(&r.path).to_string());
        (name.clone(), to.filter(|to| to != name).collect())
    });
    uses.collect()
}

/// A shortest circle through every file that is on one, each once: `a.rs -> b.rs -> a.rs`.
pub fn circles(uses: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut circles = vec![];
    for start in uses.keys() {
        let Some(mut circle) = way_back(uses, start) else {
            continue;
        };
        if seen.insert(circle.iter().copied().collect::<BTreeSet<_>>()) {
            circle.push(start);
            circles.push(circle.join(" -> "));
        }
    }
    circles
}

/// The shortest way from `start` to itself, without its end.
fn way_back<'a>(
    uses: &'a BTreeMap<String, BTreeSet<String>>,
    start: &'a String,
) -> Option<Vec<&'a str>> {
    let mut came_from: BTreeMap<&String, &String> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for to in uses.get(at).into_iter().flatten() {
            if to == start {
                let mut way = vec![at.as_str()];
                let mut at = at;
                while at != start {
                    at = came_from[at];
                    way.insert(0, at);
                }
                return Some(way);
            }
            if !came_from.contains_key(to) {
                came_from.insert(to, at);
                queue.push_back(to);
            }
        }
    }
    None
}
