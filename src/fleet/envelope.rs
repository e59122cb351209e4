//! What stands before the lines of a message.

use serde::{Deserialize, Serialize};

/// The first line of a message: a JSON object that says which lines follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The run that wrote them.
    pub run: String,
    /// The machine or program that it ran on.
    pub source: String,
    /// Where they begin in the run's output, in bytes.
    pub offset: u64,
    /// Their length in bytes: the next message begins at the sum.
    pub bytes: u64,
    /// Their number.
    pub lines: u64,
}

impl Envelope {
    /// The id by which a broker knows the message for a while.
    pub fn id(&self) -> String {
        format!("{}:{}:{}", self.run, self.source, self.offset)
    }

    /// A message of these lines.
    pub fn seal(&self, lines: &[u8]) -> serde_json::Result<Vec<u8>> {
        let mut message = serde_json::to_vec(self)?;
        message.push(b'\n');
        message.extend_from_slice(lines);
        Ok(message)
    }

    /// The envelope of a message, and its lines; `None` if it is no such message.
    pub fn open(message: &[u8]) -> Option<(Envelope, &[u8])> {
        let end = message.iter().position(|&byte| byte == b'\n')?;
        let envelope: Envelope = serde_json::from_slice(&message[..end]).ok()?;
        let lines = &message[end + 1..];
        let whole = envelope.bytes == lines.len() as u64;
        whole.then_some((envelope, lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_out_as_it_went_in() {
        let envelope = Envelope {
            run: "r1".into(),
            source: "box \"7\"\n".into(),
            offset: 1 << 40,
            bytes: 6,
            lines: 2,
        };
        let message = envelope.seal(b"{}\n{}\n").unwrap();
        assert_eq!(Envelope::open(&message), Some((envelope, &b"{}\n{}\n"[..])));
        for broken in [&message[..message.len() - 1], b"", b"\n", b"{}\n{}\n"] {
            assert_eq!(Envelope::open(broken), None);
        }
    }
}
