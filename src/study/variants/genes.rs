//! Genes of an annotation: their strands, their transcripts, and where exons end.

use super::error::StudyError;
use crate::call::Strand;
use crate::reads::lines::Lines;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// A gene.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gene {
    /// Its symbol, or else its identifier.
    pub symbol: String,
    /// Its strand.
    pub strand: Strand,
    /// First base, 0-based.
    pub start: u64,
    /// One past its last base.
    pub end: u64,
    /// First and last base of every exon of every transcript, ascending.
    pub edges: Vec<u64>,
    /// Its transcripts, by name.
    pub transcripts: Vec<Transcript>,
}

/// A transcript of a gene.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// Its identifier; that of the gene where exons name none.
    pub name: String,
    /// Its exons, ascending.
    pub exons: Vec<Range<u64>>,
}

impl Gene {
    /// True where an exon begins or ends with this base.
    pub fn is_edge(&self, position: u64) -> bool {
        self.edges.binary_search(&position).is_ok()
    }

    /// Splice sites of its transcripts: the last bases of exons (donors) and the first ones
    /// (acceptors) at introns, on the gene's strand, each ascending.
    pub fn sites(&self) -> [Vec<u64>; 2] {
        let introns = self.transcripts.iter().flat_map(|transcript| {
            let pairs = transcript.exons.windows(2);
            pairs.map(|pair| [pair[0].end - 1, pair[1].start])
        });
        let (before, behind): (Vec<u64>, Vec<u64>) = introns.map(|[a, b]| (a, b)).unzip();
        let sites = match self.strand {
            Strand::Forward => [before, behind],
            Strand::Reverse => [behind, before],
        };
        sites.map(|mut sites| {
            sites.sort_unstable();
            sites.dedup();
            sites
        })
    }
}

/// The genes of a GFF3 or GTF file, by contig.
#[derive(Debug, Default)]
pub struct Genes {
    contigs: HashMap<String, Contig>,
}

#[derive(Debug, Default)]
struct Contig {
    /// By start.
    genes: Vec<Arc<Gene>>,
    /// The longest of them.
    longest: u64,
}

/// A line of nine columns.
struct Feature<'a> {
    contig: &'a str,
    kind: &'a str,
    start: u64,
    end: u64,
    strand: Option<Strand>,
    attributes: &'a str,
}

/// A gene on its way.
#[derive(Default)]
struct Draft {
    contig: String,
    symbol: Option<String>,
    strand: Option<Strand>,
    span: Option<(u64, u64)>,
    /// Exons by transcript.
    transcripts: BTreeMap<String, Vec<Range<u64>>>,
}

impl Genes {
    /// Reads GFF3 or GTF. Of GTF the attributes `gene_id` and `gene_name` count, of GFF3 `ID`,
    /// `Parent`, `Name` and `gene_name`; features `gene` (and those whose kind ends in `gene`, such
    /// as `pseudogene`) and `exon`.
    ///
    /// # Errors
    /// Where it cannot be read, or a line is no feature: with its number.
    pub fn read(lines: &mut Lines) -> Result<Genes, StudyError> {
        let name = lines.file().to_string();
        let mut drafts: BTreeMap<String, Draft> = BTreeMap::new();
        // Transcripts of GFF3 stand between a gene and its exons.
        let mut parents: HashMap<String, String> = HashMap::new();
        let mut exons: Vec<(String, u64, u64)> = vec![];
        let mut line = vec![];
        while let Some(place) = lines.next(&mut line)? {
            if line.starts_with(b"##FASTA") {
                break;
            }
            let wrong = |reason: String| {
                let reason = format!("line {}, byte {}: {reason}", place.number, place.offset);
                StudyError::input(&name, reason)
            };
            let text = std::str::from_utf8(&line).map_err(|error| wrong(error.to_string()))?;
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            let feature = feature(text).map_err(wrong)?;
            let is_gene = feature.kind.ends_with("gene");
            let gene_id = attribute(feature.attributes, "gene_id");
            if let Some(id) = gene_id.filter(|_| !is_gff3(feature.attributes)) {
                let draft = drafts
                    .entry(format!("{}\t{id}", feature.contig))
                    .or_default();
                draft.take(&feature, &id, is_gene);
                continue;
            }
            let id = attribute(feature.attributes, "ID");
            let parent = attribute(feature.attributes, "Parent");
            match (is_gene, feature.kind == "exon", id, parent) {
                (true, _, Some(id), _) => {
                    let draft = drafts.entry(id.clone()).or_default();
                    draft.take(&feature, &id, true);
                }
                (_, true, _, Some(parent)) => {
                    for parent in parent.split(',') {
                        exons.push((parent.to_string(), feature.start, feature.end));
                    }
                }
                (_, _, Some(id), Some(parent)) => {
                    parents.insert(id, parent);
                }
                _ => (),
            }
        }
        for (parent, start, end) in exons {
            let gene = parents.get(&parent).unwrap_or(&parent);
            if let Some(draft) = drafts.get_mut(gene) {
                draft
                    .transcripts
                    .entry(parent)
                    .or_default()
                    .push(start..end);
            }
        }
        let mut genes = Genes::default();
        for draft in drafts.into_values() {
            genes.add(draft);
        }
        for contig in genes.contigs.values_mut() {
            contig
                .genes
                .sort_by(|a, b| (a.start, a.end, &a.symbol).cmp(&(b.start, b.end, &b.symbol)));
        }
        Ok(genes)
    }

