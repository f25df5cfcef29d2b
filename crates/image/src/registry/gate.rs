//! Which hosts may be connected to, checked where connections are made: names of images come from people who may not
//! look around in the service's network.
//!
//! Every host that a pull leads to (the registry, its token server, where it redirects to) must be public and spoken to
//! with TLS, unless an administrator lists it. A name is resolved once, and what was checked is what is connected to.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client};
use url::{Host, Url};

use crate::error::ImageError;
use crate::options::ImageOptions;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Opens connections, or says why not.
pub(crate) struct Gate {
    to_public: Client,
    to_listed: Client,
    plain_http: Vec<String>,
    private: Vec<String>,
}

impl Gate {
    pub(crate) fn new(options: &ImageOptions) -> Result<Self, ImageError> {
        let lower = |list: &[String]| list.iter().map(|one| one.to_ascii_lowercase()).collect();
        Ok(Self {
            to_public: client(options, may_be_public)?,
            to_listed: client(options, may_be_listed)?,
            plain_http: lower(&options.plain_http),
            private: lower(&options.private),
        })
    }

    /// Where a registry answers.
    pub(crate) fn base(&self, host: &str) -> Result<Url, String> {
        let scheme = if self.plain_http.iter().any(|listed| listed == host) { "http" } else { "https" };
        Url::parse(&format!("{scheme}://{host}/")).map_err(|error| format!("its name makes no URL: {error}"))
    }

    /// The client that may ask this URL.
    pub(crate) fn client_for(&self, url: &Url) -> Result<&Client, String> {
        let is_in = |list: &[String]| names_of(url).iter().any(|name| list.contains(name));
        let (is_plain, is_private) = (is_in(&self.plain_http), is_in(&self.private));
        match url.scheme() {
            "https" => {}
            "http" if is_plain => {}
            "http" => return Err("it would be spoken to without TLS".to_owned()),
            _ => return Err("it is not spoken to with HTTP".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("its address holds a login".to_owned());
        }
        let (client, check): (_, fn(IpAddr) -> bool) =
            if is_plain || is_private { (&self.to_listed, may_be_listed) } else { (&self.to_public, may_be_public) };
        // An address is connected to without being resolved.
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return Err("its address has no host".to_owned()),
        };
        match address {
            Some(address) if !check(address) => Err(NotAllowed(url.authority().to_owned()).to_string()),
            _ => Ok(client),
        }
    }
}

/// The names under which an administrator may have listed a URL's host.
fn names_of(url: &Url) -> Vec<String> {
    let Some(host) = url.host_str() else { return Vec::new() };
    let Some(port) = url.port_or_known_default() else { return Vec::new() };
    let mut names = vec![format!("{host}:{port}")];
    if url.port().is_none() {
        names.push(host.to_owned());
    }
    names
}

fn client(options: &ImageOptions, check: fn(IpAddr) -> bool) -> Result<Client, ImageError> {
    let wrong = |error: reqwest::Error| ImageError::Tls(super::words_of(&error));
    let roots = Certificate::from_pem_bundle(&options.extra_roots_pem).map_err(wrong)?;
    let mut builder = Client::builder()
        .user_agent(concat!("carrel/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .no_proxy()
        .redirect(Policy::none())
        .dns_resolver(Arc::new(Checked(check)));
    if !roots.is_empty() {
        builder = builder.tls_certs_merge(roots);
    }
    builder.build().map_err(wrong)
}

/// A resolver that gives out only what may be connected to.
struct Checked(fn(IpAddr) -> bool);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let check = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.is_empty() {
                return Err(format!("the name {} has no address", name.as_str()).into());
            }
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|address| check(address.ip())).collect();
            if allowed.is_empty() {
                return Err(NotAllowed(name.as_str().to_owned()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// A host all of whose addresses are out of bounds.
#[derive(Debug)]
pub(crate) struct NotAllowed(String);

impl fmt::Display for NotAllowed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} has an address that is not public", self.0)
    }
}

impl Error for NotAllowed {}

/// Addresses of the internet.
fn may_be_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Addresses that a listed registry may have: all but those that no registry has and metadata services do.
fn may_be_listed(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let is_metadata = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)].contains(&address);
            !(is_metadata
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast())
        }
        IpAddr::V6(address) => {
            let is_metadata = address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
            !(is_metadata || address.is_unicast_link_local() || address.is_unspecified() || address.is_multicast())
        }
    }
}

/// Not one of IANA's special-purpose addresses.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !is_special
}

/// Global unicast, without the ranges that stand for IPv4 addresses or for examples. An address of NAT64 is what it
/// holds.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Owner;

    fn gate() -> Gate {
        let mut options = ImageOptions::new("/nowhere", Owner::Own);
        options.plain_http = vec!["127.0.0.1:5000".to_owned(), "169.254.169.254".to_owned()];
        options.private = vec!["10.0.0.7".to_owned(), "[::1]:5001".to_owned()];
        Gate::new(&options).expect("TLS is set up")
    }

    #[test]
    fn only_listed_hosts_may_be_private_or_without_tls() {
        let gate = gate();

        for (url, is_allowed) in [
            ("https://registry.example.com/v2/", true),
            ("https://93.184.215.14/v2/", true),
            ("http://127.0.0.1:5000/v2/", true),
            ("https://10.0.0.7/v2/", true),
            ("https://10.0.0.7:443/v2/", true),
            ("https://[::1]:5001/v2/", true),
            ("http://registry.example.com/v2/", false),
            ("http://127.0.0.1:5001/v2/", false),
            ("http://10.0.0.7/v2/", false),
            ("https://10.0.0.7:8443/v2/", false),
            ("https://10.0.0.8/v2/", false),
            ("https://127.1/v2/", false),
            ("https://2130706433/v2/", false),
            ("https://0x7f.1/v2/", false),
            ("https://[::ffff:127.0.0.1]/v2/", false),
            ("https://[fd00::1]/v2/", false),
            ("http://169.254.169.254/latest/", false),
            ("https://user:word@registry.example.com/", false),
            ("ftp://registry.example.com/", false),
            ("file:///etc/passwd", false),
        ] {
            let url = Url::parse(url).expect("a URL");
            assert_eq!(gate.client_for(&url).is_ok(), is_allowed, "{url}");
        }
    }

    #[test]
    fn addresses_that_are_not_of_the_internet_are_known() {
        for text in [
            "0.1.2.3",
            "10.1.1.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "64:ff9b::a00:1",
            "fc00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
        ] {
            assert!(!may_be_public(text.parse().expect("an address")), "{text}");
        }
        for text in ["1.1.1.1", "93.184.215.14", "172.32.0.1", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(may_be_public(text.parse().expect("an address")), "{text}");
        }
        for text in ["169.254.169.254", "fe80::1", "fd00:ec2::254", "0.0.0.0", "::ffff:169.254.169.254"] {
            assert!(!may_be_listed(text.parse().expect("an address")), "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_private_address_is_not_connected_to() {
        let url = Url::parse("https://localhost:1/v2/").expect("a URL");
        let gate = gate();

        let error = gate.client_for(&url).expect("a name").get(url).send().await.expect_err("refused");

        assert!(super::super::refusal_in(&error).is_some(), "{error:?}");
    }
}
