//! Genes by name: the vocabulary of a model, and which columns of a file are in it.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, Read};
use std::sync::Arc;

/// The longest name of a gene, in bytes.
const LONGEST_NAME: u64 = 200;
/// Genes of each side that an error names.
const EXAMPLES: usize = 3;
/// First letters that names have in common, at least, where one is offered for the other.
const LETTERS_ALIKE: usize = 3;
/// Assemblies that Cell Ranger and others write before a symbol, with an underscore or more.
const ASSEMBLIES: [&str; 9] = [
    "hg18", "hg19", "hg38", "GRCh37", "GRCh38", "mm9", "mm10", "GRCm38", "GRCm39",
];

/// Why genes have no ids.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenesError {
    /// The vocabulary could not be read.
    #[error("line {line}: {source}")]
    Io {
        /// The line that was being read, from 1.
        line: u64,
        /// What the system says.
        source: io::Error,
    },
    /// A line of the vocabulary is no name.
    #[error("line {line}: {reason}")]
    Line {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Too few columns of the file are genes of the vocabulary.
    #[error(
        "only {matched} of the file's {columns} columns are among the {genes} genes of the \
         vocabulary, below the least share of {least_share}; the file has {}, the vocabulary {}",
        listed(.not_in_vocabulary), listed(.not_in_file)
    )]
    TooFew {
        /// Columns with an id.
        matched: usize,
        /// Columns of the file.
        columns: usize,
        /// Genes of the vocabulary, without special tokens.
        genes: usize,
        /// The share below which this is an error.
        least_share: f64,
        /// The first columns without an id, at most three.
        not_in_vocabulary: Vec<String>,
        /// The first genes of the vocabulary that are no column, at most three.
        not_in_file: Vec<String>,
    },
}

/// Examples for an error. Names come from a file: control characters are not printed.
fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none besides".to_string();
    }
    let printed = |name: &String| name.chars().take(40).flat_map(char::escape_debug).collect();
    names
        .iter()
        .map(printed)
        .collect::<Vec<String>>()
        .join(", ")
}

/// The genes of a model. A gene's id is the number of its line, from 0.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    names: Vec<Arc<str>>,
    ids: HashMap<Arc<str>, u32>,
    /// Entries that are Ensembl ids, without their versions.
    ensembl: HashMap<Box<str>, u32>,
    specials: usize,
}

impl Vocabulary {
    /// Reads names, one a line; a carriage return before the line's end is no part of one.
    ///
    /// # Errors
    /// Where it cannot be read; where a line is empty, longer than 200 bytes or no UTF-8; where
    /// a name stands twice; where there is none.
    pub fn read(mut lines: impl BufRead) -> Result<Vocabulary, GenesError> {
        let mut vocabulary = Vocabulary {
            names: vec![],
            ids: HashMap::new(),
            ensembl: HashMap::new(),
            specials: 0,
        };
        let mut bytes = vec![];
        loop {
            let line = vocabulary.names.len() as u64 + 1;
            bytes.clear();
            let mut limited = lines.by_ref().take(LONGEST_NAME + 2);
            let count = limited
                .read_until(b'\n', &mut bytes)
                .map_err(|source| GenesError::Io { line, source })?;
            if count == 0 {
                break;
            }
            let name = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let name = name.strip_suffix(b"\r").unwrap_or(name);
            let wrong = |reason: String| GenesError::Line { line, reason };
            if name.len() as u64 > LONGEST_NAME {
                return Err(wrong(format!("a name is longer than {LONGEST_NAME} bytes")));
            }
            let name = std::str::from_utf8(name).map_err(|e| wrong(e.to_string()))?;
            vocabulary.push(name).map_err(wrong)?;
        }
        if vocabulary.names.is_empty() {
            let reason = "the vocabulary is empty".to_string();
            return Err(GenesError::Line { line: 1, reason });
        }
        Ok(vocabulary)
    }

