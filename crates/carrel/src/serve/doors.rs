//! The addresses that the service listens on. They are taken before anything is made, so that a start that fails for want of
//! one leaves no data and no keys behind.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use url::Url;

use crate::client::ADDRESS_FILE;
use crate::exit::Failure;
use crate::settings::Settings;

/// Listeners that nobody is served on yet: who comes meanwhile waits.
pub(super) struct Doors {
    /// For people and programs.
    pub(super) main: TcpListener,
    /// For those who watch the service, where an administrator has asked for it.
    pub(super) figures: Option<TcpListener>,
}

impl Doors {
    /// Takes the addresses.
    pub(super) async fn open(settings: &Settings) -> Result<Self, Failure> {
        let_many_in();
        let main = bind(settings.listen(), "CARREL_LISTEN").await?;
        let figures = match settings.metrics_listen {
            Some(address) => Some(bind(address, "CARREL_METRICS_LISTEN").await?),
            None => None,
        };
        Ok(Self { main, figures })
    }

    /// Writes down for the programs of this machine where the service is, and gives the address that people use.
    pub(super) fn tell(&self, settings: &Settings) -> Result<Url, Failure> {
        let address: SocketAddr = self.main.local_addr().map_err(|error| Failure::service(error.to_string()))?;
        let file = settings.data.join(ADDRESS_FILE);
        File::create(&file)
            .and_then(|mut file| writeln!(file, "{address}"))
            .map_err(|error| Failure::usage(format!("cannot write {}: {error}", file.display())))?;
        let host = match address.ip() {
            ip if ip.is_unspecified() => format!("localhost:{}", address.port()),
            _ => address.to_string(),
        };
        let own = Url::parse(&format!("http://{host}")).map_err(|error| Failure::service(error.to_string()))?;
        Ok(settings.public_url.clone().unwrap_or(own))
    }
}

/// Every watcher is an open file. Systems give 1024 to whoever does not ask for more, for the sake of programs that use
/// `select(2)`; what runs in sandboxes gets that again.
fn let_many_in() {
    let limits = getrlimit(Resource::RLIMIT_NOFILE);
    // Without more of them it works, for fewer people.
    let _raised = limits.and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
}

async fn bind(address: SocketAddr, variable: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::usage(format!("cannot listen on {address}: {error}; set {variable} to another address"))
    })
}
