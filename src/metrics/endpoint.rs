//! What a run tells over HTTP while it goes on: its numbers for Prometheus, and the live page.

use super::Metrics;
use super::page::{History, Recent, page};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
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

/// Answers requests with the numbers of the moment, until it is dropped. Nothing that a client
/// does, or leaves undone, keeps another one waiting, or the end of the run: one thread serves all,
/// and never waits for one of them.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Listens on `address`, and answers every request with the numbers for Prometheus. `models`
    /// are the models in use, as `name/version`.
    ///
    /// # Errors
    /// Where the address cannot be listened on, or no thread started.
    pub fn new(
        address: SocketAddr,
        metrics: Arc<Metrics>,
        models: Vec<String>,
    ) -> io::Result<Endpoint> {
        Endpoint::serve(address, move |_| (), move |_, _| numbers(&metrics, &models))
    }

    /// Listens on `address` with the live page at `/`, its numbers at `/numbers.json`, and those
    /// for Prometheus at `/metrics`. The page shows the calls that `recent` is given.
    ///
    /// # Errors
    /// As [`Endpoint::new`].
    pub fn with_page(
        address: SocketAddr,
        metrics: Arc<Metrics>,
        models: Vec<String>,
        recent: Arc<Recent>,
    ) -> io::Result<Endpoint> {
        let of_this_machine = address.ip().to_canonical().is_loopback();
        let own = metrics.clone();
        let look = move |history: &mut History| history.look(&own);
        Endpoint::serve(address, look, move |request, history| {
            // A page of somebody else's, whose name was made to lead here, is none of ours.
            if of_this_machine && !is_by_address(request) {
                let text = "ask by address: 127.0.0.1, [::1] or localhost\n";
                return answer("403 Forbidden", "text/plain", text);
            }
            match path(request) {
                "/" => page(),
                "/numbers.json" => {
                    let numbers = history.numbers(&metrics, &models, &recent);
                    answer("200 OK", "application/json", &numbers)
                }
                "/metrics" => numbers(&metrics, &models),
                _ => answer(
                    "404 Not Found",
                    "text/plain",
                    "there is /, /numbers.json, /metrics\n",
                ),
            }
        })
    }

    /// Serves answers to requests. `look` is called some times a second.
    fn serve(
        address: SocketAddr,
        look: impl Fn(&mut History) + Send + 'static,
        answer: impl Fn(&[u8], &History) -> Vec<u8> + Send + 'static,
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
                let mut history = History::default();
                let mut clients: Vec<Client> = vec![];
                while !own.load(Ordering::Relaxed) {
                    look(&mut history);
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
                    let answer = |request: &[u8]| answer(request, &history);
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
    fn goes_on(&mut self, answer: impl Fn(&[u8]) -> Vec<u8>) -> bool {
        let waits = match self.serve(answer) {
            Ok(()) => false,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        waits && Instant::now() < self.until
    }

    fn serve(&mut self, answer: impl Fn(&[u8]) -> Vec<u8>) -> io::Result<()> {
        // What follows the first line hardly matters, but unread bytes would reset the connection.
        while self.answer.is_empty() {
            let mut bytes = [0; 512];
            let n = self.stream.read(&mut bytes)?;
            self.request.extend(&bytes[..n]);
            let over = self.request.windows(4).any(|end| end == b"\r\n\r\n");
            if n == 0 || over || self.request.len() >= REQUEST {
                self.answer = answer(&self.request);
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

/// The path that is asked for, without what stands behind `?`.
fn path(request: &[u8]) -> &str {
    let line = request
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let mut words = std::str::from_utf8(line).unwrap_or_default().split(' ');
    let path = words.nth(1).unwrap_or_default();
    path.split('?').next().unwrap_or_default()
}

/// True where the machine is named by an address, or as `localhost`, or not at all.
fn is_by_address(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let host = lines.find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let Some(host) = host.map(|(_, host)| host.trim()) else {
        return true;
    };
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = without_port.trim_start_matches('[').trim_end_matches(']');
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    name.eq_ignore_ascii_case("localhost") || is_address(name) || is_address(host)
}

/// An answer with a head.
pub(super) fn answer(status: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .into()
}

/// The numbers for Prometheus.
fn numbers(metrics: &Metrics, models: &[String]) -> Vec<u8> {
    let body = metrics.summary().prometheus(models);
    answer("200 OK", "text/plain; version=0.0.4", &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    const ANY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

    fn scraped(endpoint: &Endpoint) -> String {
        asked(endpoint, "/metrics", "x")
    }

    fn asked(endpoint: &Endpoint, path: &str, host: &str) -> String {
        let mut client = TcpStream::connect(endpoint.address()).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
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

    #[test]
    fn the_page_and_its_numbers_are_there() {
        let metrics = Arc::new(Metrics::new());
        metrics.kinds(&["donor", "acceptor"], 2);
        metrics.live([("unix:///b".to_string(), None)].into_iter(), None);
        metrics.received(0, 5, 900);
        metrics.calls([1, 1].into_iter());
        let recent = Arc::new(Recent::default());
        recent.add("read <1>", [("acceptor", '+', 7..8, 0.25)].into_iter());
        let models = vec!["splice-fast/2".to_string()];
        let endpoint = Endpoint::with_page(ANY, metrics.clone(), models, recent).unwrap();
        let page = asked(&endpoint, "/", "127.0.0.1:80");
        assert!(
            page.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/html"),
            "{page}"
        );
        assert!(page.contains("Content-Security-Policy: default-src 'none'"));
        assert!(page.ends_with("</html>\n"), "cut off");
        std::thread::sleep(Duration::from_millis(1200));
        let text = asked(&endpoint, "/numbers.json?1", "localhost");
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        let numbers: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(numbers["reads"]["in"], 5);
        assert_eq!(numbers["reads"]["open"], 5);
        assert_eq!(
            numbers["calls"],
            serde_json::json!([["donor", 0], ["acceptor", 2]])
        );
        assert_eq!(numbers["live"]["sources"][0]["bases"], 900);
        assert_eq!(numbers["models"][0], "splice-fast/2");
        assert_eq!(numbers["recent"][0]["read"], "read <1>");
        assert!(!numbers["history"].as_array().unwrap().is_empty(), "{body}");
        assert!(asked(&endpoint, "/metrics", "[::1]:9").contains("strandline_reads_in_total 5"));
        assert!(asked(&endpoint, "/other", "::1").starts_with("HTTP/1.1 404"));
        // What a name leads here that is none of this machine's.
        assert!(asked(&endpoint, "/numbers.json", "evil.example").starts_with("HTTP/1.1 403"));
    }
}
