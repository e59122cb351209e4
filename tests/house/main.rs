//! The rules of the house, checked on its source: which wing may use which, that files do not use
//! each other in circles, and what lines must not hold.
//!
//! `STRANDLINE_SRC` names another `src` folder to check.

mod lines;
mod source;
mod walls;

use source::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use walls::{Wings, arrows, circles, uses};

/// Wings in which no two files may use each other, directly or through others.
const WITHOUT_CIRCLES: [&str; 4] = ["cli", "compile", "model", "stream"];

/// Files whose lines may be wider, and why; none at present.
const WIDE: &[(&str, &str)] = &[];

fn root() -> PathBuf {
    match std::env::var_os("STRANDLINE_SRC") {
        Some(src) => Path::new(&src).parent().expect("a folder").into(),
        None => env!("CARGO_MANIFEST_DIR").into(),
    }
}

/// The text of the files with one of these endings, by their path from the root. An ending may be a
/// whole name. Without git, which a machine may lack: what is hidden, built or installed is left
/// out.
fn texts(endings: &[&str]) -> BTreeMap<String, String> {
    fn walk(folder: &Path, below: &str, endings: &[&str], texts: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).expect("a folder of the tree") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            let ending = name.rsplit('.').next().unwrap_or("");
            let hidden = name.starts_with('.') && name != ".ci";
            let made =
                name == "target" || name.starts_with("__") || path.join("pyvenv.cfg").exists();
            let name = format!("{below}{name}");
            if path.is_symlink() || hidden || made {
                continue;
            } else if path.is_dir() {
                walk(&path, &format!("{name}/"), endings, texts);
            } else if endings.contains(&ending) || endings.contains(&&*name) {
                let text = std::fs::read_to_string(&path).expect("a text");
                texts.insert(name, text);
            }
        }
    }
    let mut texts = BTreeMap::new();
    walk(&root(), "", endings, &mut texts);
    texts
}

fn texts_of_source() -> BTreeMap<String, String> {
    let all = texts(&["rs"]).into_iter();
    let own = all.filter_map(|(name, text)| Some((name.strip_prefix("src/")?.to_string(), text)));
    // Crates of their own.
    own.filter(|(name, _)| !name.starts_with("bindings/"))
        .collect()
}

fn crate_docs() -> String {
    let lib = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs");
    std::fs::read_to_string(lib).expect("src/lib.rs")
}

fn none(what: &str, found: &[String]) {
    assert!(
        found.is_empty(),
        "{what}: {}\n{}",
        found.len(),
        found.join("\n")
    );
}

fn made_up(files: &[(&str, &str)]) -> Source {
    let files = files.iter();
    Source::new(&files.map(|&(n, t)| (n.into(), t.into())).collect())
}

#[test]
fn wings_use_only_what_the_table_allows() {
    let wings = Wings::read(&crate_docs());
    let source = Source::new(&texts_of_source());
    let folders: BTreeSet<String> = source
        .files
        .values()
        .filter_map(|file| file.module.first().cloned())
        .collect();
    assert_eq!(wings.built(), folders, "wings of the table, wings of src");
    none("wings that use each other", &wings.circles());
    let arrows = arrows(&source, &wings);
    none("arrows that the table lacks", &arrows.wrong);
    assert!(source.files.len() > 100, "{} files", source.files.len());
    assert!(arrows.found.len() > 20, "{:?}", arrows.found);
}

#[test]
fn no_circle_crosses_files() {
    let source = Source::new(&texts_of_source());
    let mut found = vec![];
    for wing in WITHOUT_CIRCLES {
        let uses = uses(&source, wing);
        let count: usize = uses.values().map(BTreeSet::len).sum();
        assert!(count > 4, "{wing}: {count} arrows between files");
        found.extend(circles(&uses));
    }
    none("circles", &found);
}

#[test]
fn no_line_is_wider_than_a_hundred_columns() {
    let texts = texts(&["rs", "md", "py", "sh", "toml", "cpp", "justfile", ".ci/run"]);
    assert!(texts.contains_key(".ci/run") && texts.contains_key("justfile"));
    assert!(texts.len() > 200, "{} files", texts.len());
    let allowed = |name: &str| WIDE.iter().any(|(file, _)| *file == name);
    let mut found = vec![];
    for (name, text) in texts.iter().filter(|(name, _)| !allowed(name)) {
        found.extend(lines::wide(text).iter().map(|n| format!("{name}:{n}")));
    }
    none("wide lines", &found);
}