    fn add(&mut self, draft: Draft) {
        let (Some((start, end)), Some(strand)) = (draft.span, draft.strand) else {
            return;
        };
        let exons = draft.transcripts.values().flatten();
        let mut edges: Vec<u64> = exons.flat_map(|exon| [exon.start, exon.end - 1]).collect();
        edges.sort_unstable();
        edges.dedup();
        let transcripts = draft.transcripts.into_iter().map(|(name, mut exons)| {
            exons.sort_unstable_by_key(|exon| (exon.start, exon.end));
            Transcript { name, exons }
        });
        let contig = self.contigs.entry(key(&draft.contig).into()).or_default();
        contig.longest = contig.longest.max(end - start);
        contig.genes.push(Arc::new(Gene {
            symbol: draft.symbol.unwrap_or_default(),
            strand,
            start,
            end,
            edges,
            transcripts: transcripts.collect(),
        }));
    }

    /// The genes of this symbol.
    pub fn named(&self, symbol: &str) -> usize {
        let genes = self.contigs.values().flat_map(|contig| &contig.genes);
        genes.filter(|gene| gene.symbol == symbol).count()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.contigs.values().map(|contig| contig.genes.len()).sum()
    }

    /// The genes that some bases lie in, or one of them, by start.
    pub fn at<'a>(
        &'a self,
        contig: &str,
        bases: Range<u64>,
    ) -> impl Iterator<Item = &'a Arc<Gene>> {
        let contig = self.contigs.get(key(contig));
        let genes = contig.map_or(&[][..], |contig| {
            let first = bases.start.saturating_sub(contig.longest);
            let from = contig.genes.partition_point(|gene| gene.start < first);
            let to = contig.genes.partition_point(|gene| gene.start < bases.end);
            &contig.genes[from.min(to)..to]
        });
        genes.iter().filter(move |gene| gene.end > bases.start)
    }
}

impl Draft {
    fn take(&mut self, feature: &Feature<'_>, id: &str, is_gene: bool) {
        if self.contig.is_empty() {
            self.contig = feature.contig.to_string();
        }
        self.strand = self.strand.or(feature.strand);
        let span = self.span.get_or_insert((feature.start, feature.end));
        *span = (span.0.min(feature.start), span.1.max(feature.end));
        if feature.kind == "exon" {
            let transcript = attribute(feature.attributes, "transcript_id");
            let exons = self.transcripts.entry(transcript.unwrap_or(id.to_string()));
            exons.or_default().push(feature.start..feature.end);
        }
        let named = ["gene_name", "Name", "gene"]
            .into_iter()
            .find_map(|name| attribute(feature.attributes, name));
        match named {
            Some(symbol) if is_gene || self.symbol.is_none() => self.symbol = Some(symbol),
            None if self.symbol.is_none() => self.symbol = Some(id.to_string()),
            _ => (),
        }
    }
}

/// What files name a contig alike: `chr1` and `1`, `chrM` and `MT`.
pub fn key(contig: &str) -> &str {
    let short = match contig.get(..3) {
        Some(prefix) if prefix.eq_ignore_ascii_case("chr") => &contig[3..],
        _ => contig,
    };
    if short == "MT" { "M" } else { short }
}

/// Attributes of GFF3 are `key=value`, those of GTF `key "value"`.
fn is_gff3(attributes: &str) -> bool {
    let first = pairs(attributes).next().unwrap_or("");
    first.contains('=') && !first.contains('"')
}

/// The value of an attribute, without quotes; of GFF3 with its percent-encoding undone.
fn attribute(attributes: &str, name: &str) -> Option<String> {
    let value = pairs(attributes).find_map(|pair| {
        let value = pair.trim().strip_prefix(name)?;
        value.strip_prefix(['=', ' '])
    })?;
    let value = value.trim();
    let decoded = match value.strip_prefix('"') {
        Some(quoted) => quoted.trim_end_matches('"').to_string(),
        None => decoded(value),
    };
    (!decoded.is_empty()).then_some(decoded)
}