    fn push(&mut self, name: &str) -> Result<(), String> {
        if name.is_empty() {
            return Err("a name is empty".to_string());
        }
        let id = u32::try_from(self.names.len()).map_err(|e| e.to_string())?;
        let shared: Arc<str> = name.into();
        if let Some(first) = self.ids.insert(Arc::clone(&shared), id) {
            let first = u64::from(first) + 1;
            return Err(format!("{name:?} stands on line {first}, too"));
        }
        if let Some(stable) = ensembl(name) {
            self.ensembl.entry(stable.into()).or_insert(id);
        }
        self.specials += usize::from(is_special(name));
        self.names.push(shared);
        Ok(())
    }

    /// Entries, special tokens among them.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no entry; never so.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The id of a name as it is spelled in the vocabulary.
    pub fn id(&self, name: &str) -> Option<u32> {
        self.ids.get(name).copied()
    }

    /// The name of an id.
    pub fn name(&self, id: u32) -> Option<&str> {
        self.names.get(id as usize).map(|name| &**name)
    }

    /// The id of `<pad>`.
    pub fn pad(&self) -> Option<u32> {
        self.id("<pad>")
    }

    /// The id of `<cls>`.
    pub fn cls(&self) -> Option<u32> {
        self.id("<cls>")
    }

    /// The id of `<eoc>`.
    pub fn eoc(&self) -> Option<u32> {
        self.id("<eoc>")
    }

    /// The id of a gene; a special token is none.
    fn gene(&self, symbol: &str) -> Option<u32> {
        self.id(symbol).filter(|_| !is_special(symbol))
    }

    fn stable(&self, name: &str) -> Option<u32> {
        self.ensembl.get(ensembl(name)?).copied()
    }

    /// The id of a gene that somebody names: by the rules of [`Matching::new`].
    pub fn find(&self, name: &str) -> Option<u32> {
        Some(self.lookup(name, None)?.0)
    }

    /// Genes whose names begin as this one does, at most three, those with most letters in common
    /// first: for whoever misspelled it.
    pub fn alike(&self, name: &str) -> Vec<&str> {
        let name = name.to_uppercase();
        let common = |own: &str| {
            let own = own.to_uppercase();
            own.chars()
                .zip(name.chars())
                .take_while(|(a, b)| a == b)
                .count()
        };
        let names = self.names.iter().map(|own| (common(own), &**own));
        let mut alike: Vec<(usize, &str)> = names
            .filter(|(letters, own)| *letters >= LETTERS_ALIKE && !is_special(own))
            .collect();
        alike.sort_by_key(|(letters, _)| std::cmp::Reverse(*letters));
        alike
            .into_iter()
            .take(EXAMPLES)
            .map(|(_, own)| own)
            .collect()
    }

    /// What a column is, and by which rule.
    fn lookup(&self, symbol: &str, id: Option<&str>) -> Option<(u32, Rule)> {
        // An index of Ensembl ids stands where symbols are asked for, in many files.
        let stable = |symbol| {
            let id = id.and_then(|id| self.stable(id).or_else(|| self.stable(unprefixed(id)?)));
            id.or_else(|| self.stable(symbol))
        };
        if let Some(id) = self.gene(symbol) {
            return Some((id, Rule::Symbol));
        }
        if let Some(id) = stable(symbol) {
            return Some((id, Rule::Ensembl));
        }
        // A mouse gene beside human ones, `mm10_Cd3d`, must not become a human one: a symbol with
        // a prefix is not looked up in upper case.
        if let Some(symbol) = unprefixed(symbol) {
            let id = self.gene(symbol).or_else(|| self.stable(symbol))?;
            return Some((id, Rule::Prefix));
        }
        let upper = symbol.to_uppercase();
        Some((self.gene(&upper)?, Rule::UpperCase))
    }
}

/// Tokens such as `<pad>` are no genes.
fn is_special(name: &str) -> bool {
    name.starts_with('<') && name.ends_with('>')
}

