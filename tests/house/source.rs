//! The files of the crate as the compiler sees them: found by their `mod` lines, with the paths
//! that each of them names.

use std::collections::{BTreeMap, HashMap};
use syn::visit::{self, Visit};

/// A file of the crate.
pub struct File {
    /// Its module: `["model", "file"]`.
    pub module: Vec<String>,
    pub syntax: syn::File,
}

/// All files but those that are compiled for tests only, by their path below `src`.
pub struct Source {
    pub files: BTreeMap<String, File>,
    /// Every module, those inside a file too, and the file it is in.
    modules: HashMap<Vec<String>, String>,
    /// What `use` items bring into modules, from the root of the crate: others may name it there.
    shown: Names,
    /// Modules, and those of which they show everything.
    globs: Vec<(Vec<String>, Vec<String>)>,
}

/// A path that code names.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    pub line: usize,
    /// From the root of the crate, without `crate`.
    pub path: Vec<String>,
}

impl Source {
    /// Follows the `mod` lines from `lib.rs`; `texts` holds the files by their path below `src`.
    pub fn new(texts: &BTreeMap<String, String>) -> Source {
        let mut source = Source {
            files: BTreeMap::new(),
            modules: HashMap::new(),
            shown: HashMap::new(),
            globs: vec![],
        };
        source.add(texts, "lib.rs".into(), vec![]);
        let (mut shown, mut globs) = (HashMap::new(), vec![]);
        for file in source.files.values() {
            let imports = Imports::of(file);
            for ((module, name), written) in &imports.found {
                if let Some(path) = source.resolve(&imports.found, module, written, 0) {
                    shown.insert((module.clone(), name.clone()), path);
                }
            }
            for (module, written) in &imports.globs {
                if let Some(path) = source.resolve(&imports.found, module, written, 0) {
                    globs.push((module.clone(), path));
                }
            }
        }
        (source.shown, source.globs) = (shown, globs);
        source
    }

