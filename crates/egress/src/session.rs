//! One phase of one sandbox: its policy, its secrets, its connections, and who is told of every decision.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

use crate::Core;
use crate::connection::{self, Serving, Wire};
use crate::decide::{Refused, Rules};
use crate::http1::writer::Asked;
use crate::policy::{Decision, SessionPolicy};
use crate::resolve::Lookups;
use crate::secrets::Secrets;
use crate::stream::{Progress, Tasks, Watched};
use crate::target::Target;
use crate::upstream::LeftBehind;

/// How long whoever records decisions may be behind. Nothing is let through that is not recorded.
const RECORD_WAIT: Duration = Duration::from_secs(10);

/// Serves the connections of one phase of one sandbox. Clones are the same session.
#[derive(Debug, Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    pub(crate) policy: SessionPolicy,
    pub(crate) secrets: Secrets,
    decisions: mpsc::Sender<Decision>,
    /// Connections to servers that wait for their next request.
    pub(crate) left_behind: LeftBehind,
    slots: Semaphore,
    lookups: Lookups,
    /// Its part of the room for the bodies of requests to models.
    pub(crate) model_bodies: Arc<Semaphore>,
}

impl Session {
    pub(crate) fn new(core: Arc<Core>, mut policy: SessionPolicy, decisions: mpsc::Sender<Decision>) -> Self {
        let secrets = Secrets::new(std::mem::take(&mut policy.secrets));
        let slots = Semaphore::new(core.limits.connections);
        // No sandbox alone keeps the others from their models.
        let model_bodies = Arc::new(Semaphore::new(core.limits.model_bodies_bytes / 2));
        Self {
            inner: Arc::new(Inner {
                core,
                policy,
                secrets,
                decisions,
                left_behind: LeftBehind::default(),
                slots,
                lookups: Lookups::default(),
                model_bodies,
            }),
        }
    }

    /// Serves one connection of the sandbox, which speaks to us as to an HTTP proxy, until it ends. Dropping the future
    /// ends the connection and all that was opened for it.
    pub async fn serve<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Ok(_slot) = self.inner.slots.try_acquire() else { return self.inner.turn_away(stream).await };
        let tasks = Tasks::default();
        // Each wait has its own deadline and its own answer; this one is for a client that reads no answers.
        let progress = Progress::new(self.inner.core.limits.idle * 2);
        let serving =
            Serving { session: Arc::clone(&self.inner), spawner: tasks.spawner(), progress: progress.clone() };
        let stream = Watched::new(stream, progress.clone());
        tokio::select! {
            () = Box::pin(connection::proxy(&serving, stream)) => {}
            () = progress.stalled() => tracing::debug!("a connection stood still for too long"),
        }
    }
}

impl Inner {
    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules { policy: &self.policy, common: &self.core.common, private_hosts: &self.core.private_hosts }
    }

    /// Connects to a destination that the rules allow.
    pub(crate) async fn connect(&self, target: &Target) -> Result<TcpStream, Refused> {
        self.core.resolver.connect_for(target, &self.lookups).await
    }

    /// Tells that something is let through.
    ///
    /// # Errors
    /// When nobody records it: then it is not let through.
    pub(crate) async fn allowed(&self, target: &Target, method: &str, reason: String) -> Result<(), Refused> {
        let decision = Decision {
            host: target.host.to_string(),
            port: target.port,
            method: Some(method.to_owned()),
            allowed: true,
            reason,
            way_out: None,
        };
        if self.tell(decision).await {
            return Ok(());
        }
        let why = "decisions cannot be recorded, so nothing is let through".to_owned();
        Err(Refused { status: StatusCode::SERVICE_UNAVAILABLE, why, way_out: None })
    }

    /// Tells that something is refused.
    pub(crate) async fn refused(&self, target: &Target, method: Option<&str>, refused: &Refused) {
        self.tell_refused(target.host.to_string(), target.port, method, refused).await;
    }

    /// Tells that something is refused whose target could not be read.
    pub(crate) async fn refused_unread(&self, shown: &str, method: Option<&str>, refused: &Refused) {
        // An address may have a path, which is nobody's business.
        let authority =
            shown.strip_prefix("http://").unwrap_or(shown).split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        self.tell_refused(host.to_owned(), 0, method, refused).await;
    }

    async fn tell_refused(&self, host: String, port: u16, method: Option<&str>, refused: &Refused) {
        let method = method.map(ToOwned::to_owned);
        // It is refused whether that can be recorded or not.
        let (reason, way_out) = (refused.why.clone(), refused.way_out.clone());
        let _ = self.tell(Decision { host, port, method, allowed: false, reason, way_out }).await;
    }

    async fn tell(&self, decision: Decision) -> bool {
        self.decisions.send_timeout(decision, RECORD_WAIT).await.is_ok()
    }

    /// One connection too many.
    async fn turn_away<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let why = format!("there are {} connections already, which is the limit", self.core.limits.connections);
        let refused = Refused { status: StatusCode::SERVICE_UNAVAILABLE, why, way_out: None };
        self.refused_unread("", None, &refused).await;
        let mut wire = Wire::new(stream, bytes::BytesMut::new());
        let asked = Asked { method: Method::GET, is_old: false, keeps_alive: false };
        let answered = async {
            wire.refuse(&asked, &refused).await;
            wire.close().await;
        };
        // Whoever does not read it does not hear it.
        let _ = tokio::time::timeout(self.core.limits.handshake, answered).await;
    }
}
