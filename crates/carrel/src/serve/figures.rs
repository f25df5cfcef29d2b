//! The listener for those who watch the service: `/metrics`, `/healthz` and `/readyz` without a token, where an administrator
//! has asked for it.

use std::net::SocketAddr;

use carrel_control::Control;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::exit::Failure;

/// Serves figures until the handle is dropped; nothing without an address.
pub(super) async fn serve(
    address: Option<SocketAddr>,
    control: &Control,
    stop: &CancellationToken,
) -> Result<Option<AbortOnDropHandle<()>>, Failure> {
    let Some(address) = address else { return Ok(None) };
    let refused =
        |error| Failure::usage(format!("cannot listen on {address}: {error}; set CARREL_METRICS_LISTEN to another"));
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    tracing::info!("figures are served to anybody on http://{bound}/metrics");
    let routes = carrel_api::figures(control.clone(), stop.clone());
    Ok(Some(AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "figures are served no more");
        }
    }))))
}
