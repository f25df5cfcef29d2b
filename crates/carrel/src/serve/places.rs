//! Where attempts run: sandboxes, the images they are made of, and what decides on their network.

use std::fs;
use std::path::Path;

use carrel_domain::Secret;
use carrel_egress::packages::Known;
use carrel_egress::{Egress, EgressOptions, OpenTls, read_rules};
use carrel_image::{Credential, ImageOptions, Images, Owner};
use carrel_sandbox::{Limits, Root, Sandboxes};

use super::{sandbox_options, with_causes};
use crate::exit::Failure;
use crate::settings::Settings;

pub(super) async fn open_sandboxes(settings: &Settings) -> Result<Sandboxes, Failure> {
    let opened = Sandboxes::open(sandbox_options(settings, settings.data.join("sandboxes"))).await;
    opened.map_err(|error| Failure::service(format!("sandboxes do not work here: {}", with_causes(&error))))
}

/// The images, their files owned as the sandboxes will see them.
pub(super) fn open_images(settings: &Settings, sandboxes: &Sandboxes) -> Result<Images, Failure> {
    let owner =
        if sandboxes.can_layer(&Root::Host) { Owner::Shifted { start: Limits::default().host_id } } else { Owner::Own };
    let mut options = ImageOptions::new(settings.data.join("images"), owner);
    options.plain_http.clone_from(&settings.network.plain_registries);
    options.private.clone_from(&settings.network.private_names);
    if let Some(file) = &settings.network.registry_logins_file {
        let text = Secret::new(read("CARREL_REGISTRY_LOGINS", file)?);
        options.credentials = Credential::from_docker_config(&text)
            .map_err(|error| Failure::usage(format!("CARREL_REGISTRY_LOGINS names {}: {error}", file.display())))?;
    }
    if let Some(file) = &settings.network.authorities_file {
        options.extra_roots_pem = read("CARREL_CA_FILE", file)?.into_bytes();
    }
    Images::open(options).map_err(|error| Failure::service(with_causes(&error)))
}

pub(super) fn open_egress(settings: &Settings) -> Result<Egress, Failure> {
    let network = &settings.network;
    let mut options = EgressOptions::new(settings.data.join("egress"));
    options.private_hosts.clone_from(&network.private_hosts);
    if let Some(file) = &network.authorities_file {
        options.extra_roots_pem = read("CARREL_CA_FILE", file)?.into_bytes();
    }
    if let Some(file) = &network.common_file {
        options.common = read_rules(&read("CARREL_COMMON_DOMAINS_FILE", file)?)
            .map_err(|error| Failure::usage(format!("{}: {}", file.display(), with_causes(&error))))?;
    }
    if let Some(file) = &network.packages_file {
        options.packages = Known::parse(&read("CARREL_PACKAGES_FILE", file)?)
            .map_err(|error| Failure::usage(format!("{}: {}", file.display(), with_causes(&error))))?;
    }
    options.open_tls = if network.opens_all_tls { OpenTls::Always } else { OpenTls::WhereNeeded };
    Egress::open(options).map_err(|error| Failure::service(with_causes(&error)))
}

fn read(variable: &str, file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("{variable} names {}, which cannot be read: {error}", file.display())))
}
