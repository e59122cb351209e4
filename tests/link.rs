//! The program at the end of a link: sockets and a serial port, reads that come back as calls,
//! decisions that go back.
#![cfg(unix)]

use serialport::{SerialPort, TTYPort};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use strandline::lab::replay::{ReadData, load};
use strandline::reads::nucleotide;
use strandline::reads::source::Input;
use strandline::stream::link::Sender;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// A run that a failed test does not leave behind.
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn annotate(arguments: &[&str], output: &Path) -> Running {
    let child = Command::new(env!("CARGO_BIN_EXE_strandline"))
        .args(["annotate", "--tier", "fast", "--threads", "1", "-o"])
        .arg(output)
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Running(Some(child))
}

fn sorted(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn reads(count: usize) -> Vec<ReadData> {
    let mut reads = load(Input::Path(data("reads.fastq.gz"))).unwrap();
    reads.truncate(count);
    reads
}

/// Sends reads, eight at a time, in chunks of 400 bases, those of a channel numbered from 1; gives
/// the bases sent and the seconds it took.
fn send(sender: &mut Sender, reads: &[ReadData]) -> (u64, f64) {
    let never = AtomicBool::new(false);
    let start = Instant::now();
    let mut bases = 0;
    for (group, number) in reads.chunks(8).zip(1..) {
        for (channel, read) in group.iter().enumerate() {
            sender
                .read_start(channel as u16, number, &read.name, &never)
                .unwrap();
        }
        let longest = group.iter().map(|r| r.letters.len()).max().unwrap();
        for from in (0..longest).step_by(400) {
            for (channel, read) in group.iter().enumerate() {
                let to = (from + 400).min(read.letters.len());
                if from < to {
                    let mut codes = vec![];
                    nucleotide::encode(&read.letters[from..to], &mut codes);
                    sender
                        .bases(channel as u16, number, from as u64, &codes, &never)
                        .unwrap();
                    bases += codes.len() as u64;
                }
            }
        }
        for (channel, read) in group.iter().enumerate() {
            let (length, reason) = (
                read.letters.len() as u64,
                firmware_bridge::EndReason::Complete,
            );
            sender
                .read_end(channel as u16, number, length, reason, &never)
                .unwrap();
        }
    }
    sender.finish(&never).unwrap();
    (bases, start.elapsed().as_secs_f64())
}

/// The calls of the same reads from a file.
fn expected(folder: &Path, reads: &[ReadData]) -> Vec<String> {
    let file = folder.join("reads.fa");
    let mut text = vec![];
    for read in reads {
        text.push(b'>');
        text.extend_from_slice(&read.name);
        text.push(b'\n');
        text.extend_from_slice(&read.letters);
        text.push(b'\n');
    }
    std::fs::write(&file, text).unwrap();
    let output = folder.join("file.tsv");
    summary(annotate(&[file.to_str().unwrap()], &output));
    sorted(&output)
}

fn summary(mut child: Running) -> String {
    let run = child.0.take().unwrap().wait_with_output().unwrap();
    let text = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{text}");
    text
}

#[test]
fn calls_over_a_socket_are_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let reads = reads(40);
    let socket = folder.path().join("s");
    let url = format!("unix://{}", socket.display());
    let output = folder.path().join("link.tsv");
    let child = annotate(&[&format!("{url}?once")], &output);
    let mut sender = Sender::connect(&url, Duration::from_secs(60)).unwrap();
    let (bases, _) = send(&mut sender, &reads);
    // Calls go back as they are made; the program closes the connection when it is done.
    while sender.poll().is_ok() {}
    let said = summary(child);
    assert!(
        said.contains("40 in = 40 out + 0 rejected + 0 shed"),
        "{said}"
    );
    assert!(said.contains(&format!("{bases} bases")), "{said}");
    let calls = sorted(&output);
    assert!(calls.len() > 50);
    assert_eq!(calls, expected(folder.path(), &reads));
    assert_eq!(sender.calls, calls.len() as u64 - 1);
    assert!(!socket.exists());
}

#[test]
fn a_serial_port_carries_a_flow_cell() {
    let folder = tempfile::tempdir().unwrap();
    let reads = reads(150);
    let (mut port, slave) = TTYPort::pair().unwrap();
    let path = slave.name().unwrap();
    // The program takes the port for itself.
    drop(slave);
    port.set_timeout(Duration::from_millis(20)).unwrap();
    let output = folder.path().join("serial.tsv");
    let child = annotate(&[&format!("serial://{path}?baud=921600&once")], &output);
    // A pseudo-terminal whose other end is closed cannot be read: wait until the program has opened
    // it.
    let mut sender = Sender::new(Box::new(Patient(port)), 1);
    let (bases, seconds) = send(&mut sender, &reads);
    let said = summary(child);
    println!(
        "{:.0} kb/s of bases over a pseudo-terminal",
        bases as f64 / seconds / 1e3
    );
    assert!(
        said.contains("150 in = 150 out + 0 rejected + 0 shed"),
        "{said}"
    );
    assert!(!said.contains("broken"), "{said}");
    assert_eq!(sorted(&output), expected(folder.path(), &reads));
}