/// Attributes by their semicolons, but for those in quotes.
fn pairs(attributes: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    attributes.split(move |letter| {
        quoted ^= letter == '"';
        letter == ';' && !quoted
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let code = others.get(..2).filter(|_| *first == b'%');
        let code = code.and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn feature(line: &str) -> Result<Feature<'_>, String> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [contig, _, kind, start, end, _, strand, _, attributes] = columns[..] else {
        return Err(format!("{} columns instead of 9", columns.len()));
    };
    let number = |text: &str| {
        let parsed = text.parse::<u64>();
        parsed.map_err(|_| format!("{text:?} is no position"))
    };
    let (start, end) = (number(start)?, number(end)?);
    if start == 0 || end < start {
        return Err(format!("from {start} to {end}"));
    }
    Ok(Feature {
        contig,
        kind,
        start: start - 1,
        end,
        strand: match strand {
            "+" => Some(Strand::Forward),
            "-" => Some(Strand::Reverse),
            _ => None,
        },
        attributes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reads::source::Input;
    use std::io::Cursor;

    const GFF3: &str = "##gff-version 3\n\
        chr1\tx\tgene\t11\t100\t.\t-\t.\tID=g1;Name=ABC1;biotype=p\n\
        chr1\tx\tmRNA\t11\t100\t.\t-\t.\tID=t1;Parent=g1\n\
        chr1\tx\texon\t11\t20\t.\t-\t.\tParent=t1\n\
        chr1\tx\texon\t61\t100\t.\t-\t.\tParent=t1\n\
        chr1\tx\tgene\t50\t60\t.\t+\t.\tID=g2\n";
    const GTF: &str = "#!genome\n\
        1\tx\tgene\t11\t100\t.\t-\t.\tgene_id \"g1\"; gene_name \"ABC1\";\n\
        1\tx\texon\t11\t20\t.\t-\t.\tgene_id \"g1\"; transcript_id \"t1\"; gene_name \"ABC1\";\n\
        1\tx\texon\t61\t100\t.\t-\t.\tgene_id \"g1\"; transcript_id \"t1\";\n\
        1\tx\texon\t50\t60\t.\t+\t.\tgene_id \"g2\"; transcript_id \"t2\";\n";

    fn read(name: &str, text: &str) -> Result<Genes, StudyError> {
        let reader = Box::new(Cursor::new(text.as_bytes().to_vec()));
        Genes::read(&mut Lines::open(Input::Reader(name.into(), reader)).unwrap())
    }

    #[test]
    fn both_formats_give_the_same_genes() {
        for text in [GFF3, GTF] {
            let genes = read("genes", text).unwrap();
            assert_eq!(
                (genes.count(), genes.named("ABC1"), genes.named("abc")),
                (2, 1, 0)
            );
            for contig in ["chr1", "1", "Chr1"] {
                let at = |position| {
                    let bases = position..position + 1;
                    genes.at(contig, bases).collect::<Vec<_>>()
                };
                assert!(at(9).is_empty() && at(100).is_empty());
                assert_eq!(at(10).len(), 1);
                assert_eq!(at(99)[0].symbol, "ABC1");
                assert_eq!(at(55).len(), 2);
                assert_eq!(at(55)[1].symbol, "g2");
                let gene = &at(10)[0];
                assert_eq!(gene.strand, Strand::Reverse);
                assert_eq!(gene.edges, [10, 19, 60, 99]);
                assert!(gene.is_edge(60) && !gene.is_edge(59));
                assert_eq!(gene.transcripts[0].name, "t1");
                assert_eq!(gene.transcripts[0].exons, [10..20, 60..100]);
                // Read backwards, the intron begins at base 60.
                assert_eq!(gene.sites(), [vec![60], vec![19]]);
            }
            assert_eq!(genes.at("chr2", 10..11).count(), 0);
            assert_eq!(genes.at("1", 0..11).count(), 1);
            assert_eq!(genes.at("1", 0..10).count(), 0);
        }
    }

    #[test]
    fn names_may_hold_what_separates_attributes() {
        let gff3 = "c\tx\tgene\t1\t9\t.\t+\t.\tID=g;Name=A%2CB%\n\
            c\tx\texon\t2\t3\t.\t+\t.\tParent=h,g\n";
        let gtf = "c\tx\tgene\t1\t9\t.\t+\t.\tgene_id \"g\"; gene_name \"A;B=C\";\n";
        for (text, symbol, edges) in [(gff3, "A,B%", vec![1, 2]), (gtf, "A;B=C", vec![])] {
            let genes = read("genes", text).unwrap();
            let gene = genes.at("c", 0..1).next().unwrap();
            assert_eq!((gene.symbol.as_str(), &gene.edges), (symbol, &edges));
        }
    }

    #[test]
    fn lines_that_are_no_features_are_named() {
        for (line, reason) in [
            ("chr1\tx\tgene", "3 columns"),
            ("c\tx\tgene\t0\t5\t.\t+\t.\tID=a", "from 0"),
            ("c\tx\tgene\t9\t5\t.\t+\t.\tID=a", "from 9 to 5"),
            ("c\tx\tgene\tx\t5\t.\t+\t.\tID=a", "\"x\" is no position"),
        ] {
            let text = format!("#\n{line}\n");
            let error = read("g.gff", &text).unwrap_err().to_string();
            assert!(
                error.contains("g.gff: line 2, byte 2") && error.contains(reason),
                "{error}"
            );
        }
    }

    #[test]
    fn contigs_of_other_names_are_found() {
        assert_eq!(["chrM", "MT", "chrMT", "M"].map(key), ["M"; 4]);
        assert_eq!(["chrX", "X", "CHRX"].map(key), ["X"; 3]);
        assert_eq!(key("ch"), "ch");
    }
}
