//! What is counted, for Prometheus.

use crate::api::operator::StatusResponse;
use crate::error::Error;
use crate::log;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::io::{self, Read};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use tonic::Code;

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Bytes = Family<Labels<1>, Counter>;
type Seconds = Family<Labels<1>, Counter<f64, AtomicU64>>;
type Numbers = Family<Labels<1>, Gauge>;

/// Upper ends of classes of calls, in seconds: most take milliseconds, a large layer a minute.
const CLASSES: [f64; 10] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0];

/// How a wanted layer was come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It was there.
    Here,
    /// Another folder had it.
    Elsewhere,
    /// It had to be converted.
    Nowhere,
}

impl Found {
    const fn name(self) -> &'static str {
        match self {
            Self::Here => "hit",
            Self::Elsewhere => "sourced",
            Self::Nowhere => "miss",
        }
    }
}

/// Counters since the process was started, and numbers of what there is.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    calls: Family<Labels<2>, Histogram>,
    unpack_seconds: Seconds,
    unpack_bytes: Bytes,
    cache: Family<Labels<1>, Counter>,
    ahead: Counter,
    snapshots: Numbers,
    layers: Numbers,
    layer_bytes: Numbers,
    mounts: Numbers,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("erofs_snapshotter"),
            calls: Family::new_with_constructor(|| Histogram::new(CLASSES)),
            unpack_seconds: Family::default(),
            unpack_bytes: Family::default(),
            cache: Family::default(),
            ahead: Counter::default(),
            snapshots: Family::default(),
            layers: Family::default(),
            layer_bytes: Family::default(),
            mounts: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register_with_unit(
            "call",
            "Calls of containerd by method and gRPC code",
            Unit::Seconds,
            metrics.calls.clone(),
        );
        registry.register_with_unit(
            "unpack",
            "Time of layers: reading blobs, converting them (both at once), publishing images",
            Unit::Seconds,
            metrics.unpack_seconds.clone(),
        );
        registry.register_with_unit(
            "unpack",
            "Size of layers as blobs, as tars and as images",
            Unit::Bytes,
            metrics.unpack_bytes.clone(),
        );
        registry.register(
            "cache_requests",
            "Layers that were here, in other folders, or had to be converted",
            metrics.cache.clone(),
        );
        registry.register(
            "layers_ahead",
            "Layers that had been converted when they were asked for",
            metrics.ahead.clone(),
        );
        registry.register("snapshots", "Snapshots by state", metrics.snapshots.clone());
        registry.register("layers", "Layers by use", metrics.layers.clone());
        registry.register_with_unit(
            "layers",
            "Size on disk of layers by use",
            Unit::Bytes,
            metrics.layer_bytes.clone(),
        );
        registry.register(
            "mounts",
            "Mounted layers by what carries them",
            metrics.mounts.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// A call has ended.
    pub(crate) fn call(&self, method: &'static str, took: Duration, code: Code) {
        let labels = [("method", method), ("code", log::code(code))];
        self.calls
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// A layer went through a stage.
    pub(crate) fn took(&self, stage: &'static str, took: Duration) {
        self.unpack_seconds
            .get_or_create(&[("stage", stage)])
            .inc_by(took.as_secs_f64());
    }

    /// A layer has this size in a stage.
    pub(crate) fn measured(&self, stage: &'static str, bytes: u64) {
        self.unpack_bytes
            .get_or_create(&[("stage", stage)])
            .inc_by(bytes);
    }

    /// A layer was asked for.
    pub(crate) fn found(&self, found: Found) {
        self.cache.get_or_create(&[("result", found.name())]).inc();
    }

    /// A layer was asked for that had been converted before.
    pub(crate) fn was_ahead(&self) {
        self.ahead.inc();
    }

    /// How often a layer was come by that way.
    pub(crate) fn times_found(&self, found: Found) -> u64 {
        self.cache.get_or_create(&[("result", found.name())]).get()
    }

    /// Everything, in the text format of OpenMetrics.
    ///
    /// # Errors
    /// [`Error::Argument`], which would be a fault of this module.
    pub(crate) fn text(&self, status: &StatusResponse) -> Result<String, Error> {
        let set = |family: &Numbers, label, name, number: u64| {
            family
                .get_or_create(&[(label, name)])
                .set(i64::try_from(number).unwrap_or(i64::MAX));
        };
        let snapshots = status.snapshots.unwrap_or_default();
        set(&self.snapshots, "state", "active", snapshots.active);
        set(&self.snapshots, "state", "view", snapshots.views);
        set(&self.snapshots, "state", "committed", snapshots.committed);
        for (name, layers) in [("used", status.used), ("unused", status.unused)] {
            let layers = layers.unwrap_or_default();
            set(&self.layers, "use", name, layers.count);
            set(&self.layer_bytes, "use", name, layers.bytes);
        }
        for name in ["file", "loop", "block", "fuse"] {
            let mut counts = status.mounts.iter();
            let count = counts.find(|mounts| mounts.carrier == name);
            set(
                &self.mounts,
                "carrier",
                name,
                count.map_or(0, |mounts| mounts.count),
            );
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)
            .map_err(|error| Error::Argument(format!("metrics: {error}")))?;
        Ok(text)
    }
}

/// A blob that is read, and counted when it was.
#[derive(Debug)]
pub(crate) struct Counted<R> {
    blob: R,
    bytes: u64,
    took: Duration,
    metrics: std::sync::Arc<Metrics>,
}

impl<R> Counted<R> {
    pub(crate) fn new(blob: R, metrics: std::sync::Arc<Metrics>) -> Self {
        Self {
            blob,
            bytes: 0,
            took: Duration::ZERO,
            metrics,
        }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let began = Instant::now();
        let read = self.blob.read(out);
        self.took += began.elapsed();
        self.bytes += *read.as_ref().unwrap_or(&0) as u64;
        read
    }
}

impl<R> Drop for Counted<R> {
    fn drop(&mut self) {
        self.metrics.took("read", self.took);
        self.metrics.measured("blob", self.bytes);
    }
}
