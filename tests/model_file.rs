//! The model file: damage of every kind is found and named, and a large file is used in place, in
//! pages that processes share, never copied to the heap.

mod altered;

use altered::{builtin_bytes, tensors};
use proptest::prelude::*;
use safetensors::tensor::Dtype;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use strandline::annotate::Task;
use strandline::annotate::builtin;
use strandline::kernels::{ConvShape, padded};
use strandline::model::file::{GRAPH, GRAPH_JSON, HASH_AT_OPEN, ModelFile, TensorData, serialize};
use strandline::model::manifest::{Context, Manifest, Precision, Reproducible, Tier};
use strandline::model::map::Bytes;
use strandline::model::{Model, ModelError};

fn parse(bytes: &[u8]) -> Result<ModelFile, ModelError> {
    ModelFile::parse(Bytes::copy_of(bytes).unwrap(), "damaged.model")
}

/// Damage must be a format error with the file's name and an offset inside the file.
fn assert_named(bytes: &[u8], what: &str) {
    match parse(bytes) {
        Err(ModelError::Format { file, offset, .. }) => {
            assert_eq!(file, "damaged.model", "{what}");
            assert!(offset <= bytes.len() as u64, "{what}: offset {offset}");
        }
        Err(other) => panic!("{what}: {other}"),
        Ok(_) => panic!("{what}: not found"),
    }
}

#[test]
fn built_in_files_parse_and_survive_a_rewrite() {
    for task in Task::ALL {
        let file = builtin::file(task).unwrap();
        assert_eq!(file.manifest().task, task.name());
        assert_eq!(file.manifest().reproducible, Some(Reproducible::Bits));
        assert!(file.len().is_multiple_of(64) && !file.is_empty());
        let again = parse(&serialize(file.manifest(), tensors(&file)).unwrap()).unwrap();
        assert_eq!(again.manifest(), file.manifest());
        for (name, dtype, shape, size) in file.tensors() {
            let (own, other) = (file.tensor(&name, dtype), again.tensor(&name, dtype));
            let own = own.unwrap();
            assert_eq!(own.bytes(), other.unwrap().bytes(), "{name}");
            assert_eq!(own.bytes().len(), size);
            assert_eq!(shape.iter().product::<usize>() * dtype.bitsize() / 8, size);
            if !name.starts_with("pad.") {
                assert!((own.bytes().as_ptr() as usize).is_multiple_of(64), "{name}");
            }
        }
    }
}

