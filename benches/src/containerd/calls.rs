//! Single calls of the snapshots service, through containerd as its clients make them.

use std::time::Instant;

use anyhow::{Context, Result};
use erofs_snapshotter::api::snapshots::v1::snapshots_client::SnapshotsClient;
use erofs_snapshotter::api::snapshots::v1::{
    CommitSnapshotRequest, MountsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
    StatSnapshotRequest,
};
use erofs_snapshotter::client::connect;
use tonic::Request;
use tonic::transport::Channel;

use super::Figures;
use super::site::{SNAPSHOTTERS, Site};

/// Snapshots at the end.
const COUNT: usize = 1000;
/// The snapshot below all others.
const PARENT: &str = "parent";

/// The time within which 99 of 100 calls are answered, in milliseconds, with 1,000 snapshots there.
///
/// # Errors
/// A call fails.
pub(crate) fn measure(site: &Site) -> Result<Vec<(&'static str, Figures)>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut client = SnapshotsClient::new(connect(&site.socket()).await?);
        let measured = calls(&mut client).await;
        measured.context("calling the snapshots service")
    })
}

/// A request in the namespace of these calls.
fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let namespace = "calls".parse().expect("a header's value");
    request
        .metadata_mut()
        .insert("containerd-namespace", namespace);
    request
}

/// Keeps what is made from containerd's garbage collector.
fn labels() -> std::collections::HashMap<String, String> {
    [("containerd.io/gc.root".to_owned(), "1".to_owned())].into()
}

fn prepare(snapshotter: &str, key: String, parent: &str) -> Request<PrepareSnapshotRequest> {
    request(PrepareSnapshotRequest {
        snapshotter: snapshotter.to_owned(),
        key,
        parent: parent.to_owned(),
        labels: labels(),
    })
}

async fn calls(client: &mut SnapshotsClient<Channel>) -> Result<Vec<(&'static str, Figures)>> {
    for snapshotter in SNAPSHOTTERS {
        client
            .prepare(prepare(snapshotter, "below".to_owned(), ""))
            .await?;
        let commit = request(CommitSnapshotRequest {
            snapshotter: snapshotter.to_owned(),
            name: PARENT.to_owned(),
            key: "below".to_owned(),
            labels: labels(),
            ..CommitSnapshotRequest::default()
        });
        client.commit(commit).await?;
    }
    let [mut prepared, mut mounted, mut told] = [(); 3].map(|()| Figures::default());
    let milliseconds = |began: Instant| began.elapsed().as_secs_f64() * 1000.0;
    for number in 0..COUNT {
        for (index, snapshotter) in SNAPSHOTTERS.into_iter().enumerate() {
            let message = prepare(snapshotter, number.to_string(), PARENT);
            let began = Instant::now();
            client.prepare(message).await?;
            prepared[index].push(milliseconds(began));
        }
    }
    for number in 0..COUNT {
        for (index, snapshotter) in SNAPSHOTTERS.into_iter().enumerate() {
            let (snapshotter, key) = (snapshotter.to_owned(), number.to_string());
            let mounts = request(MountsRequest {
                snapshotter: snapshotter.clone(),
                key: key.clone(),
            });
            let stat = request(StatSnapshotRequest { snapshotter, key });
            let began = Instant::now();
            client.mounts(mounts).await?;
            mounted[index].push(milliseconds(began));
            let began = Instant::now();
            client.stat(stat).await?;
            told[index].push(milliseconds(began));
        }
    }
    for snapshotter in SNAPSHOTTERS {
        let keys = (0..COUNT).map(|number| number.to_string());
        for key in keys.chain([PARENT.to_owned()]) {
            let snapshotter = snapshotter.to_owned();
            client
                .remove(request(RemoveSnapshotRequest { snapshotter, key }))
                .await?;
        }
    }
    Ok(vec![
        ("Prepare, 99 of 100 calls within", late(prepared)),
        ("Mounts, 99 of 100 calls within", late(mounted)),
        ("Stat, 99 of 100 calls within", late(told)),
    ])
}

/// The time that 1 of 100 exceeds.
fn late(figures: Figures) -> Figures {
    figures.map(|mut all| {
        all.sort_by(f64::total_cmp);
        let index = all.len() * 99 / 100;
        all.get(index).copied().into_iter().collect()
    })
}
