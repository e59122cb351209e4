//! The numbers of a run in Prometheus' text format (version 0.0.4), over HTTP.

use super::{Metrics, Summary};
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a client may take, from its connection to the last byte of its answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the endpoint looks for clients, and for what they say.
const LOOK: Duration = Duration::from_millis(50);
const LISTEN: Duration = Duration::from_millis(2);

/// Clients at a time; the one that has been there longest makes room for another.
const CLIENTS: usize = 16;

/// Bytes of a request that are waited for.
const REQUEST: usize = 4096;

/// Answers every request with the numbers of the moment, until it is dropped. Nothing that a client
/// does, or leaves undone, keeps another one waiting, or the end of the run: one thread serves all,
/// and never waits for one of them.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Listens on `address`. `models` are the models in use, as `name/version`.
    ///
    /// # Errors
    /// Where the address cannot be listened on, or no thread started.
    pub fn new(
        address: SocketAddr,
        metrics: Arc<Metrics>,
        models: Vec<String>,
    ) -> io::Result<Endpoint> {
        let listener = TcpListener::bind(address)?;
        // A blocking accept could not be ended.
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let ended = Arc::new(AtomicBool::new(false));
        let own = ended.clone();
        let thread = std::thread::Builder::new()
            .name("metrics".into())
            .spawn(move || {
                let answer = || answer(&metrics, &models);
                let mut clients: Vec<Client> = vec![];
                while !own.load(Ordering::Relaxed) {
                    // A few at a time: those that are there are to get on, too.
                    for _ in 0..CLIENTS {
                        // A client that went away is no concern of the run.
                        let Ok(client) = listener.accept().and_then(Client::new) else {
                            break;
                        };
                        if clients.len() == CLIENTS {
                            clients.remove(0);
                        }
                        clients.push(client);
                    }
                    clients.retain_mut(|client| client.goes_on(answer));
                    let idle = clients.is_empty();
                    std::thread::sleep(if idle { LOOK } else { LISTEN });
                }
            })?;
        Ok(Endpoint {
            address,
            ended,
            thread: Some(thread),
        })
    }

    /// Where it listens; the port that was chosen where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and there is nothing to do if it did.
            let _ = thread.join();
        }
    }
}

/// A client on its way.
struct Client {
    stream: TcpStream,
    until: Instant,
    request: Vec<u8>,
    /// What is to be sent, and how much of it was.
    answer: Vec<u8>,
    sent: usize,
}

impl Client {
    fn new((stream, _): (TcpStream, SocketAddr)) -> io::Result<Client> {
        stream.set_nonblocking(true)?;
        Ok(Client {
            stream,
            until: Instant::now() + PATIENCE,
            request: Vec::with_capacity(512),
            answer: vec![],
            sent: 0,
        })
    }

