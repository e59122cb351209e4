//! What a line of code or of prose must not hold.

use proc_macro2::{TokenStream, TokenTree};

/// The widest line, in characters.
pub const WIDTH: usize = 100;

/// Numbers of the lines that are wider.
pub fn wide(text: &str) -> Vec<usize> {
    let numbered = text.lines().zip(1..);
    let wide = numbered.filter(|(line, _)| line.chars().count() > WIDTH);
    wide.map(|(_, number)| number).collect()
}

/// Lines on which a word of Rust stands in code, whatever comments and strings say.
pub fn of_word(tokens: TokenStream, word: &str) -> Vec<usize> {
    let mut lines = vec![];
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == word => lines.push(ident.span().start().line),
            TokenTree::Group(group) => lines.extend(of_word(group.stream(), word)),
            _ => (),
        }
    }
    lines
}

/// Lines of `match` arms for `true` or `false`, where `if` says the same.
pub fn boolean_arms(tokens: TokenStream) -> Vec<usize> {
    let (mut lines, mut literal, mut equals) = (vec![], None, false);
    for token in tokens {
        let arm = match &token {
            TokenTree::Ident(ident) => !equals && ident == "if",
            TokenTree::Punct(punct) => equals && punct.as_char() == '>',
            _ => false,
        };
        equals = !equals && matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '=');
        if equals {
            continue;
        }
        let before = literal.take();
        lines.extend(before.filter(|_| arm));
        match token {
            TokenTree::Ident(ident) if ident == "true" || ident == "false" => {
                literal = Some(ident.span().start().line);
            }
            TokenTree::Group(group) => lines.extend(boolean_arms(group.stream())),
            _ => (),
        }
    }
    lines
}

/// Words that stand for a term of the field, which is to be used instead.
const COINED: [&str; 4] = ["told", "hears", "heard", "bare"];

/// Words of ordinary English that are coined where they are a name or stand in a heading.
const COINED_NAMES: [&str; 2] = ["turned", "taken"];

/// The same for headings alone.
const COINED_HEADINGS: [&str; 1] = ["parts"];

/// Names in code of which a coined word is a part, with their lines.
pub fn coined_names(tokens: TokenStream) -> Vec<(usize, &'static str)> {
    let mut found = vec![];
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                let name = ident.to_string().to_lowercase();
                let words = COINED.into_iter().chain(COINED_NAMES);
                let coined = words.filter(|word| name.split('_').any(|own| own == *word));
                found.extend(coined.map(|word| (ident.span().start().line, word)));
            }
            TokenTree::Group(group) => found.extend(coined_names(group.stream())),
            _ => (),
        }
    }
    found
}

/// Coined words in a Markdown text outside of code, with their lines.
pub fn coined(text: &str) -> Vec<(usize, &'static str)> {
    let (mut found, mut code) = (vec![], false);
    for (line, number) in text.lines().zip(1..) {
        if line.trim_start().starts_with("```") {
            code = !code;
            continue;
        }
        if code {
            continue;
        }
        let prose: Vec<&str> = line.split('`').step_by(2).collect();
        let prose = prose.join(" ").to_lowercase();
        for word in prose.split(|c: char| !c.is_alphanumeric()) {
            let in_headings = COINED_NAMES.into_iter().chain(COINED_HEADINGS);
            let in_headings = in_headings.filter(|_| line.starts_with('#'));
            let coined = COINED.into_iter().chain(in_headings);
            let coined = coined.into_iter().find(|coined| *coined == word);
            found.extend(coined.map(|coined| (number, coined)));
        }
    }
    found
}

/// The public modules of a crate that its documentation leaves out.
pub fn hidden_modules(lib: &str) -> Vec<String> {
    let file = syn::parse_file(lib).expect("a file of Rust");
    let modules = file.items.into_iter().filter_map(|item| match item {
        syn::Item::Mod(item) => Some(item),
        _ => None,
    });
    let hidden = modules.filter(|item| {
        let mut lists = item
            .attrs
            .iter()
            .filter_map(|attribute| match &attribute.meta {
                syn::Meta::List(list) if list.path.is_ident("doc") => Some(list.tokens.to_string()),
                _ => None,
            });
        lists.any(|list| list == "hidden")
    });
    hidden.map(|item| item.ident.to_string()).collect()
}

/// The names of a crate's root that code uses, by whole paths or by `use` lists.
pub fn used_of(root: &str, text: &str) -> Vec<String> {
    fn walk(root: &str, tokens: TokenStream, used: &mut Vec<String>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_colon = |token: &TokenTree| token.to_string() == ":";
        for (at, token) in tokens.iter().enumerate() {
            if let TokenTree::Group(group) = token {
                walk(root, group.stream(), used);
            }
            let [TokenTree::Ident(first), a, b, next, ..] = &tokens[at..] else {
                continue;
            };
            if first != root || !is_colon(a) || !is_colon(b) {
                continue;
            }
            match next {
                TokenTree::Ident(name) => used.push(name.to_string()),
                TokenTree::Group(list) => {
                    let mut begins = true;
                    for token in list.stream() {
                        if let (TokenTree::Ident(name), true) = (&token, begins) {
                            used.push(name.to_string());
                        }
                        begins = token.to_string() == ",";
                    }
                }
                _ => (),
            }
        }
    }
    let mut used = vec![];
    walk(root, text.parse().expect("tokens of Rust"), &mut used);
    used
}