/// An Ensembl gene id without its version, `ENSG00000141510` of `ENSG00000141510.18`.
fn ensembl(name: &str) -> Option<&str> {
    let stable = name.split('.').next()?;
    let digits = stable.trim_start_matches(|c: char| c.is_ascii_uppercase());
    let number = digits.len() == 11 && digits.bytes().all(|c| c.is_ascii_digit());
    (number && stable.starts_with("ENS")).then_some(stable)
}

/// A symbol without the assembly before it.
fn unprefixed(symbol: &str) -> Option<&str> {
    let (assembly, rest) = symbol.split_once('_')?;
    let rest = rest.trim_start_matches('_');
    (ASSEMBLIES.contains(&assembly) && !rest.is_empty()).then_some(rest)
}

enum Rule {
    Symbol,
    Ensembl,
    Prefix,
    UpperCase,
}

/// A gene that several columns of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Its id.
    pub id: u32,
    /// Its name in the vocabulary.
    pub name: String,
    /// The columns, ascending.
    pub columns: Vec<usize>,
}

/// Which columns of a file are genes of a vocabulary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matching {
    /// For each column the id of its gene.
    pub ids: Vec<Option<u32>>,
    /// The ids that some column has, ascending, each once.
    pub genes: Vec<u32>,
    /// Columns that are no genes, such as antibodies.
    pub others: usize,
    /// For each column whether it is a gene's; empty where all are.
    pub of_genes: Vec<bool>,
    /// The ids of proteins among the columns, ascending, each once: only where a model reads these.
    pub proteins: Vec<u32>,
    /// For each column whether its values are read: genes' and known proteins'; empty for all.
    pub kept: Vec<bool>,
    /// Columns of genes with an id; the four below add up to it.
    pub matched: usize,
    /// Columns whose symbol is a name of the vocabulary.
    pub by_symbol: usize,
    /// Columns matched by Ensembl id, versions left aside.
    pub by_ensembl: usize,
    /// Columns matched without an assembly before the symbol, such as `hg19_`.
    pub by_prefix: usize,
    /// Columns matched in upper case.
    pub by_upper_case: usize,
    /// Genes with several columns, by id. Their counts are added up.
    pub duplicates: Vec<Duplicate>,
}

impl Matching {
    /// Matches columns, each of a symbol and, where the file has one, an Ensembl id; `None` is a
    /// column of something else, which no name makes a gene. The first rule that finds a gene is
    /// used: the symbol as it is, case and all; the Ensembl id, or a symbol that is one, where the
    /// vocabulary has such; the symbol without a prefix such as `hg19_`; the symbol in upper case.
    ///
    /// # Errors
    /// Where matched columns are less than `least_share` of those of genes, and matched genes less
    /// than `least_share` of the vocabulary's.
    pub fn new<'a>(
        vocabulary: &Vocabulary,
        genes: impl IntoIterator<Item = Option<(&'a str, Option<&'a str>)>>,
        least_share: f64,
    ) -> Result<Matching, GenesError> {
        let mut matching = Matching::default();
        let mut columns_of = vec![0_u32; vocabulary.len()];
        let mut strange = vec![];
        for gene in genes {
            matching.of_genes.push(gene.is_some());
            let Some((symbol, id)) = gene else {
                matching.others += 1;
                matching.ids.push(None);
                continue;
            };
            let found = vocabulary.lookup(symbol, id);
            if let Some((id, rule)) = &found {
                columns_of[*id as usize] += 1;
                match rule {
                    Rule::Symbol => matching.by_symbol += 1,
                    Rule::Ensembl => matching.by_ensembl += 1,
                    Rule::Prefix => matching.by_prefix += 1,
                    Rule::UpperCase => matching.by_upper_case += 1,
                }
                matching.matched += 1;
            } else if strange.len() < EXAMPLES {
                strange.push(symbol.to_string());
            }
            matching.ids.push(found.map(|(id, _)| id));
        }
        let ids = || (0_u32..).zip(&columns_of);
        matching.genes = ids().filter(|(_, n)| **n > 0).map(|(id, _)| id).collect();
        matching.duplicates = duplicates(vocabulary, &matching.ids, &columns_of);
        if matching.others == 0 {
            matching.of_genes.clear();
        }
        matching.kept.clone_from(&matching.of_genes);

        let known = vocabulary.len() - vocabulary.specials;
        let share = |part: usize, whole: usize| part as f64 / (whole.max(1)) as f64;
        let columns = matching.ids.len() - matching.others;
        let of_columns = share(matching.matched, columns);
        let of_genes = share(matching.genes.len(), known);
        if of_columns.max(of_genes) < least_share {
            let absent = ids().filter(|(_, columns)| **columns == 0);
            let absent = absent.filter_map(|(id, _)| vocabulary.name(id));
            let absent = absent.filter(|name| !is_special(name)).take(EXAMPLES);
            return Err(GenesError::TooFew {
                matched: matching.matched,
                columns,
                genes: known,
                least_share,
                not_in_vocabulary: strange,
                not_in_file: absent.map(str::to_string).collect(),
            });
        }
        Ok(matching)
    }

    /// Takes columns that are no genes for proteins: `names` has the name of each column's, where
    /// it has one.
    pub fn add_proteins<'a>(
        &mut self,
        vocabulary: &Vocabulary,
        names: impl IntoIterator<Item = Option<&'a str>>,
        prefix: &str,
    ) {
        for (column, name) in names.into_iter().enumerate() {
            let is_gene = self.of_genes.get(column).is_none_or(|gene| *gene);
            let id = name.and_then(|name| vocabulary.id(&format!("{prefix}{name}")));
            if let (false, Some(id)) = (is_gene, id) {
                self.ids[column] = Some(id);
                self.kept[column] = true;
                self.others -= 1;
                self.proteins.push(id);
                self.genes.push(id);
            }
        }
        for ids in [&mut self.proteins, &mut self.genes] {
            ids.sort_unstable();
            ids.dedup();
        }
    }

    /// Whether an id is one of its proteins.
    pub fn is_protein(&self, id: u32) -> bool {
        self.proteins.binary_search(&id).is_ok()
    }
}

