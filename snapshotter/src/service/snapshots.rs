//! `containerd.services.snapshots.v1.Snapshots`.

use super::Service;
use crate::api::snapshots::v1::snapshots_server::Snapshots;
use crate::api::snapshots::v1::{
    CleanupRequest, CommitSnapshotRequest, Info, Kind, ListSnapshotsRequest, ListSnapshotsResponse,
    MountsRequest, MountsResponse, PrepareSnapshotRequest, PrepareSnapshotResponse,
    RemoveSnapshotRequest, StatSnapshotRequest, StatSnapshotResponse, UpdateSnapshotRequest,
    UpdateSnapshotResponse, UsageRequest, UsageResponse, ViewSnapshotRequest, ViewSnapshotResponse,
};
use crate::api::types::Mount;
use crate::error::Error;
use crate::filter::{Fields, Filters};
use crate::metadata::{Labels, Snapshot, State, Time};
use prost_types::Timestamp;
use std::collections::HashMap;
use std::pin::Pin;
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status};

/// Snapshots in one message of a list.
const LIST_LENGTH: usize = 100;
/// Most bytes of a label's key and value together, as containerd has it.
const MAX_LABEL: usize = 4096;

impl From<Time> for Timestamp {
    fn from(time: Time) -> Self {
        Self {
            seconds: i64::try_from(time.0 / 1_000_000_000).unwrap_or(i64::MAX),
            nanos: i32::try_from(time.0 % 1_000_000_000).unwrap_or(0),
        }
    }
}

fn info(name: &str, snapshot: Snapshot) -> Info {
    let labels = snapshot.labels.iter();
    let labels = labels.filter(|(label, _)| snapshot.tells(label));
    Info {
        name: name.to_owned(),
        labels: labels
            .map(|(label, value)| (label.clone(), value.clone()))
            .collect(),
        parent: snapshot.parent.unwrap_or_default(),
        kind: Kind::from(snapshot.state).into(),
        created_at: Some(snapshot.created.into()),
        updated_at: Some(snapshot.updated.into()),
    }
}

/// A snapshot as filters see it.
struct Named<'a>(&'a str, &'a Snapshot);

impl Fields for Named<'_> {
    fn field(&self, path: &[String]) -> Option<&str> {
        let Self(name, snapshot) = self;
        match path {
            [field] => match field.as_str() {
                "name" => Some(name),
                "parent" => Some(snapshot.parent.as_deref().unwrap_or_default()),
                "kind" => Some(snapshot.state.name()),
                _ => None,
            },
            // Parts that were not quoted belong together.
            [labels, label @ ..] if labels == "labels" => {
                let label = label.join(".");
                let told = snapshot
                    .labels
                    .get(&label)
                    .filter(|_| snapshot.tells(&label));
                told.map(String::as_str)
            }
            _ => None,
        }
    }
}

fn labels(labels: HashMap<String, String>) -> Result<Labels, Error> {
    for (key, value) in &labels {
        if key.len() + value.len() > MAX_LABEL {
            return Err(Error::Argument(format!(
                "label {key:?} has more than {MAX_LABEL} bytes"
            )));
        }
    }
    Ok(labels.into_iter().collect())
}

/// A key, which must not be empty.
fn key(key: String) -> Result<String, Error> {
    match key.is_empty() {
        true => Err(Error::Argument("a snapshot has no empty key".to_owned())),
        false => Ok(key),
    }
}

fn parent(name: String) -> Option<String> {
    (!name.is_empty()).then_some(name)
}

impl Service {
    /// A new snapshot in this state.
    async fn make(
        &self,
        state: State,
        name: String,
        below: String,
        values: HashMap<String, String>,
    ) -> Result<Vec<Mount>, Status> {
        let method = match state {
            State::View => "View",
            _ => "Prepare",
        };
        let made = self.run(method, name.clone(), move |snapshotter| {
            let (name, below) = (key(name)?, parent(below));
            snapshotter.prepare(&name, state, below.as_deref(), labels(values)?)
        });
        made.await.inspect_err(|status| {
            // Of what exists already nothing was begun.
            if status.code() != Code::AlreadyExists {
                self.clean_up();
            }
        })
    }
}

#[tonic::async_trait]
impl Snapshots for Service {
    async fn prepare(
        &self,
        request: Request<PrepareSnapshotRequest>,
    ) -> Result<Response<PrepareSnapshotResponse>, Status> {
        let PrepareSnapshotRequest {
            key,
            parent,
            labels,
            ..
        } = request.into_inner();
        let mounts = self.make(State::Active, key, parent, labels).await?;
        Ok(Response::new(PrepareSnapshotResponse { mounts }))
    }

    async fn view(
        &self,
        request: Request<ViewSnapshotRequest>,
    ) -> Result<Response<ViewSnapshotResponse>, Status> {
        let ViewSnapshotRequest {
            key,
            parent,
            labels,
            ..
        } = request.into_inner();
        let mounts = self.make(State::View, key, parent, labels).await?;
        Ok(Response::new(ViewSnapshotResponse { mounts }))
    }