fn is_closed(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe || error.raw_os_error() == Some(libc::EIO)
}

/// A pseudo-terminal before anybody has opened its other end.
struct Patient(TTYPort);

impl std::io::Read for Patient {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(out) {
            Err(e) if is_closed(&e) => {
                std::thread::sleep(Duration::from_millis(20));
                Err(std::io::ErrorKind::TimedOut.into())
            }
            other => other,
        }
    }
}

impl std::io::Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0.write(bytes) {
            // Nobody receives it; it is sent again.
            Err(e) if is_closed(&e) => Ok(bytes.len()),
            other => other,
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn decisions_go_back_and_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    let text = "default = \"eject\"\n[[rule]]\nkinds = [\"donor\", \"acceptor\"]\n\
                at_least = 1\nwithin = 3000\ndecision = \"keep\"\n";
    std::fs::write(&policy, text).unwrap();
    let decisions = folder.path().join("decisions.tsv");
    let output = folder.path().join("calls.tsv");
    let socket = format!("unix://{}", folder.path().join("s").display());
    let child = annotate(
        &[
            &format!("{socket}?once"),
            "--policy",
            policy.to_str().unwrap(),
            "--decisions",
            decisions.to_str().unwrap(),
            "--metrics",
            "127.0.0.1:0",
        ],
        &output,
    );
    // An eighth of a megabase a second, so that a slow machine decides before the reads are over.
    let played = Command::new(env!("CARGO_BIN_EXE_strandline"))
        .arg("replay")
        .arg(data("reads.fastq.gz"))
        .args(["--channels", "40", "--speed", "8", "--to", &socket])
        .output()
        .unwrap();
    let played = String::from_utf8(played.stderr).unwrap();
    let said = summary(child);
    assert!(said.contains("150 in = 150 out"), "{said}");
    assert!(
        said.contains(" donor, ") && said.contains(" acceptor, "),
        "{said}"
    );
    let lines = sorted(&decisions);
    assert_eq!(lines.len(), 151, "a decision a read, and a header");
    let count = |what: &str| {
        lines
            .iter()
            .filter(|l| l.split('\t').nth(3) == Some(what))
            .count()
    };
    let (keep, eject) = (count("keep"), count("eject"));
    assert_eq!(keep + eject, 150);
    assert!(keep > 10 && eject > 10, "{keep} kept, {eject} ejected");
    // Some were decided on by their ends, when there was nothing left to eject.
    let ejected: usize = played
        .split(" calls, ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        ejected > 0 && ejected <= eject,
        "{ejected} of {eject}: {played}"
    );
}

