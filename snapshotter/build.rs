//! Compiles the service definitions in proto/, without protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = [
        "snapshots.proto",
        "diff.proto",
        "content.proto",
        "leases.proto",
        "operator.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .include_file("api.rs")
        .type_attribute(".erofs", "#[derive(serde::Serialize)]")
        .bytes(".containerd.services.content.v1.ReadContentResponse.data")
        .compile_fds(descriptors)?;
    Ok(())
}
