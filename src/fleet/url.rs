//! Where a broker is, and which of its streams is meant.

use std::str::FromStr;

/// The most bytes of a stream's name, a run's or a source's.
const LONGEST: usize = 64;

/// `nats://[USER:PASSWORD@]HOST[:PORT]/STREAM`, or `tls://` for the same over TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// The server, without the stream and without whoever connects.
    pub server: String,
    /// The user and the password, or a token and nothing.
    pub user: Option<(String, Option<String>)>,
    /// The stream's name, which its subjects begin with.
    pub stream: String,
}

/// Without a password.
impl std::fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.server, self.stream)
    }
}

/// A URL that names no stream of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected nats://HOST:PORT/STREAM, the stream's name of up to 64 letters, digits, '-' and '_'"
)]
pub struct UrlError;

impl FromStr for BrokerUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<BrokerUrl, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError)?;
        let (host, stream) = rest.rsplit_once('/').ok_or(UrlError)?;
        let (user, host) = match host.rsplit_once('@') {
            Some((user, host)) => (Some(named(user).ok_or(UrlError)?), host),
            None => (None, host),
        };
        if !matches!(scheme, "nats" | "tls") || !is_host(host) || !is_token(stream) {
            return Err(UrlError);
        }
        Ok(BrokerUrl {
            server: format!("{scheme}://{host}"),
            user,
            stream: stream.to_owned(),
        })
    }
}

/// A URL, that of no stream too, without its password: for messages.
pub fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://...@{rest}"),
        (None, Some((_, rest))) => format!("...@{rest}"),
        _ => url.to_owned(),
    }
}

/// `USER:PASSWORD` or a token, whose odd characters are percent-encoded.
fn named(text: &str) -> Option<(String, Option<String>)> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(decoded(password)?)),
        None => (text, None),
    };
    (!user.is_empty()).then_some((decoded(user)?, password))
}

fn decoded(text: &str) -> Option<String> {
    let mut out = vec![];
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(out).ok()
}

/// True for `HOST[:PORT]`, as far as that can be seen without asking for it.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "/?#".contains(c);
    !host.is_empty() && !text.contains(is_odd) && port.is_none_or(is_port)
}

/// True for a name that can be a word of a subject, of a stream and of an MQTT topic alike.
pub fn is_token(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_and_a_stream() {
        for (url, shown) in [
            ("nats://127.0.0.1:4222/CALLS", "nats://127.0.0.1:4222/CALLS"),
            ("nats://hub/CALLS", "nats://hub/CALLS"),
            ("tls://me:secret@hub:4443/R_1-a", "tls://hub:4443/R_1-a"),
            ("nats://[::1]:4222/C", "nats://[::1]:4222/C"),
        ] {
            let parsed: BrokerUrl = url.parse().unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert!(!format!("{parsed:?}").contains("secret"));
        }
        for (url, user, password) in [
            ("nats://me:secret@hub/C", "me", Some("secret")),
            ("nats://a%40b:p%2Fw:x@hub/C", "a@b", Some("p/w:x")),
            ("nats://token@hub/C", "token", None),
        ] {
            let parsed: BrokerUrl = url.parse().unwrap();
            let expected = (user.to_owned(), password.map(str::to_owned));
            assert_eq!(
                (parsed.user, &*parsed.server),
                (Some(expected), "nats://hub")
            );
        }
        for url in [
            "",
            "CALLS",
            "nats://hub",
            "nats://hub/",
            "nats:///CALLS",
            "nats://hub/a.b",
            "nats://hub/a/b",
            "nats://hub/C>",
            "http://hub/CALLS",
            "nats://hub:port/CALLS",
            "nats://hub:0/CALLS",
            "nats://hub:99999/CALLS",
            "nats://:4222/CALLS",
            "nats://me:secret@/CALLS",
            "nats://:secret@hub/CALLS",
            "nats://me:%zz@hub/CALLS",
            "nats://hub?x/CALLS",
            "nats://a b/CALLS",
        ] {
            assert_eq!(url.parse::<BrokerUrl>(), Err(UrlError), "{url}");
            assert!(!without_password(url).contains("secret"), "{url}");
        }
        let shown = without_password("http://me:se@cret/x@hub/a.b");
        assert_eq!(shown, "http://...@hub/a.b");
    }
}
