//! Where attempts run: sandboxes, the images they are made of, and what decides on their network.

use std::fs;
use std::path::Path;

use carrel_domain::Secret;
use carrel_egress::packages::Known;
use carrel_egress::{Egress, EgressError, EgressOptions, OpenTls, read_rules};
use carrel_image::{Credential, ImageError, ImageOptions, Images, Owner, UNPACKER_ARGUMENT, Unpacker};
use carrel_sandbox::{Limits, Root, Sandboxes};

use super::{sandbox_options, with_causes};
use crate::exit::Failure;
use crate::settings::Settings;

pub(super) async fn open_sandboxes(settings: &Settings) -> Result<Sandboxes, Failure> {
    let options = sandbox_options(settings, settings.data.join("sandboxes"));
    if !settings.work.role.works() {
        return Sandboxes::absent(options).map_err(|error| Failure::service(with_causes(&error)));
    }
    let opened = Sandboxes::open(options).await;
    opened.map_err(|error| Failure::service(format!("sandboxes do not work here: {}", with_causes(&error))))
}

/// The images, their files owned as the sandboxes will see them.
pub(super) fn open_images(settings: &Settings, sandboxes: &Sandboxes) -> Result<Images, Failure> {
    let owner = match sandboxes.lent_ids() {
        _ if sandboxes.can_layer(&Root::Host) => Owner::Shifted { start: Limits::default().host_id },
        // As the unpacker counts.
        Some(_) => Owner::Shifted { start: 0 },
        None => Owner::Own,
    };
    let mut options = ImageOptions::new(settings.data.join("images"), owner);
    options.unpacker = sandboxes.lent_ids().map(|ids| Unpacker {
        program: "/proc/self/exe".into(),
        arguments: vec![crate::RUNNER.to_owned(), UNPACKER_ARGUMENT.to_owned(), ids.to_string()],
        ids: ids.label(),
    });
    options.plain_http.clone_from(&settings.network.plain_registries);
    options.private.clone_from(&settings.network.private_names);
    if let Some(file) = &settings.network.registry_logins_file {
        let text = Secret::new(read("CARREL_REGISTRY_LOGINS", file)?);
        options.credentials = Credential::from_docker_config(&text)
            .map_err(|error| Failure::usage(format!("CARREL_REGISTRY_LOGINS names {}: {error}", file.display())))?;
    }
    if let Some(file) = &settings.network.authorities_file {
        options.extra_roots_pem = authorities(file)?;
    }
    Images::open(options).map_err(|error| match (&settings.network.authorities_file, &error) {
        (Some(file), ImageError::Tls(_)) => unusable(file, &error),
        _ => Failure::service(with_causes(&error)),
    })
}

pub(super) fn open_egress(settings: &Settings) -> Result<Egress, Failure> {
    let network = &settings.network;
    let mut options = EgressOptions::new(settings.data.join("egress"));
    options.private_hosts.clone_from(&network.private_hosts);
    if let Some(file) = &network.authorities_file {
        options.extra_roots_pem = authorities(file)?;
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
    Egress::open(options).map_err(|error| match (&network.authorities_file, &error) {
        (Some(file), EgressError::Roots) => unusable(file, &error),
        _ => Failure::service(with_causes(&error)),
    })
}

/// The certificates that an administrator adds. A file without any says something else than what was meant.
fn authorities(file: &Path) -> Result<Vec<u8>, Failure> {
    let text = read("CARREL_CA_FILE", file)?;
    let begins = text.matches("-----BEGIN CERTIFICATE-----").count();
    let ends = text.matches("-----END CERTIFICATE-----").count();
    let refused = |problem: &str| {
        Err(Failure::usage(format!(
            "CARREL_CA_FILE names {}, which {problem}; give a file in PEM, with the line -----BEGIN CERTIFICATE----- before \
             each certificate and -----END CERTIFICATE----- behind it",
            file.display()
        )))
    };
    match (begins, ends) {
        (0, _) => refused("has no certificate in it"),
        (begins, ends) if begins != ends => refused("has a certificate that is cut off"),
        _ => Ok(text.into_bytes()),
    }
}

fn unusable(file: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::usage(format!("CARREL_CA_FILE names {}, which cannot be used: {}", file.display(), with_causes(error)))
}

fn read(variable: &str, file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("{variable} names {}, which cannot be read: {error}", file.display())))
}