/// Replays all reads to `url`, so fast that it takes some five seconds.
fn replay(url: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_strandline"))
        .arg("replay")
        .arg(data("reads.fastq.gz"))
        .args(["--channels", "40", "--speed", "8", "--to", url])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn signal(child: &Running, signal: &str) {
    let id = child.0.as_ref().unwrap().id().to_string();
    let status = Command::new("kill").args([signal, &id]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_host_that_stands_still_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("calls.tsv");
    let socket = format!("unix://{}", folder.path().join("s").display());
    let child = annotate(&[&format!("{socket}?once")], &output);
    let played = replay(&socket);
    std::thread::sleep(Duration::from_secs(2));
    signal(&child, "-STOP");
    std::thread::sleep(Duration::from_secs(5));
    signal(&child, "-CONT");
    let played = played.wait_with_output().unwrap();
    let played_said = String::from_utf8(played.stderr).unwrap();
    let said = summary(child);
    assert!(played.status.success(), "{played_said}{said}");
    assert!(
        said.contains("150 in = 150 out + 0 rejected + 0 shed"),
        "{said}"
    );
    assert!(!said.contains("partial"), "{said}");
    assert_eq!(sorted(&output), expected(folder.path(), &reads(150)));
}

#[test]
fn a_replay_to_a_host_that_loses_sight_of_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("calls.tsv");
    let socket = format!("unix://{}", folder.path().join("s").display());
    let child = annotate(&[&format!("{socket}?once")], &output);
    let played = Running(Some(replay(&socket)));
    // Until calls of the first reads are there: it is in the middle then.
    let part = folder.path().join("calls.tsv.part");
    while std::fs::metadata(&part).map_or(0, |about| about.len()) < 200 {
        std::thread::sleep(Duration::from_millis(20));
    }
    // It is the board that stands still: after three seconds its place is another's.
    signal(&played, "-STOP");
    std::thread::sleep(Duration::from_secs(5));
    signal(&played, "-CONT");
    let mut played = played;
    let played = played.0.take().unwrap().wait_with_output().unwrap();
    let played_said = String::from_utf8(played.stderr).unwrap();
    assert_eq!(played.status.code(), Some(1), "{played_said}");
    assert!(
        played_said.contains("ended the connection"),
        "{played_said}"
    );
    let said = summary(child);
    assert!(said.contains("silent for 3 s"), "{said}");
    assert!(said.contains("0 rejected + 0 shed"), "{said}");
}

/// What a program says on standard error, line by line, until it ends.
struct Said {
    child: Running,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStderr>>,
    text: String,
}

impl Said {
    fn by(mut child: Running) -> Said {
        let stderr = child.0.as_mut().unwrap().stderr.take().unwrap();
        Said {
            child,
            lines: std::io::BufRead::lines(std::io::BufReader::new(stderr)),
            text: String::new(),
        }
    }

    /// What stands behind `before` in the next line that has it.
    fn until(&mut self, before: &str) -> String {
        for line in &mut self.lines {
            let line = line.unwrap();
            self.text += &format!("{line}\n");
            if let Some((_, behind)) = line.split_once(before) {
                return behind.trim().to_string();
            }
        }
        panic!("no `{before}` in: {}", self.text);
    }

    fn end(mut self) -> String {
        for line in self.lines {
            self.text += &format!("{}\n", line.unwrap());
        }
        let status = self.child.0.take().unwrap().wait().unwrap();
        assert!(status.success(), "{}", self.text);
        self.text
    }
}

#[test]
fn a_client_in_another_language_is_understood() {
    let python = Command::new("python3").arg("--version").output();
    assert!(
        python.is_ok_and(|output| output.status.success()),
        "this test needs python3, whose standard library is enough"
    );
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("calls.tsv");
    let mut host = Said::by(annotate(&["tcp://127.0.0.1:0?once"], &output));
    // A port that the system chose is known from the log.
    let at = host.until("listens on ");
    // A scan of the port is no board, and the run goes on.
    drop(std::net::TcpStream::connect(&at).unwrap());
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/link_client.py");
    let ran = Command::new("python3")
        .arg(client)
        .arg(format!("tcp://{at}"))
        .arg(data("reads.fastq.gz"))
        // Numbers may begin anywhere, and wrap.
        .args(["--first-number", "4294967290"])
        .output()
        .unwrap();
    let client_said = String::from_utf8(ran.stdout).unwrap();
    let client_error = String::from_utf8(ran.stderr).unwrap();
    let said = host.end();
    assert!(ran.status.success(), "{client_said}{client_error}{said}");
    assert!(
        said.contains("150 in = 150 out + 0 rejected + 0 shed"),
        "{said}"
    );
    assert!(!said.contains("count up"), "{said}");
    let calls = sorted(&output);
    assert_eq!(calls, expected(folder.path(), &reads(150)));
    let all = format!("150 reads, 0 ejected, {} calls", calls.len() - 1);
    assert!(client_said.starts_with(&all), "{client_said}");
}

#[test]
fn no_decision_is_lost_when_calls_flood() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    std::fs::write(&policy, "default = \"keep\"\nrule = []\n").unwrap();
    let decisions = folder.path().join("decisions.tsv");
    let socket = format!("unix://{}", folder.path().join("s").display());
    let child = annotate(
        &[
            &format!("{socket}?once"),
            "--min-score",
            "0.0001",
            "--policy",
            policy.to_str().unwrap(),
            "--decisions",
            decisions.to_str().unwrap(),
        ],
        &folder.path().join("calls.tsv"),
    );
    let mut sender = Sender::connect(&socket, Duration::from_secs(60)).unwrap();
    send(&mut sender, &reads(150));
    while sender.poll().is_ok() {}
    let said = summary(child);
    assert!(said.contains("150 in = 150 out"), "{said}");
    let mut arrived: Vec<(u16, u32)> = sender
        .decisions
        .iter()
        .map(|d| (d.channel, d.read))
        .collect();
    arrived.sort_unstable();
    arrived.dedup();
    assert_eq!(arrived.len(), 150);
    assert_eq!(sender.undelivered(), None);
}
