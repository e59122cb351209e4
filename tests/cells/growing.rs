//! `cells annotate --follow`: a matrix that grows, breaks, and goes away.

use super::binary::{Ran, run, strandline};
use super::rows;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A 10x folder of so many of the cells, with the counts multiplied.
pub fn grow(folder: &Path, cells: &[(&str, f32)]) {
    let genes = ["CD3D", "CD3E", "IL7R", "MS4A1", "CD79A", "LYZ"];
    let mut matrix = String::new();
    for (at, (name, times)) in cells.iter().enumerate() {
        let rows: &[usize] = if name.starts_with('b') {
            &[4, 5]
        } else {
            &[1, 2, 3]
        };
        for row in rows {
            matrix += &format!("{row} {} {}\n", at + 1, (*times * 3.0) as u32);
        }
    }
    let header = format!(
        "%%MatrixMarket matrix coordinate integer general\n{} {} {}\n",
        genes.len(),
        cells.len(),
        matrix.lines().count()
    );
    let barcodes: String = cells.iter().map(|(name, _)| format!("{name}\n")).collect();
    let features: String = genes
        .iter()
        .map(|gene| format!("{gene}\t{gene}\tGene Expression\n"))
        .collect();
    for (name, text) in [
        ("barcodes.tsv", barcodes),
        ("features.tsv", features),
        ("matrix.mtx", header + &matrix),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
}

/// A run that follows a folder.
struct Following {
    child: Child,
    /// What is written until it ends.
    part: PathBuf,
}

impl Following {
    fn new(folder: &Path, out: &Path, looks: u32) -> Following {
        let words = ["cells", "annotate", folder.to_str().unwrap(), "--follow"];
        let looks = looks.to_string();
        let more = ["--interval", "0.1", "--until-quiet", &looks, "-o"];
        let words = words.iter().chain(&more).copied();
        let words = words.chain([out.to_str().unwrap()]);
        let child = strandline(words).stderr(Stdio::piped()).spawn().unwrap();
        let part = PathBuf::from(format!("{}.part", out.display()));
        Following { child, part }
    }

    /// Waits for a text in the output.
    fn wait(&self, text: &str) {
        let began = Instant::now();
        while !fs::read_to_string(&self.part).is_ok_and(|now| now.contains(text)) {
            let waited = began.elapsed();
            assert!(waited < Duration::from_secs(60), "{text:?} never came");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(self) -> Ran {
        let ended = self.child.wait_with_output().unwrap();
        Ran {
            code: ended.status.code().unwrap_or(-1),
            out: ended.stdout,
            err: String::from_utf8(ended.stderr).unwrap(),
        }
    }
}

/// A folder to follow, and an output.
fn folders(at: &Path) -> (PathBuf, PathBuf) {
    let (run, out) = (at.join("run"), at.join("out.tsv"));
    fs::create_dir(&run).unwrap();
    (run, out)
}

/// Cells and revisions.
fn revisions(text: &str) -> Vec<(String, String)> {
    let of = |row: &Vec<&str>| (row[0].to_string(), row[row.len() - 1].to_string());
    rows(text).iter().map(of).collect()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    let of = |(cell, revision): &(&str, &str)| ((*cell).into(), (*revision).into());
    all.iter().map(of).collect()
}

#[test]
fn a_matrix_that_grows_is_scored_where_it_grew() {
    let folder = tempfile::tempdir().unwrap();
    let (run, out) = folders(folder.path());
    grow(&run, &[("t1", 1.0), ("b1", 1.0)]);
    let following = Following::new(&run, &out, 20);
    following.wait("\t1\n");
    // A file that does not fit the others yet is no cell lost, and no cell twice.
    fs::write(run.join("barcodes.tsv"), "t1\nb1\nt2\n").unwrap();
    thread::sleep(Duration::from_millis(400));
    // Other files in the folder are none of the matrix.
    fs::write(run.join("notes.txt"), "of a user").unwrap();
    // b1 grows by a third, t1 by nothing; t2 is new.
    grow(&run, &[("t1", 1.0), ("b1", 1.4), ("t2", 2.0)]);
    following.wait("\t2\n");
    let ran = following.end().exit(0);
    let found = revisions(&fs::read_to_string(&out).unwrap());
    let expected = pairs(&[("t1", "1"), ("b1", "1"), ("b1", "2"), ("t2", "2")]);
    assert_eq!(found, expected, "{}", ran.err);
    for part in [
        "6 of 6 columns are among the model's",
        "revision 2: 1 cells new, 1 scored again",
        "cells    3 = ",
        "1 scores made again",
    ] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
}

/// A disk that is taken away, and comes back with other cells.
#[test]
fn a_folder_that_goes_away_costs_nothing_that_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let (run, out) = folders(folder.path());
    grow(&run, &[("t1", 1.0), ("b1", 1.0)]);
    let following = Following::new(&run, &out, 20);
    following.wait("\t1\n");
    let away = folder.path().join("away");
    fs::rename(&run, &away).unwrap();
    thread::sleep(Duration::from_millis(400));
    grow(&away, &[("b1", 1.0), ("t2", 1.0)]);
    fs::rename(&away, &run).unwrap();
    following.wait("\t2\n");
    let ran = following.end().exit(0);
    let text = fs::read_to_string(&out).unwrap();
    let expected = pairs(&[("t1", "1"), ("b1", "1"), ("t2", "2"), ("t1", "2")]);
    assert_eq!(revisions(&text), expected);
    assert_eq!(rows(&text)[3][1], "gone");
    for part in ["looked for again", "cells    2 = ", "gone     1 cells"] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
}

#[test]
fn what_was_never_read_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (run, out) = folders(folder.path());
    grow(&run, &[("t1", 1.0)]);
    fs::write(run.join("barcodes.tsv"), "t1\nt2\n").unwrap();
    fs::write(&out, "of the run before").unwrap();
    let ran = Following::new(&run, &out, 2).end().exit(1);
    assert!(ran.err.contains("lists 2 cells"), "{}", ran.err);
    assert_eq!(fs::read_to_string(&out).unwrap(), "of the run before");
    assert!(!folder.path().join("out.tsv.part").exists());
}

/// A folder that is gone in the end is no complete run.
#[test]
fn a_folder_that_stays_away_leaves_the_output_unfinished() {
    let folder = tempfile::tempdir().unwrap();
    let (run, out) = folders(folder.path());
    grow(&run, &[("t1", 1.0)]);
    let following = Following::new(&run, &out, 5);
    following.wait("\t1\n");
    fs::remove_dir_all(&run).unwrap();
    let part = following.part.clone();
    let ran = following.end().exit(1);
    assert!(ran.err.contains("its matrix is gone"), "{}", ran.err);
    assert!(part.exists() && !out.exists());
}

/// Pipelines link files instead of copying them, and stop what follows when they are done.
#[cfg(unix)]
#[test]
fn the_last_state_is_read_after_a_signal_behind_links_too() {
    use std::os::unix::fs::symlink;
    use std::process::Command;
    let folder = tempfile::tempdir().unwrap();
    let (run, out) = folders(folder.path());
    let real = folder.path().join("real");
    fs::create_dir(&real).unwrap();
    grow(&real, &[("t1", 1.0), ("b1", 1.0)]);
    for name in ["matrix.mtx", "features.tsv", "barcodes.tsv"] {
        symlink(real.join(name), run.join(name)).unwrap();
    }
    let following = Following::new(&run, &out, 1000);
    following.wait("\t1\n");
    // A cell that was fine cannot be used any more, and one is new.
    grow(&real, &[("t1", 1.0), ("b1", 1.0), ("t2", 1.0)]);
    let matrix = fs::read_to_string(real.join("matrix.mtx")).unwrap();
    let broken = matrix.replace("1 1 3\n", "1 1 -3\n");
    assert_ne!(matrix, broken);
    fs::write(real.join("matrix.mtx"), broken).unwrap();
    let id = following.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    let ran = following.end().exit(0);
    let text = fs::read_to_string(&out).unwrap();
    let expected = pairs(&[("t1", "1"), ("b1", "1"), ("t1", "2"), ("t2", "2")]);
    assert_eq!(revisions(&text), expected, "{}", ran.err);
    assert_eq!(rows(&text)[2][1], "rejected");
    assert!(
        ran.err.contains("3 = 2 typed + 0 unknown + 1 rejected"),
        "{}",
        ran.err
    );
}

#[test]
fn a_last_state_that_cannot_be_read_leaves_the_output_unfinished() {
    let folder = tempfile::tempdir().unwrap();
    let (run, out) = folders(folder.path());
    grow(&run, &[("t1", 1.0)]);
    let following = Following::new(&run, &out, 8);
    following.wait("\t1\n");
    fs::write(run.join("barcodes.tsv"), "t1\nt2\n").unwrap();
    let part = following.part.clone();
    let ran = following.end().exit(1);
    assert!(ran.err.contains("lists 2 cells"), "{}", ran.err);
    assert!(ran.err.contains("not complete"), "{}", ran.err);
    assert!(!out.exists());
    let found = revisions(&fs::read_to_string(part).unwrap());
    assert_eq!(found, pairs(&[("t1", "1")]));
}

/// The program would read what it writes, now or later.
#[test]
fn no_output_becomes_a_file_of_the_matrix() {
    let folder = tempfile::tempdir().unwrap();
    let (followed, _) = folders(folder.path());
    grow(&followed, &[("t1", 1.0)]);
    for name in [
        "matrix.mtx",
        "barcodes.tsv",
        "features.tsv.gz",
        "s1_genes.tsv",
    ] {
        let out = followed.join(name);
        let before = fs::read(&out).ok();
        let words = [
            "cells",
            "annotate",
            followed.to_str().unwrap(),
            "--follow",
            "-o",
        ];
        let ran = run(words.into_iter().chain([out.to_str().unwrap()])).exit(2);
        assert!(ran.err.contains(name), "{}", ran.err);
        assert_eq!(fs::read(&out).ok(), before, "{name}");
    }
}

#[test]
fn an_interval_may_be_longer_than_time() {
    let folder = tempfile::tempdir().unwrap();
    let (followed, _) = folders(folder.path());
    let words = ["cells", "annotate", followed.to_str().unwrap(), "--follow"];
    let words = words.into_iter().chain(["--interval", "1e19"]);
    let mut child = strandline(words).stdout(Stdio::null()).spawn().unwrap();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    child.wait().unwrap();
}
