//! Compiles the part of etcd's contract that the store speaks, with protox, so that no machine needs a system protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = "src/store/etcd";
    let contract = format!("{directory}/contract.proto");
    println!("cargo:rerun-if-changed={contract}");
    let descriptors = protox::compile([contract], [directory])?;
    tonic_prost_build::configure()
        .build_server(false)
        // Values are shared with what decodes them, not copied.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
