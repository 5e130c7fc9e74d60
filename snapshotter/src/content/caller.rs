//! In whose name containerd is called.

use crate::config::Containerd;
use crate::error::Error;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

/// The header that tells containerd's namespace.
const NAMESPACE: &str = "containerd-namespace";
/// The header that tells which lease keeps new blobs from being collected.
const LEASE: &str = "containerd-lease";

/// Who called, as far as containerd has to know when it is called in turn.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    namespace: MetadataValue<Ascii>,
    lease: Option<MetadataValue<Ascii>>,
}

impl Caller {
    /// From the headers of a call. Before 2.1 containerd does not tell the namespace, then it is the configured one.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub(crate) fn of(headers: &MetadataMap, containerd: &Containerd) -> Result<Self, Error> {
        let namespace = match headers.get(NAMESPACE) {
            Some(namespace) => namespace.clone(),
            None => containerd.namespace.parse().map_err(|_| {
                Error::Argument(format!("{:?} is no namespace", containerd.namespace))
            })?,
        };
        Ok(Self {
            namespace,
            lease: headers.get(LEASE).cloned(),
        })
    }

    /// The same in this namespace, if that is one.
    pub(super) fn in_namespace(self, namespace: &str) -> Self {
        match namespace.parse::<MetadataValue<Ascii>>() {
            Ok(namespace) if !namespace.as_encoded_bytes().is_empty() => Self { namespace, ..self },
            _ => self,
        }
    }

    /// The lease that it has, if containerd tells that.
    pub(super) fn lease(&self) -> Option<&str> {
        self.lease.as_ref()?.to_str().ok()
    }

    /// A call in its name.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert(NAMESPACE, self.namespace.clone());
        if let Some(lease) = &self.lease {
            headers.insert(LEASE, lease.clone());
        }
        request
    }
}