#[test]
fn nothing_is_hidden_in_threads_and_unsafe_code_has_its_place() {
    let of_c = |name: &str| name.starts_with("src/bindings/c/");
    let may =
        |name: &str| name.starts_with("src/kernels/") || name == "src/model/map.rs" || of_c(name);
    let (mut locals, mut unsafes, mut allowed) = (vec![], vec![], 0);
    for (name, text) in texts(&["rs"]) {
        let tokens: proc_macro2::TokenStream = text.parse().expect("tokens of Rust");
        let place = |line: usize| format!("{name}:{line}");
        let lines = lines::of_word(tokens.clone(), "unsafe");
        if may(&name) {
            allowed += lines.len();
        } else if !name.starts_with("tests/") {
            unsafes.extend(lines.into_iter().map(place));
        }
        // What failed last is each thread's own, as C has it.
        if name.starts_with("src/") && !of_c(&name) {
            let lines = lines::of_word(tokens, "thread_local");
            locals.extend(lines.into_iter().map(place));
        }
    }
    none("unsafe code", &unsafes);
    assert!(allowed > 20, "{allowed} places of unsafe code");
    none("thread-locals", &locals);
}

#[test]
fn no_match_has_an_arm_for_true_or_false() {
    let mut found = vec![];
    for (name, text) in texts(&["rs"]) {
        let arms = lines::boolean_arms(text.parse().expect("tokens of Rust"));
        found.extend(arms.iter().map(|n| format!("{name}:{n}")));
    }
    none("boolean arms", &found);
}

#[test]
fn prose_uses_the_words_of_the_field() {
    let mut found = vec![];
    for (name, text) in texts(&["md"]) {
        let coined = lines::coined(&text).into_iter();
        found.extend(coined.map(|(n, word)| format!("{name}:{n}: {word}")));
    }
    none("coined words", &found);
}

#[test]
fn names_use_the_words_of_the_field() {
    let mut found = vec![];
    for (name, text) in texts(&["rs"]) {
        let coined = lines::coined_names(text.parse().expect("tokens of Rust")).into_iter();
        found.extend(coined.map(|(n, word)| format!("{name}:{n}: {word}")));
    }
    none("coined names", &found);
}

#[test]
fn examples_use_what_is_documented() {
    let hidden = lines::hidden_modules(&crate_docs());
    assert!(hidden.len() > 5, "{hidden:?}");
    let examples = texts(&["rs"]).into_iter();
    let examples = examples.filter(|(name, _)| name.starts_with("examples/"));
    let (mut found, mut names) = (vec![], 0);
    for (file, text) in examples {
        let used = lines::used_of("strandline", &text);
        names += used.len();
        let wrong = used.iter().filter(|name| hidden.contains(name));
        found.extend(wrong.map(|name| format!("{file}: {name}")));
    }
    none("hidden modules in examples", &found);
    assert!(names > 5, "{names} names");
}

/// A house of three wings, of which the last may use the others.
const TABLE: &str = "
//! | wing | uses | in -> out |
//! | --- | --- | --- |
//! | `low` | nothing | - |
//! | `model` | low | - |
//! | `high` | all but high, later | - |
//! | `later` (to come) | high | - |
";

const LIB: &str = "mod low; mod model; mod high; pub use high::Thing;
    pub const FOREIGN_GRAPHS: u8 = 0;";

#[test]
fn the_table_is_read() {
    let wings = Wings::read(TABLE);
    let built = ["low", "model", "high"].map(String::from);
    assert_eq!(wings.built(), BTreeSet::from(built));
    assert!(wings.circles().is_empty());
    let circle = TABLE.replace("nothing", "model");
    assert_eq!(Wings::read(&circle).circles(), ["low -> model -> low"]);
}