    fn add(&mut self, texts: &BTreeMap<String, String>, path: String, module: Vec<String>) {
        let Some(text) = texts.get(&path) else {
            panic!("no file {path}");
        };
        let syntax = syn::parse_file(text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let folder = match path.strip_suffix("mod.rs").or(path.strip_suffix("lib.rs")) {
            Some(folder) => folder.to_string(),
            None => format!("{}/", path.trim_end_matches(".rs")),
        };
        self.add_modules(texts, &path, &folder, &module, &syntax.items);
        self.files.insert(path, File { module, syntax });
    }

    fn add_modules(
        &mut self,
        texts: &BTreeMap<String, String>,
        path: &str,
        folder: &str,
        module: &[String],
        items: &[syn::Item],
    ) {
        self.modules.insert(module.to_vec(), path.into());
        for item in items {
            let syn::Item::Mod(item) = item else { continue };
            if for_tests(&item.attrs) {
                continue;
            }
            let name = item.ident.to_string();
            let inner = [module, std::slice::from_ref(&name)].concat();
            if let Some((_, items)) = &item.content {
                self.add_modules(texts, path, &format!("{folder}{name}/"), &inner, items);
                continue;
            }
            let flat = format!("{folder}{name}.rs");
            let nested = format!("{folder}{name}/mod.rs");
            let found = if texts.contains_key(&flat) {
                flat
            } else {
                nested
            };
            self.add(texts, found, inner);
        }
    }

    /// The file that a path leads to: that of the innermost module on it.
    pub fn file_of(&self, path: &[String]) -> &str {
        let lengths = (0..=path.len()).rev();
        let mut files = lengths.filter_map(|n| self.modules.get(&path[..n]));
        files.next().expect("the root is a module")
    }

    /// A path, and where it leads through `use` items of the modules on it.
    pub fn ways(&self, path: &[String]) -> Vec<Vec<String>> {
        let mut ways = vec![path.to_vec()];
        let mut pending = ways.clone();
        while let Some(at) = pending.pop() {
            // What the root shows is for users of the crate: no code in it may go that way.
            for length in 1..at.len() {
                let (module, name) = (&at[..length], &at[length]);
                let inner = at[..=length].to_vec();
                if self.modules.contains_key(&inner) {
                    continue;
                }
                let shown = self.shown.get(&(module.to_vec(), name.clone()));
                let named = shown.map(|path| [path, &at[length + 1..]].concat());
                let globs = self.globs.iter().filter(|(from, _)| from == module);
                let all = globs.map(|(_, to)| [to, &at[length..]].concat());
                for way in named.into_iter().chain(all.filter(|_| shown.is_none())) {
                    if ways.len() < 64 && !ways.contains(&way) {
                        ways.push(way.clone());
                        pending.push(way);
                    }
                }
                break;
            }
        }
        ways
    }

    /// A path as a file's module writes it, from the root of the crate; `None` where it leads out.
    fn resolve(
        &self,
        imports: &Names,
        module: &[String],
        written: &[String],
        depth: usize,
    ) -> Option<Vec<String>> {
        let first = written.first()?;
        let mut from = module.to_vec();
        match first.as_str() {
            "crate" => return Some(written[1..].to_vec()),
            "self" => return Some([&from, &written[1..]].concat()),
            "super" => {
                let ups = written.iter().take_while(|s| *s == "super").count();
                from.truncate(from.len().checked_sub(ups)?);
                return Some([&from, &written[ups..]].concat());
            }
            _ => (),
        }
        let import = imports.get(&(from.clone(), first.clone()));
        if let Some(import) = import.filter(|i| depth < 8 && i.first() != Some(first)) {
            let import = self.resolve(imports, module, import, depth + 1)?;
            return Some([&import, &written[1..]].concat());
        }
        from.push(first.clone());
        self.modules.contains_key(&from).then(|| {
            from.extend_from_slice(&written[1..]);
            from
        })
    }

    /// The paths within the crate that a file names, outside of code for tests.
    pub fn references(&self, file: &File) -> Vec<Reference> {
        let imports = Imports::of(file);
        let mut references = References {
            source: self,
            imports: &imports.found,
            module: file.module.clone(),
            found: vec![],
        };
        references.visit_file(&file.syntax);
        references.found
    }
}

/// True for what only tests compile.
fn for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string().replace(' ', "");
            condition == "test" || condition.starts_with("all(test,")
        }
        _ => false,
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item::*;
    match item {
        Const(i) => &i.attrs,
        Enum(i) => &i.attrs,
        Fn(i) => &i.attrs,
        Impl(i) => &i.attrs,
        Macro(i) => &i.attrs,
        Mod(i) => &i.attrs,
        Static(i) => &i.attrs,
        Struct(i) => &i.attrs,
        Trait(i) => &i.attrs,
        Type(i) => &i.attrs,
        Use(i) => &i.attrs,
        _ => &[],
    }
}

/// A path that a `use` brings in, and the name that it has here; none for `*`.
struct Leaf {
    line: usize,
    path: Vec<String>,
    name: Option<String>,
}

fn leaves(item: &syn::ItemUse) -> Vec<Leaf> {
    fn walk(tree: &syn::UseTree, before: &[String], line: usize, leaves: &mut Vec<Leaf>) {
        let with = |ident: &syn::Ident| {
            let mut path = before.to_vec();
            if ident != "self" || before.is_empty() {
                path.push(ident.to_string());
            }
            path
        };
        let leaf = |ident: &syn::Ident, name: Option<String>| Leaf {
            line: ident.span().start().line,
            path: with(ident),
            name,
        };
        match tree {
            syn::UseTree::Path(path) => {
                let line = path.ident.span().start().line;
                walk(&path.tree, &with(&path.ident), line, leaves);
            }
            syn::UseTree::Name(name) => {
                let own = with(&name.ident).pop();
                leaves.push(leaf(&name.ident, own));
            }
            syn::UseTree::Rename(name) => {
                leaves.push(leaf(&name.ident, Some(name.rename.to_string())));
            }
            syn::UseTree::Glob(_) => leaves.push(Leaf {
                line,
                path: before.to_vec(),
                name: None,
            }),
            syn::UseTree::Group(group) => {
                let trees = group.items.iter();
                trees.for_each(|tree| walk(tree, before, line, leaves));
            }
        }
    }
    let mut found = vec![];
    if item.leading_colon.is_none() {
        walk(&item.tree, &[], 0, &mut found);
    }
    found
}

type Names = HashMap<(Vec<String>, String), Vec<String>>;

/// What the `use` items of a file bring in, by module and name.
struct Imports {
    module: Vec<String>,
    found: Names,
    /// Modules, and those of which they show everything.
    globs: Vec<(Vec<String>, Vec<String>)>,
}

