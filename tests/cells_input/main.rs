//! Cells from files of every kind, and from the same files broken: an error or fewer cells, never
//! more, and never a panic.

mod archive;
mod broken;
mod h5;
mod npz;

use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use strandline::cells::error::CellsError;
use strandline::cells::input::{Block, Choice, Gene, open};
use tempfile::TempDir;

/// The matrix of these tests: its cells by name, with genes and values.
const CELLS: [(&str, &[u32], &[f32]); 5] = [
    ("AAAC-1", &[0, 2, 3], &[5.0, 1.0, 12.0]),
    ("AAAG-1", &[1], &[7.0]),
    ("AACC-1", &[], &[]),
    ("AAGT-1", &[0, 1, 2, 3], &[1.0, 2.0, 3.0, 4.0]),
    ("ACGT-1", &[3], &[250.0]),
];

const GENES: [(&str, &str, &str); 4] = [
    ("ENSG1", "CD3D", "Gene Expression"),
    ("ENSG2", "LYZ", "Gene Expression"),
    ("ENSG3", "MS4A1", "Gene Expression"),
    ("ADT1", "CD3", "Antibody Capture"),
];

type Cells = Vec<(String, Vec<u32>, Vec<f32>)>;

fn expected() -> Cells {
    let cells = CELLS.iter();
    cells
        .map(|&(name, genes, values)| (name.into(), genes.into(), values.into()))
        .collect()
}

/// All that a path gives, in blocks of at most `most` cells.
fn read(path: &Path, choice: &Choice, most: usize) -> Result<(Vec<Gene>, Cells), CellsError> {
    let mut source = open(path, choice)?;
    let (mut block, mut cells) = (Block::default(), vec![]);
    while source.next(&mut block, most)? {
        assert!(!block.is_empty() && block.len() <= most.max(1));
        for index in 0..block.len() {
            let (name, genes, values) = block.cell(index);
            assert!(genes.is_sorted_by(|a, b| a < b));
            assert!(
                genes
                    .iter()
                    .all(|&gene| (gene as usize) < source.genes().len())
            );
            cells.push((name.to_string(), genes.to_vec(), values.to_vec()));
        }
    }
    assert!(!source.next(&mut block, most)?);
    assert!(
        source
            .cells()
            .is_none_or(|count| count == cells.len() as u64)
    );
    Ok((source.genes().to_vec(), cells))
}

fn cells(path: &Path) -> Cells {
    let choice = Choice::default();
    let (_, whole) = read(path, &choice, 1000).unwrap();
    for most in [0, 1, 2, 3] {
        assert_eq!(
            read(path, &choice, most).unwrap().1,
            whole,
            "{most} at once"
        );
    }
    whole
}

fn error(path: &Path) -> String {
    let error = read(path, &Choice::default(), 2).unwrap_err();
    error.to_string()
}