#[test]
fn an_arrow_the_wrong_way_is_found_wherever_it_is_written() {
    let wings = Wings::read(TABLE);
    let wrong = |low: &str| {
        let high = "use crate::model::M; pub struct Thing(crate::low::Low);";
        let source = made_up(&[
            ("lib.rs", LIB),
            ("low/mod.rs", "mod inner;"),
            ("low/inner.rs", low),
            (
                "model.rs",
                "use super::low::L; const X: u8 = crate::FOREIGN_GRAPHS;",
            ),
            ("high.rs", high),
        ]);
        let arrows = arrows(&source, &wings);
        assert!(arrows.found.contains(&("model".into(), "low".into())));
        assert!(arrows.found.contains(&("high".into(), "low".into())));
        arrows.wrong
    };
    for allowed in [
        "use super::inner; use crate::low::x; use std::fmt; use core::high::X;",
        "//! See [`crate::high::Thing`].\n fn f(high: u8) -> u8 { high }",
        "#[cfg(test)] mod tests { use crate::high::Thing; }",
        "#[cfg(test)] use crate::high::Thing;",
        "pub(in crate::low) fn f() {} pub(super) fn g() {}",
    ] {
        assert_eq!(wrong(allowed), [""; 0], "{allowed}");
    }
    for (one, arrow) in [
        (
            "\nuse crate::high::Thing;",
            "src/low/inner.rs:2: low -> high (high::Thing)",
        ),
        (
            "use crate::{high, low};",
            "src/low/inner.rs:1: low -> high (high)",
        ),
        (
            "use super::super::model::*;",
            "src/low/inner.rs:1: low -> model (model)",
        ),
        (
            "fn f() {\n crate::high::f(1) }",
            "src/low/inner.rs:2: low -> high (high::f)",
        ),
        (
            "fn f(x: Vec<crate::high::T>) {}",
            "src/low/inner.rs:1: low -> high (high::T)",
        ),
        (
            "fn f() { vec![\n(1, crate::high::X)] }",
            "src/low/inner.rs:2: low -> high (high::X)",
        ),
        (
            "macro_rules! m { () => { $crate::high::X } }",
            "src/low/inner.rs:1: low -> high (high::X)",
        ),
        (
            "impl T for U { fn f() { super::super::high::f() } }",
            "src/low/inner.rs:1: low -> high (high::f)",
        ),
        (
            "macro_rules! m { () => {\n use $crate::{low::X, high::{Y, Z}}; } }",
            "src/low/inner.rs:2: low -> high (high::Y)\n\
            src/low/inner.rs:2: low -> high (high::Z)",
        ),
        (
            "#[serde(with = \"crate::high::x\")] struct S;",
            "src/low/inner.rs:1: low -> high (high::x)",
        ),
        (
            "#[derive(crate::high::Derive)] struct S;",
            "src/low/inner.rs:1: low -> high (high::Derive)",
        ),
    ] {
        assert_eq!(wrong(one).join("\n"), arrow, "{one}");
    }
    for root in [
        "use crate::Thing;",
        "fn f(x: crate::Thing) {}",
        "use crate::FOREIGN_GRAPHS;",
    ] {
        assert_eq!(wrong(root).len(), 1, "{root}");
        assert!(wrong(root)[0].contains("of the crate root"), "{root}");
    }
}

#[test]
fn a_name_shown_by_a_wing_between_is_an_arrow_to_where_it_is_from() {
    let table = TABLE.replace("all but high, later", "model");
    let wrong = |model: &str, high: &str| {
        let source = made_up(&[
            ("lib.rs", LIB),
            ("low/mod.rs", "pub mod inner;"),
            ("low/inner.rs", "pub struct Low; pub struct Other;"),
            ("model/mod.rs", model),
            (
                "model/own.rs",
                "pub struct Own; pub use crate::low::inner::Low;",
            ),
            ("high.rs", high),
        ]);
        arrows(&source, &Wings::read(&table)).wrong.join("\n")
    };
    let own = "mod own; pub use own::Own;";
    assert_eq!(wrong(own, "use crate::model::Own;"), "");
    for (model, high, expected) in [
        (
            "mod own; pub use crate::low::inner::Low;",
            "use crate::model::Low;",
            "src/high.rs:1: high -> low (model::Low is low::inner::Low)",
        ),
        (
            "mod own; pub use crate::low::inner::Low as Renamed;",
            "\nfn f() { vec![crate::model::Renamed] }",
            "src/high.rs:2: high -> low (model::Renamed is low::inner::Low)",
        ),
        (
            "mod own; pub use own::Low;",
            "use crate::model; fn f(_: model::Low) {}",
            "src/high.rs:1: high -> low (model::Low is low::inner::Low)",
        ),
        (
            "pub mod own; pub use crate::low::inner as shown;",
            "use crate::model::shown::Other;",
            "src/high.rs:1: high -> low (model::shown::Other is low::inner::Other)",
        ),
        (
            "mod own; pub use crate::low::inner::*;",
            "use crate::model::Other;",
            "src/high.rs:1: high -> low (model::Other is low::inner::Other)",
        ),
    ] {
        assert_eq!(wrong(model, high), expected, "{model} {high}");
    }
}