impl Imports {
    fn of(file: &File) -> Imports {
        let mut imports = Imports {
            module: file.module.clone(),
            found: HashMap::new(),
            globs: vec![],
        };
        imports.visit_file(&file.syntax);
        imports
    }
}

impl<'a> Visit<'a> for Imports {
    fn visit_item(&mut self, item: &'a syn::Item) {
        if !for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        for leaf in leaves(item) {
            let module = self.module.clone();
            match leaf.name {
                Some(name) => drop(self.found.insert((module, name), leaf.path)),
                None if matches!(item.vis, syn::Visibility::Inherited) => (),
                None => self.globs.push((module, leaf.path)),
            }
        }
    }
}

struct References<'a> {
    source: &'a Source,
    imports: &'a Names,
    module: Vec<String>,
    found: Vec<Reference>,
}

impl References<'_> {
    fn add(&mut self, line: usize, written: &[String]) {
        let path = self.source.resolve(self.imports, &self.module, written, 0);
        if let Some(path) = path {
            self.found.push(Reference { line, path });
        }
    }

    /// Paths among tokens that have no syntax yet, those of macros and attributes; `before` is what
    /// stands before a list in braces, as in `use a::{b, c}`.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream, before: &[String]) {
        use proc_macro2::{Delimiter, TokenTree};
        let (mut path, mut line, mut colons) = (before.to_vec(), 0, 0);
        let mut joined = !before.is_empty();
        for token in tokens {
            if matches!(&token, TokenTree::Punct(punct) if punct.as_char() == ':') {
                colons += 1;
                joined = colons == 2;
                continue;
            }
            colons = 0;
            if !joined {
                self.add_long(line, &std::mem::take(&mut path));
            }
            let list = joined && !path.is_empty();
            joined = false;
            match token {
                TokenTree::Ident(ident) => {
                    line = ident.span().start().line;
                    path.push(ident.to_string());
                }
                TokenTree::Group(group) => {
                    let path = std::mem::take(&mut path);
                    if list && group.delimiter() == Delimiter::Brace {
                        self.tokens(group.stream(), &path);
                    } else {
                        self.add_long(line, &path);
                        self.tokens(group.stream(), &[]);
                    }
                }
                TokenTree::Punct(punct) => {
                    self.add_long(line, &std::mem::take(&mut path));
                    if punct.as_char() == ',' && !before.is_empty() {
                        (path, joined) = (before.to_vec(), true);
                    }
                }
                // A path may stand in a string, as in `#[serde(with = "a::b")]`.
                TokenTree::Literal(literal) => {
                    self.add_long(line, &std::mem::take(&mut path));
                    let text = literal.to_string();
                    let text = text.trim_matches('"');
                    let starts = ["crate::", "self::", "super::"];
                    if starts.iter().any(|start| text.starts_with(start)) {
                        let names: Vec<String> = text.split("::").map(str::to_string).collect();
                        self.add_long(literal.span().start().line, &names);
                    }
                }
            }
        }
        self.add_long(line, &path);
    }

    /// A single name brings nothing in: where it was imported, that counts.
    fn add_long(&mut self, line: usize, written: &[String]) {
        if written.len() > 1 {
            self.add(line, written);
        }
    }
}

impl<'a> Visit<'a> for References<'_> {
    fn visit_item(&mut self, item: &'a syn::Item) {
        if !for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        if !for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        for leaf in leaves(item) {
            self.add(leaf.line, &leaf.path);
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        if path.leading_colon.is_none() {
            let names = path.segments.iter().map(|s| &s.ident);
            let written: Vec<String> = names.clone().map(ToString::to_string).collect();
            let line = names.map(|name| name.span().start().line).next();
            self.add_long(line.unwrap_or(0), &written);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        self.tokens(call.tokens.clone(), &[]);
        visit::visit_macro(self, call);
    }

    /// Of attributes, comments use nothing.
    fn visit_attribute(&mut self, attribute: &'a syn::Attribute) {
        let tokens = match &attribute.meta {
            syn::Meta::List(list) => list.tokens.clone(),
            _ => return,
        };
        self.tokens(tokens, &[]);
    }

    /// Nor does `pub(in ...)`.
    fn visit_vis_restricted(&mut self, _: &'a syn::VisRestricted) {}
}
