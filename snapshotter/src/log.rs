//! What the process tells on standard error.

use crate::config::{Format, Log};
use std::io;
use std::time::Duration;
use tonic::{Code, Status};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts telling, for the rest of the process.
pub(crate) fn start(log: &Log) {
    // The crates below us tell what concerns nobody but their authors.
    let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), log.level.0);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false);
    let layer = match log.format {
        Format::Text => layer.boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    };
    // Another one would be there already only if the caller of this library had made one.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(ours))
        .try_init();
}

/// Tells of a call: what is no fault of anybody only to those who want to know everything.
pub(crate) fn call(method: &str, key: &str, took: Duration, failed: Option<&Status>) {
    let seconds = took.as_secs_f64();
    let Some(status) = failed else {
        match method {
            "Apply" | "Diff" => tracing::info!(method, key, seconds),
            _ => tracing::debug!(method, key, seconds),
        }
        return;
    };
    let (code, error) = (code(status.code()), status.message());
    match status.code() {
        // containerd asks what there is by trying.
        Code::NotFound | Code::AlreadyExists | Code::Unimplemented => {
            tracing::debug!(method, key, seconds, code, error);
        }
        _ => tracing::warn!(method, key, seconds, code, error),
    }
}

/// A gRPC code as logs and metrics of gRPC call it.
pub(crate) const fn code(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}
