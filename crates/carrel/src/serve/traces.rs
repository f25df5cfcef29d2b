//! Traces for a collector that speaks OTLP over HTTP, when one is named. Spans carry names of routes, stages, models and tools,
//! and ids; never a prompt, code, a command or what was logged.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use tokio::runtime::Handle;
use url::Url;

use crate::exit::Failure;

/// How long one batch, and the last one when the service ends, may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What sends traces. Ended, it sends what it still has.
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    /// Begins to send to this collector, under the path `/v1/traces`; to nobody without one.
    pub(super) fn start(collector: Option<&Url>, worker: &str) -> Result<Option<Self>, Failure> {
        let Some(collector) = collector else { return Ok(None) };
        let failed = |error: &dyn std::error::Error| {
            Failure::usage(format!("cannot send traces to OTEL_EXPORTER_OTLP_ENDPOINT: {error}"))
        };
        let client = reqwest::Client::builder().timeout(PATIENCE).build().map_err(|error| failed(&error))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client { client, runtime: Handle::current() })
            .with_endpoint(format!("{}/v1/traces", collector.as_str().trim_end_matches('/')))
            .with_timeout(PATIENCE)
            .build()
            .map_err(|error| failed(&error))?;
        let resource = Resource::builder()
            .with_service_name("carrel")
            .with_attribute(opentelemetry::KeyValue::new("service.instance.id", worker.to_owned()));
        Ok(Some(Self(
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build(),
        )))
    }

    pub(super) fn tracer(&self) -> Tracer {
        self.0.tracer("carrel")
    }

    /// Sends what is left.
    pub(super) async fn end(self) {
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(PATIENCE)).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// Our own HTTP client, driven by the service's runtime: the exporter has a thread without one.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

type Sent<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> Sent<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        let client = self.client.clone();
        let sending = self.runtime.spawn(async move {
            let answer = client.execute(request.try_into()?).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                headers.clone_from(answer.headers());
            }
            // What a collector answers is a few bytes, or a page that nobody reads.
            let body = if answer.content_length().is_some_and(|length| length <= 65_536) {
                answer.bytes().await?
            } else {
                Bytes::new()
            };
            Ok::<_, HttpError>(response.body(body)?)
        });
        Box::pin(async move { sending.await? })
    }
}
