//! Model files with right hashes and wrong insides, and ONNX files that no exporter would write:
//! the program accepts or refuses each in order, within its budget of time and memory. It never
//! panics, dies or hangs, and what it has packed it also runs.
//!
//! A few of each by default. `STRANDLINE_MUTANTS=50000` tries that many of each from other seeds;
//! the figures are in `docs/reliability.md`.
#![cfg(unix)]

// Only its list of tensors is needed.
#[allow(dead_code)]
#[path = "../altered/mod.rs"]
mod altered;
mod change;
// Not everything that it can draw is needed here.
#[allow(dead_code)]
#[path = "../lowering/draft.rs"]
mod draft;
mod seeds;

use prost::Message;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use seeds::Network;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tract_onnx::pb::{ModelProto, StringStringEntryProto};

/// What a run may take of memory, in kilobytes, and of time.
const MEMORY: &str = "1048576";
const LONGEST: Duration = Duration::from_secs(10);

/// Of each kind, without a wish.
const FEW: u64 = 150;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Accepted,
    Refused,
    Panicked,
    Died,
    Hung,
}

fn wanted() -> u64 {
    match std::env::var("STRANDLINE_MUTANTS") {
        Ok(count) => count.parse().unwrap(),
        Err(_) => FEW,
    }
}

/// Runs the program within the limits; its standard error goes to a file.
fn limited(arguments: &[&OsStr], log: &Path) -> End {
    let started = Instant::now();
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -v \"$0\"; exec \"$@\"", MEMORY])
        .arg(env!("CARGO_BIN_EXE_strandline"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(log).unwrap())
        .spawn()
        .unwrap();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        // The program's own budget ends first where it has one.
        if started.elapsed() > LONGEST + Duration::from_secs(2) {
            child.kill().unwrap();
            child.wait().unwrap();
            return End::Hung;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let said = fs::read(log).unwrap();
    let said = String::from_utf8_lossy(&said);
    match status.code() {
        _ if said.contains("panicked at") => End::Panicked,
        Some(0) => End::Accepted,
        Some(1 | 2) => End::Refused,
        Some(_) => End::Panicked,
        None => End::Died,
    }
}

/// Makes and tries mutants on all cores; the files of those that ended badly are kept.
fn try_all(
    kind: &str,
    attempt: impl Fn(&mut ChaCha8Rng, u64, &Path) -> Option<(End, Vec<PathBuf>)> + Sync,
) {
    let count = wanted();
    let first = if count == FEW { 0 } else { 1 << 32 };
    let next = AtomicU64::new(0);
    let ends = Mutex::new([0u64; 5]);
    let bad = Mutex::new(vec![]);
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    fs::create_dir_all(&kept).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let folder = tempfile::tempdir().unwrap();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let mut rng = ChaCha8Rng::seed_from_u64(first + number);
                    let Some((end, files)) = attempt(&mut rng, number, folder.path()) else {
                        continue;
                    };
                    ends.lock().unwrap()[end as usize] += 1;
                    if !matches!(end, End::Accepted | End::Refused) {
                        let mut line = format!("{end:?}: {number}");
                        for file in files {
                            let name = file.file_name().unwrap().to_string_lossy();
                            let to = kept.join(format!("{kind}-{number}-{name}"));
                            fs::copy(&file, &to).unwrap();
                            line += &format!(" {}", to.display());
                        }
                        bad.lock().unwrap().push(line);
                    }
                }
            });
        }
    });
    let [accepted, refused, panicked, died, hung] = ends.into_inner().unwrap();
    println!(
        "{kind}: {accepted} accepted, {refused} refused, {panicked} panicked, {died} died, \
         {hung} hung"
    );
    let bad = bad.into_inner().unwrap();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    // Changes that leave everything right, or nothing, would test nothing.
    assert!(accepted > count / 50 && refused > count / 10);
}