    /// Does what can be done without waiting; false when the client is done with.
    fn goes_on(&mut self, answer: impl Fn() -> Vec<u8>) -> bool {
        let waits = match self.serve(answer) {
            Ok(()) => false,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        waits && Instant::now() < self.until
    }

    fn serve(&mut self, answer: impl Fn() -> Vec<u8>) -> io::Result<()> {
        // The request's content does not matter, but unread bytes would reset the connection.
        while self.answer.is_empty() {
            let mut bytes = [0; 512];
            let n = self.stream.read(&mut bytes)?;
            self.request.extend(&bytes[..n]);
            let over = self.request.windows(4).any(|end| end == b"\r\n\r\n");
            if n == 0 || over || self.request.len() >= REQUEST {
                self.answer = answer();
            }
        }
        while self.sent < self.answer.len() {
            match self.stream.write(&self.answer[self.sent..])? {
                0 => return Err(ErrorKind::WriteZero.into()),
                n => self.sent += n,
            }
        }
        Ok(())
    }
}

fn answer(metrics: &Metrics, models: &[String]) -> Vec<u8> {
    let body = metrics.summary().prometheus(models);
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4";
    format!("{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into()
}

/// A value of a label, escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

impl Summary {
    /// The numbers in Prometheus' text format.
    pub fn prometheus(&self, models: &[String]) -> String {
        let mut text = String::with_capacity(4096);
        let mut family = |name: &str, kind: &str, help: &str, rows: &[(String, f64)]| {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "# HELP strandline_{name} {help}\n# TYPE strandline_{name} {kind}"
            );
            for (labels, value) in rows {
                let _ = writeln!(text, "strandline_{name}{labels} {value}");
            }
        };
        let one = |value: u64| vec![(String::new(), value as f64)];
        let by = |key: &str, rows: &[(&str, u64)]| -> Vec<(String, f64)> {
            let row =
                |&(name, n): &(&str, u64)| (format!("{{{key}=\"{}\"}}", label(name)), n as f64);
            rows.iter().map(row).collect()
        };
        family(
            "reads_in_total",
            "counter",
            "Reads begun.",
            &one(self.reads_in),
        );
        let ends = [
            ("out", self.reads_out),
            ("rejected", self.rejected),
            ("shed", self.shed),
            ("passed_over", self.passed),
        ];
        let help = "Reads that are over, by what became of them.";
        family("reads_total", "counter", help, &by("end", &ends));
        family(
            "bases_in_total",
            "counter",
            "Bases received.",
            &one(self.bases_in),
        );
        let live = self.live.as_ref();
        let without = live.map_or(0, |l| l.without_context);
        let bases = [
            ("scored", self.bases_out.saturating_sub(without)),
            ("without_context", without),
            ("shed", live.map_or(0, |l| l.bases_shed)),
            ("rejected", live.map_or(0, |l| l.bases_rejected)),
        ];
        let help = "Bases dealt with, by what became of them.";
        family("bases_total", "counter", help, &by("end", &bases));
        let calls: Vec<_> = self.calls.clone();
        family(
            "calls_total",
            "counter",
            "Calls written.",
            &by("kind", &calls),
        );
        let help = "Pieces in the queues.";
        family("queued", "gauge", help, &one(self.queued));
        let seconds = self.elapsed.as_secs_f64();
        let help = "Since the start of the run.";
        family(
            "elapsed_seconds",
            "gauge",
            help,
            &[(String::new(), seconds)],
        );
        let quantiles = |of: Option<[Duration; 4]>| -> Vec<(String, f64)> {
            let named = ["0.5", "0.9", "0.99", "0.999"].into_iter();
            let rows = named.zip(of.into_iter().flatten());
            rows.map(|(q, d)| (format!("{{quantile=\"{q}\"}}"), d.as_secs_f64()))
                .collect()
        };
        let help = "From bytes received to calls written.";
        family("latency_seconds", "summary", help, &quantiles(self.latency));
        let models: Vec<(&str, u64)> = models.iter().map(|m| (&**m, 1)).collect();
        family("model", "gauge", "Models in use.", &by("model", &models));
        let Some(live) = live else {
            return text;
        };
        let help = "Of the reads out, those with bases missing.";
        family("reads_partial_total", "counter", help, &one(live.partial));
        let help = "Of the bases scored, those of reads that are out with bases missing.";
        let partial = one(live.bases_partial);
        family("bases_partial_total", "counter", help, &partial);
        let help = "Pieces whose calls were written after their deadline.";
        family("late_total", "counter", help, &one(live.late));
        let decisions = [("keep", live.keep), ("eject", live.eject)];
        family(
            "decisions_total",
            "counter",
            "Reads decided on.",
            &by("decision", &decisions),
        );
        let help = "From bytes received to a decision.";
        family(
            "decision_seconds",
            "summary",
            help,
            &quantiles(live.to_decision),
        );
        let help = "Workers whose fast tier stands in.";
        family(
            "fast_tier_workers",
            "gauge",
            help,
            &one(live.fast_lanes.into()),
        );
        let help = "Bytes that reads keep of what was computed.";
        family("kept_bytes", "gauge", help, &one(live.kept));
        let help = "Reads that had no room for that.";
        let recomputed = one(live.recomputed);
        family("reads_recomputed_total", "counter", help, &recomputed);
        let help = "How often the fast tier came or went.";
        family(
            "tier_changes_total",
            "counter",
            help,
            &one(live.tier_changes),
        );
        let reads: Vec<_> = live.sources.iter().map(|s| (&*s.name, s.reads)).collect();
        family(
            "source_reads_total",
            "counter",
            "Reads begun, by source.",
            &by("source", &reads),
        );
        let bases: Vec<_> = live.sources.iter().map(|s| (&*s.name, s.bases)).collect();
        family(
            "source_bases_total",
            "counter",
            "Bases received, by source.",
            &by("source", &bases),
        );
        let own: Vec<(String, f64)> = live
            .sources
            .iter()
            .flat_map(|s| {
                s.own.iter().map(move |(counter, n)| {
                    (
                        format!("{{source=\"{}\",counter=\"{counter}\"}}", label(&s.name)),
                        *n as f64,
                    )
                })
            })
            .collect();
        family(
            "source_total",
            "counter",
            "What a source counts itself.",
            &own,
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    const ANY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

    fn scraped(endpoint: &Endpoint) -> String {
        let mut client = TcpStream::connect(endpoint.address()).unwrap();
        client
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_scraper_gets_the_numbers() {
        let metrics = Arc::new(Metrics::new());
        metrics.live([("tcp \"a\"".to_string(), None)].into_iter(), None);
        metrics.received(0, 3, 700);
        let endpoint = Endpoint::new(ANY, metrics, vec!["splice-fast/2".into()]).unwrap();
        let text = scraped(&endpoint);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        for line in [
            "# TYPE strandline_reads_in_total counter",
            "strandline_reads_in_total 3",
            "strandline_bases_total{end=\"shed\"} 0",
            "strandline_source_bases_total{source=\"tcp \\\"a\\\"\"} 700",
            "strandline_model{model=\"splice-fast/2\"} 1",
        ] {
            assert!(body.lines().any(|l| l == line), "{line} in\n{body}");
        }
    }

    #[test]
    fn clients_that_drip_or_say_nothing_delay_neither_others_nor_the_end() {
        let endpoint = Endpoint::new(ANY, Arc::new(Metrics::new()), vec![]).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let connect = || TcpStream::connect(endpoint.address()).unwrap();
        let drips = (0..2 * CLIENTS).map(|_| {
            let (mut client, over) = (connect(), over.clone());
            std::thread::spawn(move || {
                // A byte every tenth of a second, for longer than anybody waits.
                while !over.load(Ordering::Relaxed) && client.write_all(b"G").is_ok() {
                    std::thread::sleep(Duration::from_millis(100));
                }
            })
        });
        let drips: Vec<_> = drips.collect();
        let silent: Vec<TcpStream> = (0..8).map(|_| connect()).collect();
        let begun = Instant::now();
        for _ in 0..3 {
            assert!(scraped(&endpoint).contains("strandline_reads_in_total 0"));
        }
        let scrapes = begun.elapsed();
        assert!(scrapes < Duration::from_secs(1), "{scrapes:?}");
        // One that drips is done with in the end.
        let mut client = connect();
        let begun = Instant::now();
        while client.write_all(b"G").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
            assert!(begun.elapsed() < 4 * PATIENCE);
        }
        let mut client = connect();
        client.write_all(b"GET").unwrap();
        let begun = Instant::now();
        drop(endpoint);
        assert!(begun.elapsed() < Duration::from_millis(500));
        over.store(true, Ordering::Relaxed);
        drips.into_iter().for_each(|drip| drip.join().unwrap());
        drop(silent);
    }
}