#[test]
fn circles_are_found_and_plain_mod_lines_make_none() {
    let circles_of = |files: [(&str, &str); 3]| {
        let source = made_up(&[&[("lib.rs", "mod model;")], &files[..]].concat());
        circles(&uses(&source, "model"))
    };
    let fine = [
        ("model/mod.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
        (
            "model/a.rs",
            "use super::b::B; use crate::model::b; fn f() { b::f() }",
        ),
        (
            "model/b.rs",
            "#[cfg(test)] mod tests { use crate::model::a::A; }",
        ),
    ];
    assert_eq!(circles_of(fine), [""; 0]);
    let mut direct = fine;
    direct[2].1 = "fn f() { super::a::f() }";
    assert_eq!(
        circles_of(direct),
        ["model/a.rs -> model/b.rs -> model/a.rs"]
    );
    let mut imported = fine;
    imported[2].1 = "use super::a as other; fn f() { other::f() }";
    assert_eq!(
        circles_of(imported),
        ["model/a.rs -> model/b.rs -> model/a.rs"]
    );
    // Through the parent, which shows the child's names.
    let mut parent = fine;
    parent[1].1 = "use super::B;";
    assert_eq!(
        circles_of(parent),
        ["model/a.rs -> model/mod.rs -> model/a.rs"]
    );
    // A parent may hold what its children use, as long as it does not use them.
    let plain = [
        ("model/mod.rs", "mod a; mod b; pub struct Shared;"),
        ("model/a.rs", "use super::Shared; use super::b::B;"),
        ("model/b.rs", "use super::Shared;"),
    ];
    assert_eq!(circles_of(plain), [""; 0]);
}

#[test]
fn the_checks_of_lines_see_what_they_look_for() {
    assert_eq!(
        lines::wide(&format!("a\n{}\n{}", "ß".repeat(100), "x".repeat(101))),
        [3]
    );
    let tokens = |text: &str| text.parse::<proc_macro2::TokenStream>().unwrap();
    let local = "fn f() {}\nthread_local! { static X: u8 = 0; }\n// thread_local";
    assert_eq!(lines::of_word(tokens(local), "thread_local"), [2]);
    let code =
        "fn f() { \"unsafe\"; }\nfn g() {\n unsafe { h() } }\n#[allow(unsafe_code)] fn i() {}";
    assert_eq!(lines::of_word(tokens(code), "unsafe"), [3]);
    let arms = "fn f() { match x { true => 1,\n false if y => 2, _ => 3 };\n \
        match z { Some(true) => 1, (true, false) => 2 }; \
        assert!(match x {\n true => 1, _ => 0 } == true) }";
    assert_eq!(lines::boolean_arms(tokens(arms)), [1, 2, 4]);
    let prose = "It heard.\n```\n# told\n```\nA `bare` word: overheard. Told\n# Parts taken\ntaken";
    let found = [(1, "heard"), (5, "told"), (6, "parts"), (6, "taken")];
    assert_eq!(lines::coined(prose), found);
    let lib = "#[doc(hidden)]\npub mod a;\n#[cfg(x)]\n#[doc(hidden)] pub mod b; pub mod c;";
    assert_eq!(lines::hidden_modules(lib), ["a", "b"]);
    let uses = "use it::{A, b::{C, D}, e}; fn f() { it::g::h(); not_it::i() }";
    assert_eq!(lines::used_of("it", uses), ["A", "b", "e", "g"]);
    let names = "fn was_told() {}\nfn returned(taken: u8) {\n // bare\n let x = \"heard\"; }";
    assert_eq!(
        lines::coined_names(tokens(names)),
        [(1, "told"), (2, "taken")]
    );
}
