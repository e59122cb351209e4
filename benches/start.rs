//! From nothing to the first call: a process that annotates one read, and a built-in model that is
//! opened and run.

use criterion::{Criterion, criterion_group, criterion_main};
use std::fs;
use std::process::Command;
use std::time::Duration;
use strandline::annotate::Task;
use strandline::annotate::builtin;
use strandline::model::manifest::Tier;

/// An exon's end and the beginning of an intron, from the documentation's example.
const READ: &str = "GATTACAGGTAAGTCCTTTTTCTCTCCCTGCAGGATCC";

fn process(c: &mut Criterion) {
    let path = std::env::temp_dir().join(format!("strandline-start-{}.fa", std::process::id()));
    fs::write(&path, format!(">read\n{READ}\n")).expect("a file");
    let run = || {
        let output = Command::new(env!("CARGO_BIN_EXE_strandline"))
            .args(["annotate", "-q", "--min-score", "0", "--threads", "1"])
            .arg(&path)
            .output()
            .expect("the program");
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(
            text.lines().any(|line| line.starts_with("read\t")),
            "{text}"
        );
        text.len()
    };
    c.bench_function("start/process_to_last_call", |b| b.iter(run));
    let _ = fs::remove_file(&path);
}

fn open(c: &mut Criterion) {
    let codes = [0u8; 100];
    for task in Task::ALL {
        c.bench_function(&format!("start/{task}_opened_and_run"), |b| {
            b.iter(|| {
                let model = builtin::model(task, Tier::Auto).expect("a built-in model");
                let mut runner = model.spawn().expect("a runner");
                let length = if task.is_scan() { 100 } else { 99 };
                let scores = runner.run(&codes[..length]).expect("scores");
                // A cascade gives minus infinity where its second network did not look.
                let passed_over = task == Task::Splice && scores[0] == f32::NEG_INFINITY;
                assert!(scores[0].is_finite() || passed_over);
                scores[0]
            });
        });
    }
}

criterion_group! {
    name = start_benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = process, open
}
criterion_main!(start_benches);
