//! What a network reads of a cell: genes, values and flags.

use serde::{Deserialize, Serialize};
#[cfg(feature = "pack")]
use std::collections::HashMap;
use std::collections::HashSet;

/// Numbers of a token in a list of words, see [`join`].
pub const WORDS: usize = 3;

/// Tasks of models that read cells: what they say is a type, a vector, the response to a
/// perturbation, or a value a gene.
pub const TASKS: [&str; 4] = [
    "cell-type",
    "cell-embedding",
    "perturbation",
    "cell-expression",
];

/// How genes can be perturbed: knocked out, knocked down, over-expressed.
const PERTURBATIONS: [&str; 3] = ["ko", "kd", "oe"];

/// The task whose network reads flags.
pub const RESPONSE: &str = TASKS[2];

/// Most bins of a value.
const MOST_BINS: usize = 1 << 16;

/// How a cell becomes tokens, for a model whose tokeniser is `genes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cells {
    /// The file of the vocabulary beside the manifest, one name a line, from id 0 on. `pack` writes
    /// the names into the model file.
    pub genes: String,
    /// These names, for `pack`; a model file has them as a tensor.
    #[serde(skip)]
    pub names: Vec<String>,
    /// The name of the token that stands before all genes; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cls: Option<String>,
    /// Its value.
    #[serde(default)]
    pub cls_value: f32,
    /// The name of the token that stands for genes which are not in the vocabulary; absent where
    /// these are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
    /// Counts of a cell are scaled to this sum; absent where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalise: Option<f32>,
    /// Whether values are ln(1 + x) then.
    #[serde(default)]
    pub log1p: bool,
    /// Values are the numbers of so many bins, that of zero among them; absent where they are what
    /// they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bins: Option<usize>,
    /// What stands before the names of proteins in the vocabulary (`p_` in scGPT's tutorial),
    /// where columns of antibodies are tokens too; absent where they are left out. They have bins
    /// of their own, of values as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proteins: Option<String>,
    /// Whether genes without counts are tokens, too.
    #[serde(default)]
    pub zeros: bool,
    /// What flags above 0 mean, from 1 on: `ko`, `kd` or `oe`, that the gene is knocked out, down
    /// or over.
    #[serde(default = "knock_outs")]
    pub perturbations: Vec<String>,
    /// Genes that were perturbed in the training; absent where nobody says. What a model answers
    /// for others is not learned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// A type is called from this probability on.
    #[serde(default)]
    pub unknown: f32,
    /// Share of the file's genes, or of the vocabulary, that must be known.
    #[serde(default = "least_share")]
    pub least_share: f64,
}

fn knock_outs() -> Vec<String> {
    vec!["ko".to_string()]
}

fn least_share() -> f64 {
    0.1
}

impl Cells {
    /// The reason why this cannot be used, if there is one.
    pub(super) fn validate(&self) -> Result<(), String> {
        let share = |x: f32| (0.0..=1.0).contains(&x);
        if self
            .bins
            .is_some_and(|bins| !(2..=MOST_BINS).contains(&bins))
        {
            return Err(format!("cells: 2 to {MOST_BINS} bins"));
        }
        if !self.cls_value.is_finite()
            || self
                .normalise
                .is_some_and(|sum| !(sum.is_finite() && sum > 0.0))
        {
            return Err("cells: cls_value and normalise are finite, normalise above 0".into());
        }
        if self.proteins.as_ref().is_some_and(String::is_empty) {
            return Err("cells: proteins is what stands before their names".into());
        }
        if self.proteins.is_some() && self.bins.is_none() {
            return Err(
                "cells: proteins need bins, which genes and proteins have in common".into(),
            );
        }
        let known = |how: &String| PERTURBATIONS.contains(&how.as_str());
        let mut ways = self.perturbations.clone();
        ways.sort();
        ways.dedup();
        if ways.is_empty() || ways.len() < self.perturbations.len() || !ways.iter().all(known) {
            let all = PERTURBATIONS.join(", ");
            return Err(format!("cells: perturbations are some of {all}, each once"));
        }
        if !share(self.unknown) || !(0.0..=1.0).contains(&self.least_share) {
            return Err("cells: unknown and least_share are from 0 to 1".into());
        }
        Ok(())
    }

