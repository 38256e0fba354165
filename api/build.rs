//! Compiles `proto/` with protox, so that no machine needs a system protoc, and keeps the descriptor set for gRPC reflection.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut contract: Vec<_> = std::fs::read_dir("proto/bootjack/v1")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    contract.sort();
    let descriptors = protox::compile(contract, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("bootjack.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .btree_map(".")
        .boxed(".bootjack.v1.Operation.result.response")
        .compile_fds(descriptors)?;
    Ok(())
}
