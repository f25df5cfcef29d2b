//! Which addresses may be connected to: those of the public internet, whatever a rule says about the name.
//!
//! The documentation ranges are no exception: nothing of value is there, and gateways map registries on them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Azure's metadata and agent service, the one such address in a public range.
const AZURE_WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// Why this address is not connected to; `None` when it is a public one.
pub(crate) fn refused(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refused_v4(address),
        IpAddr::V6(address) => refused_v6(address),
    }
}

/// Whether it is an address that nobody serves people at: link-local, or a cloud's own.
pub(crate) fn is_for_machines(address: IpAddr) -> bool {
    refused(address).is_some_and(|why| why.starts_with("link-local") || why.starts_with("a cloud's"))
}

fn refused_v4(address: Ipv4Addr) -> Option<&'static str> {
    // IANA's registry of special-purpose addresses, without the documentation ranges.
    let words = match address.octets() {
        [0, ..] => "of no network",
        [10, ..] | [192, 168, ..] => "private",
        [172, second, ..] if (16..32).contains(&second) => "private",
        [100, second, ..] if (64..128).contains(&second) => "of a carrier's network",
        [127, ..] => "of the machine itself",
        [169, 254, ..] => "link-local, where clouds serve metadata",
        [192, 0, 0, _] => "reserved for protocols",
        [192, 88, 99, _] => "of a 6to4 relay",
        [198, 18 | 19, ..] => "reserved for benchmarks",
        [first, ..] if (224..240).contains(&first) => "multicast",
        [first, ..] if first >= 240 => "reserved",
        _ if address == AZURE_WIRE_SERVER => "a cloud's metadata service",
        _ => return None,
    };
    Some(words)
}

fn refused_v6(address: Ipv6Addr) -> Option<&'static str> {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        refused_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Mapped, compatible, translated (RFC 2765), and `::` and `::1`, which are 0.0.0.0 and 0.0.0.1 here.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => embedded(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo, ORCHID and others of the IETF's: nothing is served there.
        [0x2001, second, ..] if second < 0x200 => Some("reserved for protocols"),
        // ISATAP wraps an IPv4 address in the interface's half.
        [.., 0 | 0x200, 0x5efe, high, low] => embedded(high, low).or(Some("of a tunnel")),
        [first, ..] if first & 0xe000 == 0x2000 => None,
        [first, ..] if first & 0xfe00 == 0xfc00 => Some("private"),
        [first, ..] if first & 0xffc0 == 0xfe80 => Some("link-local"),
        [first, ..] if first & 0xff00 == 0xff00 => Some("multicast"),
        _ => Some("reserved"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> Option<&'static str> {
        refused(text.parse().expect(text))
    }

    #[test]
    fn addresses_that_are_not_public_are_refused_in_every_wrapping() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001:0:5ef5:79fb::1",
            "2a00::5efe:10.0.0.1",
            "2a00::200:5efe:10.0.0.1",
            "100::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(verdict(text).is_some(), "{text}");
        }
    }

    #[test]
    fn public_addresses_are_connected_to() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.2.10",
            "198.51.100.7",
            "203.0.113.9",
            "198.20.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2606:4700:4700::1111",
            "2001:db8::1",
            "2001:4860:4860::8888",
        ] {
            assert_eq!(verdict(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_for_machines_are_those_of_metadata_in_every_wrapping() {
        let is = |text: &str| is_for_machines(text.parse().expect(text));

        for text in ["169.254.169.254", "::ffff:169.254.169.254", "168.63.129.16", "fe80::1", "64:ff9b::a9fe:a9fe"] {
            assert!(is(text), "{text}");
        }
        for text in ["127.0.0.1", "10.0.0.1", "fd00::1", "192.0.2.1"] {
            assert!(!is(text), "{text}");
        }
    }
}