fn saved(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

// 10x folders

/// `matrix.mtx`, sorted by cell.
fn matrix() -> String {
    let entries: usize = CELLS.iter().map(|cell| cell.1.len()).sum();
    let (genes, cells) = (GENES.len(), CELLS.len());
    let mut text = format!(
        "%%MatrixMarket matrix coordinate integer general\n%metadata_json: {{}}\n\
         {genes} {cells} {entries}\n"
    );
    for (at, (_, genes, values)) in CELLS.iter().enumerate() {
        for (gene, value) in genes.iter().zip(*values) {
            text += &format!("{} {} {value}\n", gene + 1, at + 1);
        }
    }
    text
}

/// The lines of values in another order.
fn reordered(matrix: &str, key: impl Fn(&str) -> (u32, u32)) -> String {
    let mut lines: Vec<&str> = matrix.lines().collect();
    lines[3..].sort_by_key(|line| key(line));
    lines.join("\n") + "\n"
}

fn features() -> String {
    GENES
        .map(|(id, symbol, modality)| format!("{id}\t{symbol}\t{modality}\n"))
        .concat()
}

fn barcodes() -> String {
    CELLS.map(|cell| format!("{}\n", cell.0)).concat()
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn plain_folder(matrix: &str) -> TempDir {
    folder(&[
        ("matrix.mtx", matrix.as_bytes()),
        ("features.tsv", features().as_bytes()),
        ("barcodes.tsv", barcodes().as_bytes()),
    ])
}

#[test]
fn a_10x_folder_gives_genes_and_cells() {
    let packed = folder(&[
        ("matrix.mtx.gz", &gzip(matrix().as_bytes())),
        ("features.tsv.gz", &gzip(features().as_bytes())),
        ("barcodes.tsv.gz", &gzip(barcodes().as_bytes())),
    ]);
    assert_eq!(cells(packed.path()), expected());
    let (genes, _) = read(packed.path(), &Choice::default(), 1).unwrap();
    let genes: Vec<(&str, &str, &str)> = genes
        .iter()
        .map(|gene| {
            let modality = gene.modality.as_deref().unwrap();
            (gene.id.as_deref().unwrap(), &*gene.symbol, modality)
        })
        .collect();
    assert_eq!(genes, GENES);
    assert_eq!(cells(plain_folder(&matrix()).path()), expected());
    // As version 2 of Cell Ranger wrote it, behind a prefix as in GEO.
    let old = features()
        .replace("\tGene Expression", "")
        .replace("\tAntibody Capture", "");
    let old = folder(&[
        ("GSM1_matrix.mtx", matrix().as_bytes()),
        ("GSM1_genes.tsv", old.as_bytes()),
        ("GSM1_barcodes.tsv", barcodes().as_bytes()),
    ]);
    assert_eq!(cells(old.path()), expected());
    assert_eq!(cells(&old.path().join("GSM1_matrix.mtx")), expected());
}

#[test]
fn a_matrix_written_gene_by_gene_gives_the_same() {
    let numbers = |line: &str| {
        let mut words = line.split(' ').map(|word| word.parse::<u32>().unwrap());
        (words.next().unwrap(), words.next().unwrap())
    };
    let by_gene = reordered(&matrix(), numbers);
    assert_ne!(by_gene, matrix());
    assert_eq!(cells(plain_folder(&by_gene).path()), expected());
    let backwards = reordered(&matrix(), |line| {
        let (gene, cell) = numbers(line);
        (cell, 99 - gene)
    });
    assert_ne!(backwards, matrix());
    assert_eq!(cells(plain_folder(&backwards).path()), expected());
}

#[test]
fn a_cell_that_comes_back_late_is_an_error() {
    let names: String = (0..70_000).map(|cell| format!("c{cell}\n")).collect();
    let lines: String = (1..=70_000).map(|cell| format!("1 {cell} 1\n")).collect();
    let head = "%%MatrixMarket matrix coordinate integer general\n2 70000 70001\n";
    let late = folder(&[
        ("matrix.mtx", format!("{head}{lines}2 69999 1\n").as_bytes()),
        ("genes.tsv", b"A\nB\n"),
        ("barcodes.tsv", names.as_bytes()),
    ]);
    // Gene by gene where that shows early, as here, where a gene has as many lines as cells.
    assert_eq!(cells(late.path())[69_998].1, [0, 1]);
    let lines: String = (1..=35_000)
        .map(|cell| format!("1 {cell} 1\n2 {cell} 1\n"))
        .collect();
    let lines = lines + "1 35001 1\n1 1 1\n";
    let head = head.replace("70001", "70002");
    fs::write(late.path().join("matrix.mtx"), head + &lines).unwrap();
    assert!(error(late.path()).contains("line 70004: cell 35001 or one before has been read"));
}

#[test]
fn a_matrix_alone_needs_names_of_genes() {
    let alone = folder(&[("x.mtx", matrix().as_bytes()), ("g", b"A\nB\nC\nD\n")]);
    let path = alone.path().join("x.mtx");
    assert!(error(&path).contains("name a text with a gene a line"));
    let choice = Choice {
        genes: Some(alone.path().join("g")),
        ..Choice::default()
    };
    let (genes, cells) = read(&path, &choice, 9).unwrap();
    assert_eq!(genes[3].symbol, "D");
    let names: Vec<&str> = cells.iter().map(|cell| &*cell.0).collect();
    assert_eq!(names, ["0", "1", "2", "3", "4"]);
}

#[test]
fn what_is_wrong_in_a_folder_is_named() {
    let twice = matrix().replace("3 1 1\n", "1 1 1\n");
    let text = error(plain_folder(&twice).path());
    assert!(text.contains("matrix.mtx: line 5: gene CD3D of cell 1 (AAAC-1) stands twice"));
    // The same, gene by gene.
    let twice = reordered(&twice, |line| {
        let mut words = line.split(' ').map(|word| word.parse::<u32>().unwrap());
        (words.next().unwrap(), words.next().unwrap())
    });
    let text = error(plain_folder(&twice).path());
    assert!(
        text.contains("cell AAAC-1, gene CD3D: the matrix has it twice"),
        "{text}"
    );
    let wrong = [
        (matrix().replace("4 5 9\n", "4 6 9\n"), "6 columns, and "),
        (matrix().replace("4 5 9\n", "5 4 9\n"), "rows must be genes"),
        (matrix().replace("4 5 9\n", "9 5 9\n"), "lists 4 genes"),
    ];
    for (matrix, reason) in wrong {
        let text = error(plain_folder(&matrix).path());
        assert!(text.contains(reason), "{text}");
        assert!(text.contains("matrix.mtx: line 3: "), "{text}");
    }
    let lacking = folder(&[("matrix.mtx", b"x\n"), ("genes.tsv", b"A\n")]);
    assert!(error(lacking.path()).contains("without `barcodes.tsv`"));
    assert!(error(folder(&[]).path()).contains("without `matrix.mtx`"));
    let several = folder(&[("a_matrix.mtx", b"x\n"), ("b_matrix.mtx", b"x\n")]);
    assert!(error(several.path()).contains("several matrices"));
}

// Tables

fn table(separator: &str) -> String {
    let row = |fields: Vec<String>| fields.join(separator) + "\n";
    let mut text = row([&["cell"][..], &GENES.map(|gene| gene.1)]
        .concat()
        .iter()
        .map(|field| (*field).to_string())
        .collect());
    for (name, genes, values) in CELLS {
        let mut fields = vec!["0".to_string(); GENES.len() + 1];
        fields[0] = name.into();
        for (gene, value) in genes.iter().zip(values) {
            fields[1 + *gene as usize] = value.to_string();
        }
        text += &row(fields);
    }
    text
}

#[test]
fn tables_have_a_row_a_cell() {
    let folder = TempDir::new().unwrap();
    for separator in ["\t", ","] {
        let text = table(separator);
        assert_eq!(cells(&saved(&folder, "a", text.as_bytes())), expected());
        assert_eq!(
            cells(&saved(&folder, "b", &gzip(text.as_bytes()))),
            expected()
        );
        let ends = text.replace('\n', "\r\n");
        assert_eq!(cells(&saved(&folder, "c", ends.as_bytes())), expected());
    }
    let wrong = [
        ("cell\tA\tB\nx\t1\n", "line 2: cell x: 1 values for 2 genes"),
        ("A\tB\nx\t1\t2\n", "line 2: cell x: one value more than"),
        (
            "cell\tA\tB\nx\t1\ty\n",
            "line 2: cell x, gene B: `y` is not a number (cells are",
        ),
        (
            "cell\tA\t\nx\t1\t1\n",
            "line 1: field 3: the gene's name is empty",
        ),
        ("cell\tA\n\t1\n", "line 2: the cell's name is empty"),
        ("cell\tA\nx\t1", "line 2: the last line does not end"),
        ("words alone\n", "line 1: neither tabs nor commas"),
        ("", "the file is empty"),
        ("a\0b", "byte 1: neither text nor"),
        ("\u{89}HDF", "line 1: "),
    ];
    for (text, reason) in wrong {
        let found = error(&saved(&folder, "a", text.as_bytes()));
        assert!(found.contains(reason), "{found}");
    }
    let choice = Choice {
        raw: true,
        ..Choice::default()
    };
    let path = saved(&folder, "a", table(",").as_bytes());
    let error = read(&path, &choice, 1).unwrap_err();
    assert!(error.to_string().contains("a table has no `raw`"));
}

// Real data

/// Sums that NumPy gives: cells, genes, values that are not zero, their sum, and the sum of value ×
/// (gene + 1) × (cell % 97 + 1).
const REAL: [(&str, usize, usize, usize, f64, f64); 7] = [
    ("citeseq_adt.npz", 500, 49, 20005, 927766.0, 973656246.0),
    ("citeseq_hto.npz", 500, 4, 1211, 146332.0, 15891442.0),
    (
        "citeseq_rna.npz",
        500,
        19521,
        663563,
        1719951.0,
        843181718290.0,
    ),
    (
        "ifnb_pbmc_ctrl.npz",
        1000,
        9015,
        558407,
        1475025.0,
        345184697820.0,
    ),
    (
        "ifnb_pbmc_stim.npz",
        1000,
        9015,
        571399,
        1606802.0,
        352418452890.0,
    ),
    (
        "papalexi_crispr.npz",
        12823,
        299,
        845622,
        2633141.0,
        20450441517.0,
    ),
    (
        "pbmc3k_2638x2000.npz",
        2638,
        2000,
        514442,
        1013742.6612713337,
        44656940232.27254,
    ),
];

#[test]
fn the_kit_is_read_as_numpy_reads_it() {
    let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/cells");
    if !kit.is_dir() {
        eprintln!("skipped: {} is absent", kit.display());
        return;
    }
    for (name, count, genes, values, sum, weighted) in REAL {
        let (found, cells) = read(&kit.join(name), &Choice::default(), 1000).unwrap();
        assert_eq!((found.len(), cells.len()), (genes, count), "{name}");
        let (mut own, mut own_sum, mut own_weighted) = (0, 0.0, 0.0);
        for (at, (_, genes, values)) in cells.iter().enumerate() {
            own += values.len();
            for (&gene, &value) in genes.iter().zip(values) {
                own_sum += f64::from(value);
                own_weighted += f64::from(value) * f64::from(gene + 1) * (at % 97 + 1) as f64;
            }
        }
        assert_eq!(own, values, "{name}");
        assert!((own_sum - sum).abs() < 1e-6 * sum, "{name}: {own_sum}");
        assert!(
            (own_weighted - weighted).abs() < 1e-6 * weighted,
            "{name}: {own_weighted}"
        );
    }
}
