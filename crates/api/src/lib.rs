//! The HTTP API, its event stream and the embedded web app.
