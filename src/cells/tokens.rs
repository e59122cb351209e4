//! What a model reads of a cell: its vocabulary, and how it wants cells prepared.

use super::genes::{GenesError, Matching, Vocabulary};
use super::input::Gene;
use super::prepare::{Input, Preparation};
use crate::model::manifest::{Cells, Manifest};

/// From a cell to tokens, as a manifest has it.
#[derive(Debug)]
pub struct Tokens {
    vocabulary: Vocabulary,
    cells: Cells,
    cls: Option<u32>,
    other: Option<u32>,
    most: usize,
}

impl Tokens {
    /// Of a manifest and the names of its vocabulary.
    ///
    /// # Errors
    /// Where the model does not read cells, or a name is missing or stands twice.
    pub fn new(manifest: &Manifest, names: &[&str]) -> Result<Tokens, String> {
        let cells = manifest.cells.clone().ok_or("it reads no cells")?;
        let vocabulary = Vocabulary::read(names.join("\n").as_bytes());
        let vocabulary = vocabulary.map_err(|e| format!("{}: {e}", cells.genes))?;
        let special = |name: &Option<String>| match name {
            None => Ok(None),
            Some(name) => match vocabulary.id(name) {
                Some(id) => Ok(Some(id)),
                None => Err(format!("{name:?} is not among {}", cells.genes)),
            },
        };
        let (cls, other) = (special(&cells.cls)?, special(&cells.other)?);
        Ok(Tokens {
            vocabulary,
            cls,
            other,
            cells,
            most: manifest.tile,
        })
    }

    /// Its genes.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// How many genes it has, special tokens not among them.
    pub fn known(&self) -> usize {
        let ids = 0..self.vocabulary.len() as u32;
        let names = ids.filter_map(|id| self.vocabulary.name(id));
        names.filter(|name| !name.starts_with('<')).count()
    }

    /// How cells become tokens.
    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    /// The token before all genes.
    pub fn cls(&self) -> Option<u32> {
        self.cls
    }

    /// The token that stands for genes which it does not know.
    pub fn other(&self) -> Option<u32> {
        self.other
    }

    /// How cells are to be prepared, if they are `input`. Genes that are `always` tokens stay where
    /// a cell has more genes than tokens.
    pub fn preparation(&self, input: Input, seed: Option<u64>, always: &[u32]) -> Preparation {
        Preparation {
            input,
            normalise: self.cells.normalise,
            log1p: self.cells.log1p,
            bins: self.cells.bins,
            most_tokens: self.most,
            cls: self.cls.map(|id| (id, self.cells.cls_value)),
            keep_zeros: self.cells.zeros,
            always: always.to_vec(),
            seed,
        }
    }

    /// Which columns of a file it knows. Only columns of genes are asked: the antibody against a
    /// protein may have the name of its gene.
    ///
    /// # Errors
    /// Where these are too few.
    pub fn matching(&self, genes: &[Gene]) -> Result<Matching, GenesError> {
        let names = genes.iter().map(|gene| {
            let named = (gene.symbol.as_str(), gene.id.as_deref());
            is_gene(gene).then_some(named)
        });
        let matching = Matching::new(&self.vocabulary, names, self.cells.least_share);
        let mut matching = matching?;
        if let Some(prefix) = &self.cells.proteins {
            let names = genes
                .iter()
                .map(|gene| is_antibody(gene).then_some(&*gene.symbol));
            matching.add_proteins(&self.vocabulary, names, prefix);
        }
        Ok(matching)
    }

    /// True where names of cells are those of genes: rows and columns are taken for each other.
    pub(super) fn are_genes(&self, cells: &[String]) -> bool {
        let names = cells.iter().map(|name| Some((name.as_str(), None)));
        Matching::new(&self.vocabulary, names, self.cells.least_share).is_ok()
    }
}

/// What a modality is called whose columns are genes.
const EXPRESSION: [&str; 2] = ["gene expression", "gex"];

/// The same of antibodies, which show proteins.
const ANTIBODIES: [&str; 4] = ["antibody capture", "adt", "protein", "proteins"];

fn is_antibody(gene: &Gene) -> bool {
    let modality = gene.modality.as_deref();
    modality.is_some_and(|own| ANTIBODIES.contains(&&*own.to_lowercase()))
}

/// False where the file says that a column is something else.
fn is_gene(gene: &Gene) -> bool {
    let modality = gene.modality.as_deref();
    modality.is_none_or(|own| EXPRESSION.contains(&&*own.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_antibody_is_no_gene() {
        let of = |modality: Option<&str>| Gene {
            symbol: "CD4".into(),
            id: None,
            modality: modality.map(Into::into),
        };
        for expression in [None, Some("Gene Expression"), Some("GEX")] {
            assert!(is_gene(&of(expression)));
        }
        for other in ["Antibody Capture", "Custom", "Peaks"] {
            assert!(!is_gene(&of(Some(other))));
        }
        assert!(is_antibody(&of(Some("Antibody Capture"))) && is_antibody(&of(Some("ADT"))));
        assert!(!is_antibody(&of(None)) && !is_antibody(&of(Some("Peaks"))));
    }
}
