//! What stands on a command line for a link.

use super::network::Network;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// The baud rate where none is given: 369 kb/s of bases.
const BAUD: u32 = 921_600;

/// Most boards of one link.
const BOARDS: usize = 64;

/// Why a URL is no link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url}: {reason}")]
pub struct UrlError {
    /// As given.
    pub url: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A link, by its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkUrl {
    /// Where it leads.
    pub place: Place,
    /// The source ends with the first connection, or when the board says that no more reads come.
    pub once: bool,
    /// Boards that may be there at a time; 1 for a serial port.
    pub boards: usize,
    /// Who may connect; everybody who can where it is empty, which only this machine's own
    /// addresses allow.
    pub from: Vec<Network>,
}

/// Where a link leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A serial port.
    Serial {
        /// The device file, or `COM3`.
        path: String,
        /// Bits a second.
        baud: u32,
    },
    /// A TCP port.
    Tcp {
        /// The address.
        address: SocketAddr,
    },
    /// A socket file.
    Unix {
        /// The file.
        path: PathBuf,
    },
}

impl FromStr for LinkUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<LinkUrl, UrlError> {
        let wrong = |reason: &str| UrlError {
            url: url.to_string(),
            reason: reason.to_string(),
        };
        let known = "serial:///DEVICE, tcp://HOST:PORT or unix:///PATH";
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong(known))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut once, mut any, mut baud) = (false, false, None);
        let (mut boards, mut from) = (1, vec![]);
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=').unwrap_or((option, "")) {
                ("once", "") => once = true,
                ("bind", "any") if scheme == "tcp" => any = true,
                ("baud", rate) if scheme == "serial" => {
                    let rate = rate.parse().ok().filter(|rate| *rate > 0);
                    baud = Some(rate.ok_or_else(|| wrong("baud is a number of bits a second"))?);
                }
                ("from", network) if scheme == "tcp" => {
                    let network = network.parse();
                    let reason = "from is an address or a range of them, such as 10.8.0.0/24";
                    from.push(network.map_err(|()| wrong(reason))?);
                }
                ("boards", number) if scheme != "serial" => {
                    let number = number.parse().ok().filter(|n| (1..=BOARDS).contains(n));
                    boards = number.ok_or_else(|| wrong("boards is a number from 1 to 64"))?;
                }
                _ => return Err(wrong(&format!("`{option}` is no option of {scheme}://"))),
            }
        }
        if place.is_empty() {
            return Err(wrong(known));
        }
        let place = match scheme {
            "serial" => Place::Serial {
                path: place.to_string(),
                baud: baud.unwrap_or(BAUD),
            },
            "unix" if cfg!(unix) => Place::Unix { path: place.into() },
            "tcp" => {
                let mut found = place.to_socket_addrs().map_err(|e| wrong(&e.to_string()))?;
                let address = found.next().ok_or_else(|| wrong("no such host"))?;
                if !address.ip().is_loopback() && !any {
                    let reason = "this address can be reached from other machines, and whoever \
                                  does is believed: add ?bind=any if that is meant";
                    return Err(wrong(reason));
                }
                if !address.ip().is_loopback() && from.is_empty() {
                    let reason = "bind=any needs to know who may connect: add \
                                  ?from=10.8.0.0/24, or another range, as often as needed";
                    return Err(wrong(reason));
                }
                Place::Tcp { address }
            }
            _ => return Err(wrong(known)),
        };
        Ok(LinkUrl {
            place,
            once,
            boards,
            from,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Place {
        url.parse::<LinkUrl>().unwrap().place
    }

    fn error(url: &str) -> String {
        url.parse::<LinkUrl>().unwrap_err().to_string()
    }

    #[test]
    fn urls_name_ports_and_sockets() {
        let serial = |path: &str, baud| Place::Serial {
            path: path.to_string(),
            baud,
        };
        assert_eq!(place("serial:///dev/ttyUSB0"), serial("/dev/ttyUSB0", BAUD));
        assert_eq!(
            place("serial:///dev/ttyS1?baud=115200"),
            serial("/dev/ttyS1", 115_200)
        );
        assert_eq!(place("serial://COM3"), serial("COM3", BAUD));
        assert_eq!(
            place("tcp://127.0.0.1:7878"),
            Place::Tcp {
                address: ([127, 0, 0, 1], 7878).into()
            }
        );
        assert_eq!(
            place("tcp://0.0.0.0:1?bind=any&from=10.0.0.0/8"),
            Place::Tcp {
                address: ([0, 0, 0, 0], 1).into()
            }
        );
        assert_eq!(
            place("unix:///run/s"),
            Place::Unix {
                path: "/run/s".into()
            }
        );
        let two: LinkUrl = "tcp://127.0.0.1:1?boards=2&from=127.0.0.1".parse().unwrap();
        assert_eq!((two.boards, two.from.len()), (2, 1));
        assert!("unix:///run/s?once".parse::<LinkUrl>().unwrap().once);
    }

    #[test]
    fn what_is_no_link_is_refused() {
        assert!(error("http://x").contains("serial:///DEVICE"));
        assert!(error("serial://").contains("serial:///DEVICE"));
        assert!(error("tcp://0.0.0.0:1").contains("bind=any"));
        assert!(error("tcp://0.0.0.0:1?bind=any").contains("who may connect"));
        assert!(error("tcp://0.0.0.0:1?bind=any&from=10.0.0").contains("10.8.0.0/24"));
        assert!(error("unix:///x?from=::1").contains("`from=::1`"));
        for boards in ["0", "65", "two"] {
            assert!(error(&format!("unix:///x?boards={boards}")).contains("1 to 64"));
        }
        assert!(error("tcp://127.0.0.1").starts_with("tcp://127.0.0.1: "));
        assert!(error("serial:///dev/x?baud=fast").contains("bits a second"));
        assert!(error("unix:///x?baud=1").contains("`baud=1`"));
    }
}
