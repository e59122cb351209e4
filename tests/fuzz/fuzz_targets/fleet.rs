//! Messages of a broker, and where one is: what is taken for a message goes back into one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use strandline::fleet::{BrokerUrl, Envelope, Outbox};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(url) = text.parse::<BrokerUrl>()
    {
        let shown = url.to_string();
        assert_eq!(shown.parse::<BrokerUrl>().unwrap().to_string(), shown);
    }
    if let Some((envelope, lines)) = Envelope::open(data) {
        let again = envelope.seal(lines).unwrap();
        assert_eq!(Envelope::open(&again), Some((envelope, lines)));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), data).unwrap();
    let settled = Arc::new(AtomicU64::new(u64::MAX));
    let mut outbox = Outbox::open(file.path(), "run", "box", settled).unwrap();
    let lines = outbox.lines(0, 1 << 16).unwrap();
    let message = outbox.envelope(0, &lines).seal(&lines).unwrap();
    assert_eq!(outbox.behind(&message, "").unwrap(), lines.len() as u64);
    let _ = outbox.behind(data, "");
});
