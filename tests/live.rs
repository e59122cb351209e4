//! Calls of a read that came through a pipe leave while the pipe is still open.

use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

#[test]
fn calls_do_not_wait_for_the_end_of_standard_input() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reads.fastq.gz");
    let mut reads = String::new();
    let file = File::open(path).unwrap();
    MultiGzDecoder::new(file)
        .read_to_string(&mut reads)
        .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_strandline"))
        .args(["annotate", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (send, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in stdout.lines() {
            send.send(line.unwrap()).unwrap();
        }
    });
    stdin.write_all(reads.as_bytes()).unwrap();
    stdin.flush().unwrap();
    // Far longer than it takes, and forever if the call waits for the end of the input.
    let wait = Duration::from_secs(120);
    let header = lines.recv_timeout(wait).expect("the header");
    assert!(header.starts_with("#read\t"), "{header}");
    let call = lines.recv_timeout(wait).expect("a call");
    assert!(call.starts_with("sim"), "{call}");
    drop(stdin);
    assert!(child.wait().unwrap().success());
    reader.join().unwrap();
    assert!(lines.iter().count() > 100);
}
