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
        };
        source.add(texts, "lib.rs".into(), vec![]);
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

    /// The paths within the crate that a file names, outside of code for tests.
    pub fn references(&self, file: &File) -> Vec<Reference> {
        let mut imports = Imports {
            module: file.module.clone(),
            found: HashMap::new(),
        };
        imports.visit_file(&file.syntax);
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
            if let Some(name) = leaf.name {
                self.found.insert((self.module.clone(), name), leaf.path);
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
    /// A path as it is written, from the root of the crate; `None` where it leads out of it.
    fn resolve(&self, written: &[String], depth: usize) -> Option<Vec<String>> {
        let first = written.first()?;
        let mut from = self.module.clone();
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
        let import = self.imports.get(&(from.clone(), first.clone()));
        if let Some(import) = import.filter(|i| depth < 8 && i.first() != Some(first)) {
            let import = self.resolve(import, depth + 1)?;
            return Some([&import, &written[1..]].concat());
        }
        from.push(first.clone());
        self.source.modules.contains_key(&from).then(|| {
            from.extend_from_slice(&written[1..]);
            from
        })
    }

    fn add(&mut self, line: usize, written: &[String]) {
        if let Some(path) = self.resolve(written, 0) {
            self.found.push(Reference { line, path });
        }
    }

    /// Paths among the tokens of a macro, which have no syntax yet.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        use proc_macro2::TokenTree;
        let (mut path, mut line, mut colons) = (vec![], 0, 0);
        for token in tokens {
            let joined = colons == 2;
            colons = match &token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons + 1,
                _ => 0,
            };
            if colons > 0 {
                continue;
            }
            if !joined {
                self.add_long(line, &std::mem::take(&mut path));
            }
            match token {
                TokenTree::Ident(ident) => {
                    line = ident.span().start().line;
                    path.push(ident.to_string());
                }
                token => {
                    self.add_long(line, &std::mem::take(&mut path));
                    if let TokenTree::Group(group) = token {
                        self.tokens(group.stream());
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
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    /// Neither attributes nor `pub(in ...)` use anything.
    fn visit_attribute(&mut self, _: &'a syn::Attribute) {}

    fn visit_vis_restricted(&mut self, _: &'a syn::VisRestricted) {}
}
