//! The network of a sandbox while a stage works in it: its connections are served by the egress policy of the stage, and
//! every decision becomes an event. When the stage is over, so is every connection.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use carrel_domain::{DomainRule, EnvironmentSpec, EventBody, NetworkPolicy, SecretKind};
use carrel_egress::{Decision, ModelDoor, NetworkSecret, Phase, Session, SessionPolicy};
use carrel_sandbox::Sandbox;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Halt, Site};

/// How long equal decisions are gathered into one event.
const GATHER_FOR: Duration = Duration::from_millis(500);

/// Different decisions that one such moment may have; what is beyond is told as a number.
const MOST_AT_ONCE: usize = 50;

/// Events of a stage that tell of decisions; what is beyond is told as numbers, at its end.
const MOST_EVENTS: usize = 2000;

/// Decisions that wait to be gathered.
const QUEUE: usize = 1024;

/// Does the work while the sandbox's connections are served under the policy of the phase.
pub(crate) async fn during<T>(
    site: &Site<'_>,
    sandbox: &Sandbox,
    phase: Phase,
    packages: &[DomainRule],
    work: impl Future<Output = T>,
) -> Result<T, Halt> {
    let policy = policy(site, phase, packages).await?;
    under(site, sandbox, policy, work).await
}

/// The same in the agent's phase, with a way to the attempt's model for an agent that runs in the sandbox.
pub(super) async fn during_with_model<T>(
    site: &Site<'_>,
    sandbox: &Sandbox,
    packages: &[DomainRule],
    model: Option<ModelDoor>,
    work: impl Future<Output = T>,
) -> Result<T, Halt> {
    let policy = SessionPolicy { model, ..policy(site, Phase::Agent, packages).await? };
    under(site, sandbox, policy, work).await
}

async fn under<T>(
    site: &Site<'_>,
    sandbox: &Sandbox,
    policy: SessionPolicy,
    work: impl Future<Output = T>,
) -> Result<T, Halt> {
    let (decisions, decided) = mpsc::channel(QUEUE);
    let session = site.control.inner.egress.session(policy, decisions);
    let mut tunnels = sandbox.tunnels();
    let serve = async move {
        let mut open = JoinSet::new();
        while let Some(tunnel) = tunnels.next().await {
            while open.try_join_next().is_some() {}
            let session: Session = session.clone();
            open.spawn(async move { session.serve(tunnel).await });
        }
        // The stream to the sandbox is gone; whoever works in it finds that out by itself.
        std::future::pending::<()>().await;
    };
    // With the work every connection ends, and with the last one the telling.
    let work = async {
        tokio::select! {
            outcome = work => Ok(outcome),
            () = serve => unreachable!("serving never ends by itself"),
        }
    };
    let (outcome, ()) = tokio::try_join!(work, tell(site, decided))?;
    Ok(outcome)
}

/// Makes events of decisions until none can come any more.
async fn tell(site: &Site<'_>, mut decided: mpsc::Receiver<Decision>) -> Result<(), Halt> {
    let (mut told, mut allowed, mut refused) = (0, 0_u64, 0_u64);
    let metrics = site.control.metrics();
    while let Some(decision) = decided.recv().await {
        metrics.decided(decision.allowed);
        if told > MOST_EVENTS {
            if decision.allowed {
                allowed += 1;
            } else {
                refused += 1;
            }
            continue;
        }
        let mut gathered = Gathered::default();
        gathered.add(decision);
        let moment = tokio::time::sleep(GATHER_FOR);
        tokio::pin!(moment);
        loop {
            tokio::select! {
                () = &mut moment => break,
                decision = decided.recv() => match decision {
                    Some(decision) => {
                        metrics.decided(decision.allowed);
                        gathered.add(decision);
                    }
                    None => break,
                },
            }
        }
        told += gathered.tell(site).await?;
        if told > MOST_EVENTS {
            let message = format!("after {told} network decisions, further ones are counted and not listed");
            site.tell(EventBody::Warning { message }).await?;
        }
    }
    if allowed + refused > 0 {
        let message = format!("{allowed} further requests were allowed, and {refused} refused");
        site.tell(EventBody::Warning { message }).await?;
    }
    Ok(())
}

/// The variables that hold the placeholders of the environment's network secrets.
pub(super) fn placeholders(site: &Site<'_>) -> Vec<(String, String)> {
    let secrets = site.environment.spec.secrets(SecretKind::Network);
    secrets.map(|secret| (secret.name.to_string(), placeholder(site, secret.name.as_str()))).collect()
}

/// What programs see in place of a network secret: the same in every sandbox of the environment, because setup may have
/// written it into a file of the snapshot.
fn placeholder(site: &Site<'_>, name: &str) -> String {
    let digest = Sha256::digest(format!("{}\n{name}", site.environment.id));
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("carrel_secret_{hex}")
}

async fn policy(site: &Site<'_>, phase: Phase, packages: &[DomainRule]) -> Result<SessionPolicy, Halt> {
    let environment = site.environment;
    let names: Vec<_> = environment.spec.secrets(SecretKind::Network).cloned().collect();
    let values = site.store().secret_values(environment.organization, environment.id, &names).await?;
    let secrets = values.into_iter().map(|(secret, value)| NetworkSecret {
        name: secret.name.to_string(),
        placeholder: placeholder(site, secret.name.as_str()),
        value,
        hosts: secret.hosts,
    });
    Ok(SessionPolicy {
        environment: environment.name.to_string(),
        phase,
        network: network_of(phase, &environment.spec).clone(),
        packages: packages.to_vec(),
        secrets: secrets.collect(),
        model: None,
    })
}

/// The policy of a phase.
const fn network_of(phase: Phase, spec: &EnvironmentSpec) -> &NetworkPolicy {
    match phase {
        Phase::Setup => &spec.setup_network,
        Phase::Agent => &spec.agent_network,
    }
}

/// Equal decisions of one moment, counted.
#[derive(Default)]
struct Gathered {
    counts: BTreeMap<Decision, u32>,
    beyond: u32,
}

impl Gathered {
    fn add(&mut self, decision: Decision) {
        if self.counts.len() >= MOST_AT_ONCE && !self.counts.contains_key(&decision) {
            self.beyond += 1;
        } else {
            *self.counts.entry(decision).or_default() += 1;
        }
    }

    /// How many events it was.
    async fn tell(&mut self, site: &Site<'_>) -> Result<usize, Halt> {
        let mut bodies: Vec<EventBody> = std::mem::take(&mut self.counts)
            .into_iter()
            .map(|(Decision { host, port, method, allowed, reason, way_out }, count)| EventBody::NetworkDecided {
                host,
                port,
                method,
                allowed,
                reason,
                way_out,
                count,
            })
            .collect();
        let beyond = std::mem::take(&mut self.beyond);
        if beyond > 0 {
            let message = format!("{beyond} further network decisions within a moment are not listed one by one");
            bodies.push(EventBody::Warning { message });
        }
        let count = bodies.len();
        site.tell_all(bodies).await?;
        Ok(count)
    }
}