/// Reads and token ids that every network takes.
fn inputs(folder: &Path) -> [PathBuf; 2] {
    let (reads, ids) = (folder.join("reads.fa"), folder.join("ids.txt"));
    let bases: String = (0..80)
        .map(|at| ['A', 'C', 'G', 'T'][(at * at / 3) % 4])
        .collect();
    fs::write(&reads, format!(">one\n{}\n>two\n{bases}\n", &bases[..38])).unwrap();
    let tokens: Vec<String> = (0..80).map(|at| (at % 7).to_string()).collect();
    let line = tokens.join(" ");
    fs::write(&ids, format!("{line}\n{}\n", &line[..79])).unwrap();
    [reads, ids]
}

/// Runs a packed file on sequences.
fn runs(file: &Path, input: &Path, folder: &Path, log: &Path) -> End {
    let output = folder.join("outputs.npy");
    let words = [
        "bench-model".as_ref(),
        file.as_os_str(),
        "--input".as_ref(),
        input.as_os_str(),
        "--output".as_ref(),
        output.as_os_str(),
    ];
    limited(&words, log)
}

#[test]
fn packed_files_with_wrong_insides_are_accepted_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let seeds = seeds::packed(folder.path());
    let [reads, ids] = inputs(folder.path());
    try_all("packed", |rng, number, folder| {
        let (is_ids, seed) = &seeds[number as usize % seeds.len()];
        let bytes = change::packed(seed, rng)?;
        let (file, log) = (folder.join("mutant.safetensors"), folder.join("stderr"));
        fs::write(&file, bytes).unwrap();
        let mut end = runs(&file, if *is_ids { &ids } else { &reads }, folder, &log);
        if matches!(end, End::Accepted | End::Refused) && number % 4 == 0 {
            let inspected = limited(&["inspect".as_ref(), file.as_os_str()], &log);
            if !matches!(inspected, End::Accepted | End::Refused) {
                end = inspected;
            }
        }
        Some((end, vec![file, log]))
    });
}

#[test]
fn networks_that_no_exporter_writes_are_packed_and_run_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [reads, ids] = inputs(folder.path());
    let networks = seeds::networks();
    try_all("onnx", |rng, number, folder| {
        let network = &networks[number as usize % networks.len()];
        let mut model = ModelProto::decode(&*network.onnx).unwrap();
        change::onnx(&mut model, rng);
        let [onnx, manifest, packed, log] =
            ["mutant.onnx", "m.toml", "packed.safetensors", "stderr"].map(|name| folder.join(name));
        fs::write(&onnx, model.encode_to_vec()).unwrap();
        fs::write(&manifest, &network.manifest).unwrap();
        let input = if network.ids { &ids } else { &reads };
        let precision = ["int8", "fp16", "f32"][(number / 7) as usize % 3];
        let words = [
            "pack".as_ref(),
            onnx.as_os_str(),
            "--manifest".as_ref(),
            manifest.as_os_str(),
            "--calibrate".as_ref(),
            input.as_os_str(),
            "--precision".as_ref(),
            precision.as_ref(),
            "--budget=8s,1GB".as_ref(),
            "-o".as_ref(),
            packed.as_os_str(),
        ];
        let mut end = limited(&words, &log);
        let mut files = vec![onnx, manifest, log.clone()];
        if end == End::Accepted {
            end = runs(&packed, input, folder, &log);
            files.push(packed);
            if end == End::Refused {
                // What was packed must run.
                end = End::Panicked;
            }
        }
        Some((end, files))
    });
}

