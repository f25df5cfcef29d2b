//! From a name to a connection: resolved once, every address judged, and only a judged address connected to. So a name that
//! means something else a moment later changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use carrel_domain::HostName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::address;
use crate::decide::Refused;
use crate::options::{EgressOptions, PrivateHost};
use crate::target::{Host, Target};

/// How long this machine's own addresses are taken to stay as they are.
const OWN_ADDRESSES_LIFE: Duration = Duration::from_secs(10);
/// How long a name is taken to stand for the same: long enough for the connections of one page or one install.
const FOUND_LIFE: Duration = Duration::from_secs(5);
const MAX_FOUND: usize = 1024;
/// Names that one session, or we ourselves, resolve at once.
const MAX_LOOKUPS: usize = 8;
/// Most addresses of one name that are looked at.
const MAX_ADDRESSES: usize = 64;
/// Longest wait for one address while there is another.
const ONE_ADDRESS: Duration = Duration::from_secs(3);

/// Resolves and connects.
#[derive(Debug)]
pub(crate) struct Resolver {
    hosts: BTreeMap<HostName, Vec<IpAddr>>,
    private_hosts: Vec<PrivateHost>,
    refused: BTreeSet<IpAddr>,
    own: Mutex<Option<(Instant, BTreeSet<IpAddr>)>>,
    /// What names were found to stand for a moment ago. Addresses are judged each time all the same.
    found: Mutex<HashMap<HostName, (Instant, Vec<IpAddr>)>>,
    /// For lookups of our own.
    lookups: Lookups,
    wait: Duration,
}

/// How many names are resolved at once. A lookup holds a thread until the system gives it up, so whoever can ask for
/// names has lookups of its own, and can hold up nobody else.
#[derive(Debug, Clone)]
pub(crate) struct Lookups(Arc<Semaphore>);

impl Default for Lookups {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LOOKUPS)))
    }
}

impl Resolver {
    pub(crate) fn new(options: &EgressOptions) -> Self {
        Self {
            hosts: options.hosts.clone(),
            private_hosts: options.private_hosts.clone(),
            refused: options.refused_addresses.iter().copied().map(|address| address.to_canonical()).collect(),
            own: Mutex::default(),
            found: Mutex::default(),
            lookups: Lookups::default(),
            wait: options.limits.connect,
        }
    }

    /// Connects to a destination of our own choice.
    pub(crate) async fn connect(&self, target: &Target) -> Result<TcpStream, Refused> {
        self.connect_for(target, &self.lookups).await
    }

    /// Connects to a destination that the rules of a session allow.
    pub(crate) async fn connect_for(&self, target: &Target, lookups: &Lookups) -> Result<TcpStream, Refused> {
        let addresses = self.addresses(target, lookups).await?;
        self.connect_to(target, addresses).await
    }