fn duplicates(vocabulary: &Vocabulary, ids: &[Option<u32>], columns_of: &[u32]) -> Vec<Duplicate> {
    let mut columns: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (column, id) in ids.iter().enumerate() {
        if let Some(id) = id.filter(|id| columns_of[*id as usize] > 1) {
            columns.entry(id).or_default().push(column);
        }
    }
    let named = columns.into_iter().map(|(id, columns)| Duplicate {
        id,
        name: vocabulary.name(id).unwrap_or_default().to_string(),
        columns,
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAMES: &str = "CD3D\nMS4A1\r\nNKG7\nENSG00000141510.18\n<pad>\n<cls>\n<eoc>\nC1orf112\n";

    fn vocabulary() -> Vocabulary {
        Vocabulary::read(NAMES.as_bytes()).unwrap()
    }

    fn matched(genes: &[(&str, Option<&str>)]) -> Matching {
        let genes = genes.iter().copied().map(Some);
        Matching::new(&vocabulary(), genes, 0.0).unwrap()
    }

    #[test]
    fn ids_are_lines() {
        let vocabulary = vocabulary();
        assert_eq!(vocabulary.len(), 8);
        assert_eq!(vocabulary.id("MS4A1"), Some(1));
        assert_eq!(vocabulary.name(1), Some("MS4A1"));
        assert_eq!(vocabulary.name(8), None);
        let specials = [vocabulary.pad(), vocabulary.cls(), vocabulary.eoc()];
        assert_eq!(specials, [Some(4), Some(5), Some(6)]);
        assert_eq!(vocabulary.find("cd3d"), Some(0));
        assert_eq!(vocabulary.find("ENSG00000141510"), Some(3));
        assert_eq!(vocabulary.find("<cls>"), None);
        assert_eq!(vocabulary.alike("ms4a7"), ["MS4A1"]);
        let without = Vocabulary::read(&b"CD3D"[..]).unwrap();
        assert_eq!((without.len(), without.cls()), (1, None));
    }

    #[test]
    fn a_bad_vocabulary_names_its_line() {
        let said = |bytes: &[u8]| Vocabulary::read(bytes).unwrap_err().to_string();
        assert_eq!(said(b""), "line 1: the vocabulary is empty");
        assert_eq!(said(b"A\n\nB\n"), "line 2: a name is empty");
        assert_eq!(said(b"A\nB\nA\n"), "line 3: \"A\" stands on line 1, too");
        assert!(said(b"A\n\xff\n").starts_with("line 2: invalid utf-8"));
        let long = [b"A\n".to_vec(), vec![b'x'; 100_000]].concat();
        assert_eq!(said(&long), "line 2: a name is longer than 200 bytes");
        let whole = [vec![b'x'; 200], b"\r\nB\n".to_vec()].concat();
        assert_eq!(Vocabulary::read(&whole[..]).unwrap().len(), 2);
    }

    #[test]
    fn the_first_rule_that_finds_a_gene_is_used() {
        let matching = matched(&[
            ("CD3D", Some("ENSG00000141510")),
            ("TP53", Some("ENSG00000141510.3")),
            ("ENSG00000141510", None),
            ("hg19_NKG7", None),
            ("GRCh38___MS4A1", Some("GRCh38_ENSG00000000001")),
            ("Nkg7", None),
            ("mm10_Cd3d", None),
            ("<pad>", None),
            ("C1orf112", None),
            ("", None),
            ("hg19_", None),
        ]);
        let ids = [0, 3, 3, 2, 1, 2].map(Some);
        assert_eq!(matching.ids[..6], ids);
        assert_eq!(matching.ids[6..], [None, None, Some(7), None, None]);
        assert_eq!(matching.matched, 7);
        assert_eq!((matching.by_symbol, matching.by_ensembl), (2, 2));
        assert_eq!((matching.by_prefix, matching.by_upper_case), (2, 1));
        assert_eq!(matching.genes, [0, 1, 2, 3, 7]);
        let named: Vec<(&str, &[usize])> = matching
            .duplicates
            .iter()
            .map(|duplicate| (&*duplicate.name, &duplicate.columns[..]))
            .collect();
        let expected: [(&str, &[usize]); 2] = [("NKG7", &[3, 5]), ("ENSG00000141510.18", &[1, 2])];
        assert_eq!(named, expected);
    }

    #[test]
    fn too_few_genes_are_an_error_with_examples() {
        let genes = ["x\u{1b}[2J", "CD3D", "b", "c", "d"].map(|name| Some((name, None)));
        let error = Matching::new(&vocabulary(), genes, 0.5).unwrap_err();
        assert_eq!(
            error.to_string(),
            "only 1 of the file's 5 columns are among the 5 genes of the vocabulary, below the \
             least share of 0.5; the file has x\\u{1b}[2J, b, c, the vocabulary MS4A1, NKG7, \
             ENSG00000141510.18"
        );
        // Few columns, but all of the vocabulary; few genes, but all of the columns.
        let genes = ["CD3D", "NKG7", "b", "c", "d", "e"].map(|name| Some((name, None)));
        assert!(Matching::new(&vocabulary(), genes, 0.4).is_ok());
        assert!(Matching::new(&vocabulary(), [Some(("CD3D", None)), None], 1.0).is_ok());
        assert!(Matching::new(&vocabulary(), [], 0.1).is_err());
        assert!(Matching::new(&vocabulary(), [None], 0.1).is_err());
    }

    proptest! {
        #[test]
        fn the_order_of_columns_changes_nothing(
            columns in Just(vec!["CD3D", "x", "nkg7", "NKG7", "hg38_CD3D", "<cls>"]).prop_shuffle()
        ) {
            let matching = matched(&columns.iter().map(|name| (*name, None)).collect::<Vec<_>>());
            for (name, id) in columns.iter().zip(&matching.ids) {
                prop_assert_eq!(*id, matched(&[(name, None)]).ids[0]);
            }
            prop_assert_eq!(matching.genes, [0, 2]);
            prop_assert_eq!(matching.duplicates.len(), 2);
        }
    }
}