    /// The reason why these names cannot be its vocabulary, if there is one.
    #[cfg(feature = "pack")]
    pub(crate) fn check_names(&self) -> Result<(), String> {
        let file = &self.genes;
        let mut lines = HashMap::new();
        for (line, name) in (1..).zip(&self.names) {
            if name.is_empty() {
                return Err(format!("{file}: line {line}: a name is empty"));
            }
            if let Some(first) = lines.insert(name, line) {
                let reason = format!("{name:?} stands on line {first}, too");
                return Err(format!("{file}: line {line}: {reason}"));
            }
        }
        if let Some(name) = self.targets.iter().find(|name| !lines.contains_key(name)) {
            return Err(format!("cells: target {name:?} is not in {file}"));
        }
        for (key, name) in [("cls", &self.cls), ("other", &self.other)] {
            if let Some(name) = name
                && !lines.contains_key(name)
            {
                return Err(format!(
                    "cells: {key} is {name:?}, which {file} does not have"
                ));
            }
        }
        Ok(())
    }
}

/// What is said of a cell in place of a type: no type is called so.
pub const NO_TYPES: [&str; 3] = ["unknown", "rejected", "gone"];

/// The reason why outputs cannot be called so, if there is one: tables tell them apart by names.
pub(super) fn check_outputs<'a>(
    task: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), String> {
    let mut seen = HashSet::new();
    for name in names {
        if name.trim().is_empty() {
            return Err("outputs: a name is empty".to_string());
        }
        if !seen.insert(name) {
            return Err(format!("outputs: two are called {name:?}"));
        }
        if task == TASKS[0] && NO_TYPES.contains(&name) {
            let reason = "which says that a cell has no type: name it otherwise";
            return Err(format!("outputs: a type is called {name:?}, {reason}"));
        }
    }
    Ok(())
}

/// Whether the outputs of a network are those of its task: a vector a cell (`pooled`), or a row a
/// token, of so many columns.
///
/// # Errors
/// Where they are not.
pub fn fits(task: &str, pooled: bool, columns: usize) -> Result<(), String> {
    let [kind, embedding, response, expression] = TASKS;
    let (fits, wanted) = match task {
        task if task == kind || task == embedding => (pooled, "a vector"),
        task if task == response => (!pooled && columns == 2, "rows of 2"),
        task if task == expression => (!pooled && columns == 1, "rows of 1"),
        _ => return Ok(()),
    };
    if fits {
        return Ok(());
    }
    let form = if pooled { "a vector" } else { "rows" };
    Err(format!(
        "task {task} has {wanted} as output, and the network gives {form} of {columns}"
    ))
}

/// A cell as one list of numbers, as the compiler has its samples: of each token its id, the bits
/// of its value, and its flag. No flags stand for zeros.
pub fn join(ids: &[u32], values: &[f32], flags: &[u32]) -> Vec<u32> {
    let flags = flags.iter().copied().chain(std::iter::repeat(0));
    let tokens = ids.iter().zip(values).zip(flags);
    tokens
        .flat_map(|((id, value), flag)| [*id, value.to_bits(), flag])
        .collect()
}

/// Ids, values and flags of such a list.
pub fn split(words: &[u32]) -> (Vec<u32>, Vec<f32>, Vec<u32>) {
    let tokens = words.chunks_exact(WORDS);
    let mut all = (vec![], vec![], vec![]);
    for token in tokens {
        all.0.push(token[0]);
        all.1.push(f32::from_bits(token[1]));
        all.2.push(token[2]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_what_they_were_made_of() {
        let (ids, values, flags) = ([7, 60_696], [-2.0, 0.1], [0, 1]);
        let all = (ids.to_vec(), values.to_vec(), flags.to_vec());
        assert_eq!(split(&join(&ids, &values, &flags)), all);
        assert_eq!(split(&join(&ids, &values, &[])).2, [0, 0]);
    }
}
