//! What a kubelet asks of containerd: pods, containers, images, and images that are mounted as volumes.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};

use erofs_snapshotter::client::connect;
use erofs_snapshotter::contradictions;
use erofs_tests::containerd::{Containerd, Layout, NAME, NEWER, Packing, Registry, newer};
use erofs_tests::manifest::Manifest;
use erofs_tests::require;
use erofs_tests::workshop::Workshop;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::plugin::noise;
use crate::{IMAGE, layout, needs};
use api::image_service_client::ImageServiceClient;
use api::runtime_service_client::RuntimeServiceClient;
use api::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ExecSyncRequest, ExecSyncResponse,
    FilesystemUsage, ImageFsInfoRequest, ImageSpec, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount,
    NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata, PullImageRequest,
    RemoveImageRequest, RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest,
    StopPodSandboxRequest,
};

/// Services and messages, compiled from proto/ by build.rs.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated code"
)]
mod api {
    include!(concat!(env!("OUT_DIR"), "/runtime.v1.rs"));
}

/// Where containerd keeps what belongs to CRI.
const NAMESPACE: &str = "k8s.io";
/// Of what is mounted as a volume, and of what the first process of a pod is.
const OTHERS: [&str; 2] = ["registry.example/model:1", "registry.example/pause:1"];

/// A client of containerd as a kubelet is one.
struct Kubelet {
    tokio: Runtime,
    pods: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Kubelet {
    fn new(containerd: &Containerd) -> Self {
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("starts");
        let channel = tokio.block_on(connect(&containerd.folder().join("c.sock")));
        let channel = channel.expect("it serves");
        Self {
            tokio,
            pods: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel),
        }
    }

    #[track_caller]
    fn wait<T>(&self, answer: impl Future<Output = Result<Response<T>, Status>>) -> T {
        self.tokio.block_on(answer).expect("done").into_inner()
    }

    /// Returns what containers are to call the image.
    fn pull(&self, name: &str) -> ImageSpec {
        let request = PullImageRequest {
            image: Some(spec(name)),
        };
        let mut client = self.images.clone();
        spec(&self.wait(client.pull_image(request)).image_ref)
    }

    fn remove(&self, image: ImageSpec) {
        let request = RemoveImageRequest { image: Some(image) };
        let mut client = self.images.clone();
        self.wait(client.remove_image(request));
    }

    /// What images take, and where.
    fn usage(&self) -> FilesystemUsage {
        let mut client = self.images.clone();
        let answer = self.wait(client.image_fs_info(ImageFsInfoRequest {}));
        let [usage] = &answer.image_filesystems[..] else {
            panic!("one filesystem: {answer:?}");
        };
        usage.clone()
    }

    /// Starts a pod and returns its name.
    fn run_pod(&self) -> String {
        let request = RunPodSandboxRequest {
            config: Some(pod()),
        };
        let mut client = self.pods.clone();
        self.wait(client.run_pod_sandbox(request)).pod_sandbox_id
    }

    /// Starts a container in it and returns its name.
    fn run_container(&self, pod_name: &str, image: &ImageSpec, mounts: Vec<Mount>) -> String {
        let security_context = LinuxContainerSecurityContext {
            namespace_options: Some(machine()),
        };
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: "reader".to_owned(),
            }),
            image: Some(image.clone()),
            command: vec!["sleep".to_owned(), "100000".to_owned()],
            mounts,
            linux: Some(LinuxContainerConfig {
                security_context: Some(security_context),
            }),
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: pod_name.to_owned(),
            config: Some(config),
            sandbox_config: Some(pod()),
        };
        let mut client = self.pods.clone();
        let container_id = self.wait(client.create_container(request)).container_id;
        self.wait(client.start_container(StartContainerRequest {
            container_id: container_id.clone(),
        }));
        container_id
    }

    fn exec(&self, container: &str, script: &str) -> ExecSyncResponse {
        let request = ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: ["sh", "-c", script].map(str::to_owned).into(),
            timeout: 60,
        };
        let mut client = self.pods.clone();
        self.wait(client.exec_sync(request))
    }

    /// Stops and removes a pod with its containers.
    fn remove_pod(&self, name: String) {
        let mut client = self.pods.clone();
        self.wait(client.stop_pod_sandbox(StopPodSandboxRequest {
            pod_sandbox_id: name.clone(),
        }));
        self.wait(client.remove_pod_sandbox(RemovePodSandboxRequest {
            pod_sandbox_id: name,
        }));
    }
}

fn spec(image: &str) -> ImageSpec {
    ImageSpec {
        image: image.to_owned(),
    }
}

/// The network of the machine.
fn machine() -> NamespaceOption {
    NamespaceOption {
        network: NamespaceMode::Node.into(),
    }
}

fn pod() -> PodSandboxConfig {
    let security_context = LinuxSandboxSecurityContext {
        namespace_options: Some(machine()),
    };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "pod".to_owned(),
            uid: "pod".to_owned(),
            namespace: "tests".to_owned(),
        }),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(security_context),
        }),
    }
}

/// What is told of CRI beside what we print: which image pods begin with, that usage is looked at each second, and that
/// this may run where not even root makes processes less likely to be killed.
fn configuration(version: &str, pause: &str) -> String {
    let (usage, scores) = ("stats_collect_period = 1", "restrict_oom_score_adj = true");
    match version {
        "1.7" => format!(
            "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{pause}\"\n{usage}\n{scores}\n"
        ),
        _ => format!(
            "{usage}\n[plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = \"{pause}\"\n\
             [plugins.\"io.containerd.cri.v1.runtime\"]\n{scores}\n"
        ),
    }
}