#[test]
fn every_truncation_is_found() {
    let bytes = builtin_bytes(Task::Splice, |_| ());
    for length in 0..bytes.len() {
        assert_named(&bytes[..length], &format!("cut to {length}"));
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_named(&longer, "a byte too many");
    longer.resize(bytes.len() + 64, 0);
    assert_named(&longer, "64 bytes too many");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_flipped_byte_is_found(at in 0.0..1.0f64, mask in 1u8..=255, in_header: bool) {
        let mut bytes = builtin_bytes(Task::Splice, |_| ());
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        let range = if in_header { header } else { bytes.len() };
        let at = (range as f64 * at) as usize;
        bytes[at] ^= mask;
        assert_named(&bytes, &format!("byte {at} xor {mask}"));
    }
}

#[test]
fn other_files_are_refused_by_name() {
    assert_named(b"", "nothing");
    assert_named(b">read\nACGT\n", "FASTA");
    assert_named(&[0xff; 4096], "ones");
    assert_named(&[0; 4096], "zeros");
    // safetensors, but none of ours.
    let header = br#"{"w":{"dtype":"U8","shape":[64],"data_offsets":[0,64]}}         "#;
    let mut foreign = (header.len() as u64).to_le_bytes().to_vec();
    foreign.extend_from_slice(header);
    foreign.resize(foreign.len() + 64, 0);
    assert_named(&foreign, "foreign safetensors");
    let message = parse(&foreign).unwrap_err().to_string();
    assert!(message.contains("strandline"), "{message}");
}

#[test]
fn another_version_says_so() {
    let bytes = builtin_bytes(Task::Splice, |_| ());
    let key = br#""strandline.format":"2""#;
    let at = bytes.windows(key.len()).position(|w| w == key).unwrap();
    let mut newer = bytes.clone();
    newer[at + key.len() - 2] = b'3';
    let message = parse(&newer).unwrap_err().to_string();
    assert!(
        message.starts_with("damaged.model: byte 8: expected format version 2, found 3"),
        "{message}"
    );
}

#[test]
fn paths_that_hold_no_model_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.safetensors");
    fs::write(&empty, b"").unwrap();
    let text = folder.path().join("text.safetensors");
    fs::write(&text, b"not a model at all").unwrap();
    for (path, expected) in [
        (folder.path().join("none.safetensors"), "none.safetensors"),
        (folder.path().to_path_buf(), "folder"),
        (empty, "empty"),
        (text, "header length"),
    ] {
        let message = ModelFile::open(&path).unwrap_err().to_string();
        assert!(
            message.starts_with(&path.display().to_string()),
            "{message}"
        );
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_manifest_that_cannot_be_is_refused() {
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 9] = [
        ("control character", |m| m.name = "promoter\tcore".into()),
        ("control character", |m| m.version.push('\n')),
        ("control character", |m| m.outputs[0].name.push('\x1b')),
        ("alphabet", |m| m.alphabet = "ACGU".into()),
        ("stride", |m| m.stride = 4),
        ("tile", |m| m.tile = 100),
        ("outputs", |m| m.outputs.clear()),
        ("calibration", |m| {
            m.outputs[0].calibration = vec![[0.0, 0.0]]
        }),
        ("tile", |m| m.context.left = 1 << 24),
    ];
    let check = |error: ModelError, expected: &str| {
        assert!(matches!(error, ModelError::Manifest { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    for (expected, change) in changes {
        check(
            parse(&builtin_bytes(Task::Promoter, change)).unwrap_err(),
            expected,
        );
    }
    // What only those refuse who know the task.
    let change: Change = |m| m.task = Task::Expression.to_string();
    let model = Model::build(parse(&builtin_bytes(Task::Promoter, change)).unwrap());
    check(Task::of_model(&model.unwrap()).unwrap_err(), "sequence");
}

#[test]
fn a_graph_that_cannot_be_is_refused() {
    let file = builtin::file(Task::Promoter300).unwrap();
    let broken = |change: &dyn Fn(&mut Vec<TensorData>)| {
        let mut all = tensors(&file);
        change(&mut all);
        let bytes = serialize(file.manifest(), all).unwrap();
        Model::from_bytes(Bytes::copy_of(&bytes).unwrap(), "broken.model")
    };
    let text = |from: &str, to: &str| {
        let graph = std::str::from_utf8(file.graph_json().unwrap()).unwrap();
        assert!(graph.contains(from), "{graph}");
        let graph = graph.replacen(from, to, 1).into_bytes();
        broken(&|all| {
            let tensor = all.iter_mut().find(|t| t.name == GRAPH_JSON).unwrap();
            tensor.shape = vec![graph.len()];
            tensor.data = graph.clone();
        })
    };
    assert!(broken(&|_| ()).is_ok());
    let results = [
        broken(&|all| all.retain(|t| t.name != GRAPH_JSON)),
        broken(&|all| all.retain(|t| !t.name.ends_with(".weight"))),
        broken(&|all| {
            let weight = all.iter_mut().find(|t| t.name.ends_with(".weight"));
            let weight = weight.unwrap();
            weight.data.truncate(64);
            weight.shape = vec![64];
        }),
        broken(&|all| {
            let bias = all.iter_mut().find(|t| t.name.ends_with(".bias")).unwrap();
            bias.data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
        broken(&|all| {
            let last = all.iter_mut().rfind(|t| t.name.ends_with(".weight"));
            last.unwrap().data[0] = 0x80;
        }),
        text("\"width\":", "\"width\":9"),
        text("\"width\":", "\"width\":0"),
        text("\"channels_out\":", "\"channels_out\":9"),
        text("\"halo\":", "\"halo\":-"),
        text("\"halo\":1", "\"halo\":"),
        // Smaller than what the layers see.
        text("\"halo\":120", "\"halo\":0"),
        text("\"op\":\"conv\"", "\"op\":\"no_such_layer\""),
        text("\"output\":\"last\"", "\"output\":\"signed\""),
        text("[\"codes\",\"length\"]", "[\"codes\"]"),
        text("[\"codes\",\"length\"]", "[\"nobody\",\"length\"]"),
        text("{", "{{"),
    ];
    for (case, result) in results.into_iter().enumerate() {
        let message = result.err().map(|e| e.to_string());
        let message = message.unwrap_or_else(|| panic!("case {case} was taken"));
        assert!(message.starts_with("broken.model"), "{message}");
    }
}

#[test]
fn tiers_whose_rows_are_not_those_of_the_input_are_refused() {
    let file = builtin::file(Task::Splice).unwrap();
    let graph: Value = serde_json::from_slice(file.graph_json().unwrap()).unwrap();
    let tiers = [Tier::Fast, Tier::Accurate, Tier::Auto];
    let build = |graph: &Value| {
        let mut all = tensors(&file);
        let tensor = all.iter_mut().find(|t| t.name == GRAPH_JSON).unwrap();
        tensor.data = serde_json::to_vec(graph).unwrap();
        tensor.shape = vec![tensor.data.len()];
        let bytes = serialize(file.manifest(), all).unwrap();
        tiers.map(|tier| Model::build_tier(parse(&bytes).unwrap(), tier))
    };
    assert!(build(&graph).iter().all(Result::is_ok));
    let layers = graph["layers"].as_array().unwrap();
    let place = |name: &Value| {
        layers
            .iter()
            .position(|layer| layer["label"] == *name)
            .unwrap()
    };
    let [early, late] = [0, 1].map(|output| place(&graph["outputs"][output]));
    // Of every layer behind the first stage.
    for at in early.min(late) + 1..layers.len() {
        for (field, shape) in [("rate", false), ("stride", true)] {
            let mut changed = graph.clone();
            let spec = &mut changed["layers"][at]["spec"];
            let fields = if shape { &mut spec["shape"] } else { spec };
            fields[field] = 2.into();
            for result in &build(&changed)[1..] {
                let error = result.as_ref().unwrap_err().to_string();
                assert!(error.contains("rows"), "{field} of layer {at}: {error}");
            }
        }
    }
    for at in [early, late] {
        let mut changed = graph.clone();
        changed["layers"][at]["spec"]["shape"]["stride"] = 2.into();
        for result in build(&changed) {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("rows"), "output of layer {at}: {error}");
        }
    }
}

/// Channels, taps and layers of the large model: 4 · 1,024 · 1,024 · 16 = 64 MiB of weights.
const WIDE: usize = 1_024;
const TAPS: usize = 16;
const LAYERS: usize = 4;

/// A model with 64 MiB of int8 weights, every one of which its score depends on.
fn large_model() -> Vec<u8> {
    let reach = TAPS / 2;
    let manifest = Manifest {
        name: "large".into(),
        context: Context {
            left: LAYERS * reach,
            right: LAYERS * reach,
        },
        tile: 512,
        whole: None,
        precision: Precision::Int8,
        layers: vec![],
        ..builtin::file(Task::Splice)
            .unwrap()
            .manifest()
            .of_tier(Tier::Fast)
    };
    let mut graph = String::from(
        "version 1.0;\n\nextension tract_registry strandline;\n\
         extension tract_registry tract_core;\n\
         extension tract_symbol T;\n\ngraph network(codes, length) -> (head) {\n\
         codes = tract_core_external(shape = [T], datum_type = \"U8\");\n\
         length = tract_core_external(shape = [], datum_type = \"I64\");\n",
    );
    let mut all = vec![];
    let mut layer = |name: &str, input: &str, shape: ConvShape, kind: &str| {
        let codes = input == "codes";
        let channels_out = shape.channels_out;
        let shape_text = serde_json::to_string(&shape).unwrap();
        let spec = format!(
            "{{\"op\":\"conv\",\"shape\":{shape_text},\"step\":1,\"codes\":{codes},\
             \"signed\":false,\"row_scales\":false,\"added\":\"none\",\
             \"function\":\"identity\",\"gain\":1.0,\"rate\":1,\"output\":\"{kind}\"}}"
        );
        writeln!(
            graph,
            "{name} = strandline_layer(inputs = [{input}, length], spec = {spec:?}, \
             precision = \"int8\", halo = {reach}, label = \"{name}\");"
        )
        .unwrap();
        let count = shape.packed_len();
        let mut state = 1u64;
        let weights = (0..count).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            ((state >> 56) as i8).max(-127) as u8
        });
        let floats = |value: f32| {
            let values = std::iter::repeat_n(value, padded(channels_out));
            values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()
        };
        let lanes = padded(channels_out);
        for (part, dtype, count, data) in [
            ("weight", Dtype::I8, count, weights.collect()),
            ("scale", Dtype::F32, lanes, floats(1e-3)),
            ("bias", Dtype::F32, lanes, floats(20.0)),
        ] {
            all.push(TensorData {
                name: format!("{name}.{part}"),
                dtype,
                shape: vec![count],
                data,
            });
        }
    };
    let shape = |channels_in, channels_out, width| ConvShape {
        channels_in,
        channels_out,
        width,
        dilation: 1,
        before: width / 2,
        stride: 1,
    };
    layer("first", "codes", shape(4, WIDE, 3), "unsigned");
    let mut input = "first".to_string();
    for number in 0..LAYERS {
        let name = format!("wide{number}");
        layer(&name, &input, shape(WIDE, WIDE, TAPS), "unsigned");
        input = name;
    }
    layer("head", &input, shape(WIDE, 2, 1), "last");
    graph.push_str("}\n");
    let graph = graph.into_bytes();
    let shape = vec![graph.len()];
    all.insert(
        0,
        TensorData {
            name: GRAPH.into(),
            dtype: Dtype::U8,
            shape,
            data: graph,
        },
    );
    serialize(&manifest, all).unwrap()
}

fn large_file(folder: &Path) -> PathBuf {
    let path = folder.join("large.safetensors");
    let bytes = large_model();
    assert!(bytes.len() > LAYERS * WIDE * WIDE * TAPS);
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(&bytes).unwrap();
    // Pages that have not reached the disk yet count as dirty for every process that maps them.
    file.sync_all().unwrap();
    path
}

#[test]
fn large_files_are_hashed_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = large_file(folder.path());
    assert!(fs::metadata(&path).unwrap().len() > HASH_AT_OPEN as u64);
    ModelFile::open(&path).unwrap().check_payload().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 1_000_000;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = ModelFile::open(&path).unwrap().check_payload().unwrap_err();
    assert!(matches!(error, ModelError::Format { .. }), "{error}");
    assert!(error.to_string().starts_with(&path.display().to_string()));
    let strandline = env!("CARGO_BIN_EXE_strandline");
    let output = std::process::Command::new(strandline)
        .arg("verify")
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("BLAKE3") && message.contains("large.safetensors"),
        "{message}"
    );
    let read = folder.path().join("read.fa");
    fs::write(&read, ">r\nACGT\n").unwrap();
    let annotate = |check: &[&str]| {
        let mut command = std::process::Command::new(strandline);
        command
            .args(["annotate", "--tasks", "splice", "-q", "--model"])
            .arg(&path);
        command
            .args(check)
            .arg(&read)
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(annotate(&[]), Some(0));
    assert_eq!(annotate(&["--check-model"]), Some(1));
}

/// What the kernel says of the memory of processes; Linux only.
#[cfg(target_os = "linux")]
mod memory {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, ChildStdout, Command, Stdio};
    use strandline::annotate::Scorer;
    use strandline::call::Strand;

    /// The environment variable that turns this test into the process under test.
    const FILE: &str = "STRANDLINE_TEST_LARGE_MODEL";

    fn private_kilobytes() -> u64 {
        field(
            &fs::read_to_string("/proc/self/status").unwrap(),
            "RssAnon:",
        )
    }

    fn field(text: &str, name: &str) -> u64 {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The lines of /proc/self/smaps on the mapping of a file.
    fn mapping(file: &str) -> String {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let lines = smaps.lines().skip_while(|line| !line.ends_with(file));
        // Fields begin with a capital letter, the next mapping with its address.
        let fields = lines
            .skip(1)
            .take_while(|l| l.starts_with(char::is_uppercase));
        fields.collect::<Vec<_>>().join("\n")
    }

    /// Waits for a line on standard input, one a step.
    fn wait() {
        std::io::stdin()
            .lock()
            .read_line(&mut String::new())
            .unwrap();
    }

    fn say(line: &str) {
        // Not `println`, which the test harness captures.
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nfigure {line}").unwrap();
        out.flush().unwrap();
    }

    #[test]
    #[ignore = "run by large_models_are_used_in_place, in processes of its own"]
    fn process_with_a_large_model() {
        let path = PathBuf::from(std::env::var_os(FILE).expect("run by another test"));
        let name = path.display().to_string();
        // tract and the registry of operators have their own memory, which is not the model's.
        drop(builtin::model(Task::Splice, Tier::Auto).unwrap());
        let before = private_kilobytes();
        let model = Model::open(&path).unwrap();
        say(&(private_kilobytes().saturating_sub(before)).to_string());
        let mut scorer = Scorer::new(model).unwrap();
        let raw = scorer
            .raw(&[0, 1, 2, 3, 2, 1, 0, 3], Strand::Forward)
            .unwrap();
        assert!(raw.iter().all(|x| x.is_finite()));
        assert!(raw.chunks_exact(2).any(|row| row != &raw[..2]), "{raw:?}");
        let sum: f32 = raw.iter().sum();
        say(&format!("{}", sum.to_bits()));
        wait();
        let fields = mapping(&name);
        let values =
            ["Rss:", "Shared_Clean:", "Private_Dirty:", "Anonymous:"].map(|f| field(&fields, f));
        say(&format!("{values:?}"));
        wait();
    }

    struct Process {
        child: Child,
        lines: BufReader<ChildStdout>,
    }

    impl Process {
        fn start(path: &Path) -> Process {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "--ignored",
                    "--nocapture",
                    "memory::process_with_a_large_model",
                ])
                .env(FILE, path)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap());
            Process { child, lines }
        }

        fn figure(&mut self) -> String {
            let mut line = String::new();
            while self.lines.read_line(&mut line).unwrap() > 0 {
                if let Some(figure) = line.strip_prefix("figure ") {
                    return figure.trim_end().to_string();
                }
                line.clear();
            }
            panic!("the process ended early");
        }

        fn step(&mut self) {
            self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        }
    }

    #[test]
    fn large_models_are_used_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = large_file(folder.path());
        let mut processes = [Process::start(&path), Process::start(&path)];
        let mut sums = vec![];
        for process in &mut processes {
            let grown: u64 = process.figure().parse().unwrap();
            assert!(
                grown < 4 * 1024,
                "{grown} kB of private memory for a model of 64 MB"
            );
            sums.push(process.figure());
        }
        assert_eq!(sums[0], sums[1]);
        // Both have touched every weight, and both still run.
        for process in &mut processes {
            process.step();
            let figures = process.figure();
            let [rss, shared, dirty, anonymous] =
                serde_json::from_str::<[u64; 4]>(&figures).unwrap();
            assert!(rss > 60 * 1024, "{figures}");
            assert!(shared * 100 > rss * 99, "{figures}");
            assert_eq!((dirty, anonymous), (0, 0), "{figures}");
        }
        for process in &mut processes {
            process.step();
            assert!(process.child.wait().unwrap().success());
        }
    }
}
