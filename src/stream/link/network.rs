//! Ranges of addresses.

use std::net::IpAddr;
use std::str::FromStr;

/// The addresses whose first bits are those of one, as CIDR writes them: `10.8.0.0/24`. Without a
/// number of bits it is that address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

/// An address as a number whose highest bit is its first, and how many bits it has.
fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

impl Network {
    /// True where `address` is one of them.
    pub fn holds(&self, address: IpAddr) -> bool {
        // A socket for both kinds gives IPv4 addresses as IPv6 ones.
        let (own, width) = number(self.address);
        let (other, other_width) = number(address.to_canonical());
        width == other_width && (self.bits == 0 || (own ^ other) >> (128 - self.bits) == 0)
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Network, ()> {
        let (address, bits) = text
            .split_once('/')
            .map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let width = number(address).1;
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= width).ok_or(())?,
            None => width,
        };
        Ok(Network { address, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_begins_like_them() {
        let holds = |network: &str, address: &str| {
            let network: Network = network.parse().unwrap();
            network.holds(address.parse().unwrap())
        };
        assert!(holds("10.8.0.0/24", "10.8.0.255"));
        assert!(!holds("10.8.0.0/24", "10.8.1.0"));
        assert!(holds("10.8.0.7", "10.8.0.7") && !holds("10.8.0.7", "10.8.0.6"));
        assert!(holds("10.8.0.0/24", "::ffff:10.8.0.1"));
        assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "fe80::1"));
        assert!(holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe00::1"));
        for wrong in [
            "",
            "10.8.0/24",
            "10.8.0.0/33",
            "10.8.0.0/x",
            "::/129",
            "host",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
