//! Which hosts the package managers of an image need: its tools are asked inside the sandbox, and the indexes they name
//! are asked, from our side, where their files are.

use std::time::Duration;

use carrel_domain::{DomainRule, EventBody};
use carrel_egress::packages::{self, Found};
use carrel_sandbox::{Command, Sandbox};
use uuid::Uuid;

use crate::attempt::{Halt, Site};

/// How long the tools may take to say how they are configured.
const LIMIT: Duration = Duration::from_secs(60);

/// Asks the tools in the sandbox, and the indexes they name. `earlier` is what they said before anything of the repository
/// ran there.
pub(crate) async fn find(
    site: &Site<'_>,
    sandbox: &Sandbox,
    earlier: Option<&Found>,
) -> Result<(Vec<DomainRule>, Found), Halt> {
    let command = Command::new(format!("packages.{}", Uuid::now_v7()), ["sh", "-lc", packages::PROBE])
        .directory(site.workspace())
        .time_limit(LIMIT);
    let said = sandbox.run(command).await?;
    let found = packages::read(&said.output);
    let egress = &site.control.inner.egress;
    // What the repository brought along must not decide what is reached: where setup has run, only what the image said
    // before counts, and what is known anyway.
    let found = match earlier {
        Some(earlier) => found.limited_to(egress.known_packages(), earlier),
        None => found,
    };
    let hosts = egress.package_hosts(&found).await;
    // The second time it is known already.
    if earlier.is_none_or(|earlier| *earlier == Found::default()) {
        for note in hosts.notes {
            site.tell(EventBody::Warning { message: note }).await?;
        }
    }
    let names: Vec<String> = hosts.rules.iter().map(ToString::to_string).collect();
    let message = if names.is_empty() {
        "found no package manager in the image that is configured for any host".to_owned()
    } else {
        format!("package managers of the image use {}", names.join(", "))
    };
    site.tell(EventBody::Progress { message, duration_ms: None }).await?;
    Ok((hosts.rules, found))
}
