//! Metrics and health over HTTP.
//!
//! | path | what |
//! |---|---|
//! | `/metrics` | counters, for Prometheus |
//! | `/healthz` | whether the process answers |
//! | `/readyz` | whether it can tell what there is |

use crate::config::Address;
use crate::error::Error;
use crate::snapshotter::Snapshotter;
use crate::socket;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// Media type of OpenMetrics.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Somewhere to ask.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Takes the address, if there is one.
    ///
    /// # Errors
    /// It is taken, or not ours.
    pub(crate) async fn bind(address: &Address) -> io::Result<Option<Self>> {
        match address {
            Address::None => Ok(None),
            Address::Tcp(address) => Ok(Some(Self::Tcp(TcpListener::bind(address).await?))),
            Address::Unix(path) => Ok(Some(Self::Unix(socket::listen(path)?))),
        }
    }

    /// Answers for ever.
    pub(crate) async fn serve(self, snapshotter: Arc<Snapshotter>) {
        loop {
            let accepted =
                match &self {
                    Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                        tokio::spawn(connection(stream, Arc::clone(&snapshotter)))
                    }),
                    Self::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                        tokio::spawn(connection(stream, Arc::clone(&snapshotter)))
                    }),
                };
            if let Err(error) = accepted {
                // There are no more file descriptors, for now.
                tracing::warn!(%error, "metrics");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    snapshotter: Arc<Snapshotter>,
) {
    let answer = service_fn(move |request| answer(request, Arc::clone(&snapshotter)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "metrics");
    }
}

async fn answer(
    request: Request<Incoming>,
    snapshotter: Arc<Snapshotter>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, media_type, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        (&Method::GET | &Method::HEAD, path @ ("/metrics" | "/readyz")) => {
            let metrics = path == "/metrics";
            let looked = tokio::task::spawn_blocking(move || look(&snapshotter, metrics)).await;
            match looked {
                Ok(Ok(text)) if metrics => (StatusCode::OK, METRICS, text),
                Ok(Ok(text)) => (StatusCode::OK, TEXT, text),
                Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{error}\n")),
                Err(error) => (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    TEXT,
                    format!("{error}\n"),
                ),
            }
        }
        (&Method::GET | &Method::HEAD, _) => (
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /metrics, /healthz and /readyz\n".to_owned(),
        ),
        _ => (StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let media_type = hyper::header::HeaderValue::from_static(media_type);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    Ok(response)
}

fn look(snapshotter: &Snapshotter, metrics: bool) -> Result<String, Error> {
    let status = snapshotter.status()?;
    match metrics {
        true => snapshotter.metrics.text(&status),
        false => Ok("ready\n".to_owned()),
    }
}