/// Packs a network with more arguments; the exit code, and standard error.
fn packing(network: &Network, folder: &Path, more: &[&str]) -> (Option<i32>, String) {
    let [reads, _] = inputs(folder);
    let [onnx, manifest] = ["net.onnx", "m.toml"].map(|name| folder.join(name));
    fs::write(&onnx, &network.onnx).unwrap();
    fs::write(&manifest, &network.manifest).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_strandline"))
        .current_dir(folder)
        .args(["pack", "net.onnx", "--manifest", "m.toml", "--calibrate"])
        .arg(&reads)
        .args(more)
        .output()
        .unwrap();
    (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
}

#[test]
fn a_network_beyond_its_budget_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let network = &seeds::networks()[0];
    for (budget, expected) in [
        ("60s,10MB", "memory"),
        ("0.000001s,4GB", "nothing came of it"),
    ] {
        let (code, said) = packing(network, folder.path(), &["--budget", budget, "-o", "out"]);
        assert_eq!(code, Some(1), "{said}");
        let line = said
            .lines()
            .find(|line| line.starts_with("error: net.onnx: "));
        assert!(line.is_some_and(|line| line.contains(expected)), "{said}");
        assert!(!folder.path().join("out").exists());
    }
    // While its manifest is read off, too.
    let ran = Command::new(env!("CARGO_BIN_EXE_strandline"))
        .current_dir(folder.path())
        .args([
            "pack",
            "net.onnx",
            "--print-manifest",
            "--budget=0.000001s,4GB",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(
        ran.status.code() == Some(1) && said.contains("nothing came of it"),
        "{said}"
    );
}

#[test]
fn a_file_of_weights_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let mut network = seeds::networks().swap_remove(0);
    let mut model = ModelProto::decode(&*network.onnx).unwrap();
    let weights = folder.path().join("weights");
    let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
    fs::write(&weights, &tensor.raw_data).unwrap();
    let bytes = std::mem::take(&mut tensor.raw_data);
    tensor.data_location = Some(1);
    tensor.external_data.push(StringStringEntryProto {
        key: "location".to_string(),
        value: "weights".to_string(),
    });
    network.onnx = model.encode_to_vec();
    let (code, said) = packing(&network, folder.path(), &["-o", "weights"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("cannot be written at the same time"),
        "{said}"
    );
    assert_eq!(fs::read(&weights).unwrap(), bytes);
    let (code, said) = packing(&network, folder.path(), &["-o", "packed"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn the_time_of_a_network_begins_with_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let network = &seeds::networks()[0];
    let pipe = folder.path().join("late.toml");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let text = network.manifest.clone();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(5));
        fs::write(pipe, text).unwrap();
    });
    let late = ["--manifest", "late.toml", "--budget=4s,4GB", "-o", "packed"];
    let [reads, _] = inputs(folder.path());
    fs::write(folder.path().join("net.onnx"), &network.onnx).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_strandline"))
        .current_dir(folder.path())
        .args(["pack", "net.onnx", "--calibrate"])
        .arg(&reads)
        .args(late)
        .output()
        .unwrap();
    writer.join().unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

#[test]
fn no_time_runs_while_samples_are_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let network = &seeds::networks()[0];
    let [reads, _] = inputs(folder.path());
    fs::write(folder.path().join("net.onnx"), &network.onnx).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_strandline"))
        .current_dir(folder.path())
        .args([
            "pack",
            "net.onnx",
            "--calibrate",
            "-",
            "--budget=4s,4GB",
            "-o",
            "packed",
        ])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(5));
    let mut input = child.stdin.take().unwrap();
    input.write_all(&fs::read(reads).unwrap()).unwrap();
    drop(input);
    let ran = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
}

#[test]
fn what_a_network_says_is_nothing_that_a_terminal_obeys() {
    let folder = tempfile::tempdir().unwrap();
    let mut network = seeds::networks().swap_remove(0);
    let mut model = ModelProto::decode(&*network.onnx).unwrap();
    model.graph.as_mut().unwrap().node[0].op_type = "Conv\x1b]0;owned\x07".to_string();
    network.onnx = model.encode_to_vec();
    let (code, said) = packing(&network, folder.path(), &["-o", "packed"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("owned") && !said.contains(['\x1b', '\x07']),
        "{said:?}"
    );
}
