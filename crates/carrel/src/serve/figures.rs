//! The listener for those who watch the service: `/metrics`, `/healthz` and `/readyz` without a token, where an administrator
//! has asked for it.

use carrel_control::Control;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Serves figures until the handle is dropped.
pub(super) fn serve(listener: TcpListener, control: &Control, stop: &CancellationToken) -> AbortOnDropHandle<()> {
    if let Ok(bound) = listener.local_addr() {
        tracing::info!("figures are served to anybody on http://{bound}/metrics");
    }
    let routes = carrel_api::figures(control.clone(), stop.clone());
    AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "figures are served no more");
        }
    }))
}