    /// Connects to a server that an administrator or a person has had us talk to already, wherever it is but where clouds
    /// tell their machines' secrets.
    pub(crate) async fn connect_anywhere(&self, target: &Target) -> Result<TcpStream, Refused> {
        let addresses = self.resolve(target, &self.lookups).await?;
        if let Some(address) = addresses.iter().find(|address| address::is_for_machines(**address)) {
            let why = format!("{} is at {address}, where clouds serve metadata", target.host);
            return Err(Refused::by_policy(why, None));
        }
        let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, target.port)).collect();
        self.connect_to(target, addresses).await
    }

    async fn connect_to(&self, target: &Target, addresses: Vec<SocketAddr>) -> Result<TcpStream, Refused> {
        let failed = |why: &dyn std::fmt::Display| Refused::upstream(format!("cannot connect to {target}: {why}"));
        let trying = async {
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for (index, address) in addresses.iter().enumerate() {
                let wait = if index + 1 == addresses.len() { self.wait } else { ONE_ADDRESS };
                match timeout(wait, TcpStream::connect(address)).await {
                    Ok(Ok(stream)) => return stream.set_nodelay(true).map(|()| stream),
                    Ok(Err(error)) => last = error,
                    Err(_) => last = io::ErrorKind::TimedOut.into(),
                }
            }
            Err(last)
        };
        match timeout(self.wait, trying).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&"it does not answer in time")),
        }
    }

    /// The addresses of a destination, all of them allowed.
    async fn addresses(&self, target: &Target, lookups: &Lookups) -> Result<Vec<SocketAddr>, Refused> {
        let addresses = self.resolve(target, lookups).await?;
        if !self.private_hosts.iter().any(|listed| listed.names(target)) {
            // One that is refused among others that are not is no accident: nothing of it is connected to.
            for address in &addresses {
                if let Some(what) = self.why_refused(*address) {
                    let why = format!(
                        "{} is at an address that is {what}, and only public addresses are reached",
                        target.host
                    );
                    let way_out = format!("an administrator lists `{}` in {}", target.host, PrivateHost::SETTING);
                    return Err(Refused::by_policy(why, Some(way_out)));
                }
            }
        }
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, target.port)).collect())
    }

    async fn resolve(&self, target: &Target, lookups: &Lookups) -> Result<Vec<IpAddr>, Refused> {
        match &target.host {
            Host::Address(address) => Ok(vec![*address]),
            Host::Name(name) => match self.hosts.get(name) {
                Some(addresses) => Ok(addresses.clone()),
                None => self.look_up(name, lookups).await,
            },
        }
    }

    async fn look_up(&self, name: &HostName, lookups: &Lookups) -> Result<Vec<IpAddr>, Refused> {
        if let Some((_, addresses)) = self.found().get(name).filter(|(at, _)| at.elapsed() < FOUND_LIFE) {
            return Ok(addresses.clone());
        }
        let addresses = self.look_up_now(name, lookups).await?;
        let mut found = self.found();
        if found.len() >= MAX_FOUND {
            found.clear();
        }
        found.insert(name.clone(), (Instant::now(), addresses.clone()));
        Ok(addresses)
    }

    fn found(&self) -> MutexGuard<'_, HashMap<HostName, (Instant, Vec<IpAddr>)>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look_up_now(&self, name: &HostName, lookups: &Lookups) -> Result<Vec<IpAddr>, Refused> {
        let failed = |why: &dyn std::fmt::Display| Refused::upstream(format!("cannot resolve {name}: {why}"));
        let asked = name.clone();
        let looking = async {
            let permit = Arc::clone(&lookups.0).acquire_owned().await.map_err(io::Error::other)?;
            let found = tokio::task::spawn_blocking(move || {
                // It is given back when the thread is free again, not when nobody waits for it any more.
                let _permit = permit;
                (asked.as_str(), 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect::<Vec<_>>())
            });
            found.await.map_err(io::Error::other)?
        };
        match timeout(self.wait, looking).await {
            Err(_) => Err(failed(&"no answer in time")),
            Ok(Err(error)) => Err(failed(&error)),
            Ok(Ok(addresses)) if addresses.is_empty() => Err(failed(&"it has no address")),
            Ok(Ok(mut addresses)) => {
                // The same address comes once for each kind of socket.
                addresses.dedup();
                addresses.truncate(MAX_ADDRESSES);
                Ok(addresses)
            }
        }
    }

    fn why_refused(&self, address: IpAddr) -> Option<&'static str> {
        let plain = address.to_canonical();
        if self.refused.contains(&plain) || self.is_own(plain) {
            return Some("this machine's own or set apart");
        }
        address::refused(address)
    }

    /// Whether it is an address of one of this machine's interfaces: what listens there is not for sandboxes.
    fn is_own(&self, address: IpAddr) -> bool {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        match &*own {
            Some((read, addresses)) if read.elapsed() < OWN_ADDRESSES_LIFE => addresses.contains(&address),
            _ => {
                let addresses = own_addresses();
                let is_own = addresses.contains(&address);
                *own = Some((Instant::now(), addresses));
                is_own
            }
        }
    }
}

fn own_addresses() -> BTreeSet<IpAddr> {
    let interfaces = match nix::ifaddrs::getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!(%error, "cannot read this machine's own addresses; only public ones are told apart");
            return BTreeSet::new();
        }
    };
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    interfaces.filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(change: impl FnOnce(&mut EgressOptions)) -> Resolver {
        let mut options = EgressOptions::new("/nowhere");
        change(&mut options);
        Resolver::new(&options)
    }

    fn target(text: &str) -> Target {
        Target::parse(text, Some(443)).expect("a target")
    }

    async fn verdict(resolver: &Resolver, text: &str) -> Result<usize, String> {
        resolver
            .addresses(&target(text), &Lookups::default())
            .await
            .map(|found| found.len())
            .map_err(|refused| refused.why)
    }

    #[tokio::test]
    async fn one_private_address_among_public_ones_refuses_all() {
        let name: HostName = "mixed.example".parse().expect("a name");
        let addresses = ["203.0.113.5", "10.0.0.1"].map(|text| text.parse().expect("an address")).to_vec();
        let resolver = resolver(|options| options.hosts = [(name, addresses)].into());

        let why = verdict(&resolver, "mixed.example").await.expect_err("refused");

        assert!(why.contains("private"), "{why}");
    }

    #[tokio::test]
    async fn a_public_address_that_is_set_apart_is_refused_however_it_is_wrapped() {
        let set_apart = "203.0.113.5".parse().expect("an address");
        let resolver = resolver(|options| options.refused_addresses = vec![set_apart]);

        for text in ["203.0.113.5", "[::ffff:203.0.113.5]"] {
            assert!(verdict(&resolver, text).await.is_err(), "{text}");
        }
        assert_eq!(verdict(&resolver, "203.0.113.6").await, Ok(1));
    }

    #[tokio::test]
    async fn a_listed_host_may_be_private_on_the_listed_port_alone() {
        let name: HostName = "git.corp".parse().expect("a name");
        let resolver = resolver(|options| {
            options.hosts = [(name, vec!["10.0.0.1".parse().expect("an address")])].into();
            options.private_hosts = vec!["git.corp:8443".parse().expect("a host")];
        });

        assert_eq!(verdict(&resolver, "git.corp:8443").await, Ok(1));
        assert!(verdict(&resolver, "git.corp:443").await.is_err());
    }

    #[test]
    fn this_machines_own_addresses_are_known() {
        assert!(own_addresses().contains(&"127.0.0.1".parse::<IpAddr>().expect("an address")));
    }
}