/// Bytes that all snapshots take.
fn used(containerd: &Containerd) -> u64 {
    let usage = ["snapshots", "--snapshotter", NAME, "usage", "-b"];
    let said = containerd.says(&[&["--namespace", NAMESPACE], &usage[..]].concat());
    let sizes = said.lines().skip(1).map(|line| {
        let size = line.split_whitespace().nth(1).expect("a size");
        size.parse::<u64>().expect("bytes")
    });
    sizes.sum()
}

/// Mount points below a folder.
fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("read");
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let points = points.map(PathBuf::from);
    points.filter(|point| point.starts_with(folder)).collect()
}

/// A pod is run from images of a registry, and removed with them.
pub(crate) fn pods_run(version: &'static str) {
    let mut setup = require!(needs(version));
    let registry = Registry::start(&setup.program("docker-registry"));
    let [image, model, pause] = ["image:1", "model:1", "pause:1"].map(|name| registry.image(name));
    setup.containerd = configuration(version, &pause);
    let workshop = Workshop::light();
    let tars = ["image.tar", "model.tar", "pause.tar"].map(|name| workshop.path(name));
    layout(&workshop, &setup, Packing::Zstd, |_| ()).finish(IMAGE, &tars[0]);
    let weights = noise(12, 1_000_000);
    fs::create_dir(workshop.path("model")).expect("made");
    fs::write(workshop.path("model/weights"), &weights).expect("written");
    let mut volume = Layout::new(&workshop.path("model-layout"));
    volume.layer(&workshop.path("awkward"), Packing::Gzip, |_| ());
    volume.layer(&workshop.path("model"), Packing::Zstd, |_| ());
    volume.finish(OTHERS[0], &tars[1]);
    let mut pauses = Layout::new(&workshop.path("pause-layout")).command(&["sleep", "100000"]);
    pauses.layer(&workshop.path("lower"), Packing::Gzip, |_| ());
    pauses.finish(OTHERS[1], &tars[2]);

    let mut containerd = Containerd::start(&setup);
    for ((tar, imported), name) in
        (tars.iter().zip([IMAGE, OTHERS[0], OTHERS[1]])).zip([&image, &model, &pause])
    {
        containerd.push(tar, imported, name);
    }
    let kubelet = Kubelet::new(&containerd);
    let (image, model) = (kubelet.pull(&image), kubelet.pull(&model));
    let expected = used(&containerd);
    assert!(expected > 1_000_000, "{expected} bytes");
    let used_bytes = |usage: &FilesystemUsage| usage.used_bytes.map(|bytes| bytes.value);
    containerd.wait(|_| used_bytes(&kubelet.usage()) == Some(expected));
    let usage = kubelet.usage();
    let place = usage.fs_id.expect("told").mountpoint;
    assert_eq!(Path::new(&place), containerd.root());

    let pod = kubelet.run_pod();
    let volumes = match version {
        "1.7" => Vec::new(),
        NEWER if newer().is_ok_and(|version| version < (2, 1)) => Vec::new(),
        _ => vec![Mount {
            container_path: "/volume".to_owned(),
            readonly: true,
            image: Some(model.clone()),
            ..Mount::default()
        }],
    };
    let has_volume = !volumes.is_empty();
    let container = kubelet.run_container(&pod, &image, volumes);
    // What runs goes on while the plugin is gone, and is known to the next one.
    containerd.kill_plugin();
    let said = kubelet.exec(
        &container,
        "cat /old/new; ls /gone; echo written >/made && cat /made",
    );
    assert_eq!(said.stdout, b"new\nwritten\n", "{said:?}");
    assert_eq!(said.exit_code, 0);
    let read = kubelet.exec(&container, "cat /bin/busybox");
    let busybox = fs::read(workshop.path("lower/bin/busybox")).expect("read");
    assert!(read.stdout == busybox, "a program is read back");
    let process = containerd.process(NAMESPACE, &container);
    let root = PathBuf::from(format!("/proc/{process}/root"));
    let awkward = Manifest::of_directory(&workshop.path("awkward/awkward")).expect("readable");
    let seen = |folder: &str| Manifest::of_directory(&root.join(folder)).expect("readable");
    awkward.assert_same(&seen("awkward"), &[]);
    if has_volume {
        awkward.assert_same(&seen("volume/awkward"), &[]);
        let read = kubelet.exec(&container, "cat /volume/weights");
        assert!(read.stdout == weights, "a file of the volume is read back");
        let refused = kubelet.exec(&container, "echo >/volume/made");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("Read-only file system"), "{refused:?}");
    }

    kubelet.remove_pod(pod);
    for image in [image, model, spec(&pause)] {
        kubelet.remove(image);
    }
    containerd.wait(|containerd| containerd.files().is_empty());
    let list = ["snapshots", "--snapshotter", NAME, "list"];
    let left = containerd.says(&[&["--namespace", NAMESPACE], &list[..]].concat());
    assert_eq!(left.lines().count(), 1, "{left}");
    assert_eq!(mounts_below(containerd.folder()), Vec::<PathBuf>::new());
    let log = containerd.plugin_log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    containerd.stop_plugin();
    let found = contradictions(&containerd.root()).expect("readable");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn pods_run_under_containerd_2_1() {
    pods_run("2.1");
}

/// Which knows no image volumes.
#[test]
fn pods_run_under_containerd_1_7() {
    pods_run("1.7");
}