    async fn mounts(
        &self,
        request: Request<MountsRequest>,
    ) -> Result<Response<MountsResponse>, Status> {
        let key = request.into_inner().key;
        let at_hand = self.answer("Mounts", &key, |snapshotter| {
            snapshotter.mounts_at_hand(&key)
        })?;
        let mounts = match at_hand {
            Some(mounts) => mounts,
            None => {
                self.run("Mounts", key.clone(), move |snapshotter| {
                    snapshotter.mounts(&key)
                })
                .await?
            }
        };
        Ok(Response::new(MountsResponse { mounts }))
    }

    async fn commit(
        &self,
        request: Request<CommitSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        let done = self.run("Commit", request.key.clone(), move |snapshotter| {
            let parent = parent(request.parent);
            let (name, labels) = (key(request.name)?, labels(request.labels)?);
            snapshotter.commit(&request.key, &name, parent.as_deref(), labels)
        });
        let done = done.await;
        self.clean_up();
        done.map(Response::new)
    }

    async fn remove(
        &self,
        request: Request<RemoveSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let key = request.into_inner().key;
        let done = self.run("Remove", key.clone(), move |snapshotter| {
            snapshotter.remove(&key)
        });
        let done = done.await;
        self.clean_up();
        done.map(Response::new)
    }

    async fn stat(
        &self,
        request: Request<StatSnapshotRequest>,
    ) -> Result<Response<StatSnapshotResponse>, Status> {
        let key = request.into_inner().key;
        let info = self.answer("Stat", &key, |snapshotter| {
            let snapshot = snapshotter.metadata.get(&key)?;
            Ok(Some(info(&key, snapshot)))
        })?;
        Ok(Response::new(StatSnapshotResponse { info }))
    }

    async fn update(
        &self,
        request: Request<UpdateSnapshotRequest>,
    ) -> Result<Response<UpdateSnapshotResponse>, Status> {
        let request = request.into_inner();
        let name = request.info.as_ref().map(|info| info.name.clone());
        let info = self.run("Update", name.unwrap_or_default(), move |snapshotter| {
            let given = request
                .info
                .ok_or_else(|| Error::Argument("no snapshot is named".to_owned()))?;
            let mut values = labels(given.labels)?;
            let paths = request.update_mask.map(|mask| mask.paths);
            let paths = paths.unwrap_or_default();
            let mut changed = Vec::new();
            for path in &paths {
                match path.strip_prefix("labels.") {
                    Some(label) => changed.push(label.to_owned()),
                    None if path == "labels" => {}
                    None => {
                        return Err(Error::Argument(format!(
                            "{path:?} of a snapshot cannot be changed, only labels can"
                        )));
                    }
                }
            }
            let all = paths.is_empty() || paths.iter().any(|path| path == "labels");
            let snapshot = snapshotter.metadata.update(&given.name, |labels| {
                if all {
                    *labels = values;
                    return;
                }
                for label in changed {
                    match values.remove(&label) {
                        // An empty value takes the label away.
                        Some(value) if !value.is_empty() => labels.insert(label, value),
                        _ => labels.remove(&label),
                    };
                }
            })?;
            Ok(info(&given.name, snapshot))
        });
        let info = Some(info.await?);
        Ok(Response::new(UpdateSnapshotResponse { info }))
    }

    type ListStream = Pin<Box<dyn Stream<Item = Result<ListSnapshotsResponse, Status>> + Send>>;

    async fn list(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let filters = request.into_inner().filters;
        let found = self.run("List", filters.join(","), move |snapshotter| {
            let filters = Filters::parse(&filters)?;
            let mut found = Vec::new();
            let each = |name: &str, snapshot: Snapshot| {
                if filters.matches(&Named(name, &snapshot)) {
                    found.push(info(name, snapshot));
                }
                Ok(())
            };
            // So containerd asks for each layer that is there before it is unpacked, however many snapshots there are.
            let parents = filters.values("parent");
            let parents = parents.filter(|parents| !parents.contains(&""));
            match parents {
                Some(parents) => {
                    let parents = parents.into_iter().collect();
                    snapshotter.metadata.walk_children(&parents, each)?;
                }
                None => snapshotter.metadata.walk(each)?,
            }
            Ok(found)
        });
        let found = found.await?;
        let messages: Vec<_> = found
            .chunks(LIST_LENGTH)
            .map(|infos| {
                Ok(ListSnapshotsResponse {
                    info: infos.to_vec(),
                })
            })
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }

    async fn usage(
        &self,
        request: Request<UsageRequest>,
    ) -> Result<Response<UsageResponse>, Status> {
        let key = request.into_inner().key;
        let usage = self.run("Usage", key.clone(), move |snapshotter| {
            snapshotter.usage(&key)
        });
        let (size, inodes) = usage.await?;
        let number = |value| i64::try_from(value).unwrap_or(i64::MAX);
        Ok(Response::new(UsageResponse {
            size: number(size),
            inodes: number(inodes),
        }))
    }

    async fn cleanup(&self, _: Request<CleanupRequest>) -> Result<Response<()>, Status> {
        self.run("Cleanup", String::new(), |snapshotter| {
            snapshotter.cleanup()
        })
        .await
        .map(Response::new)
    }
}
