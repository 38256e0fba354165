//! The gRPC contract of Bootjack: package `bootjack.v1`, as published in `api/proto`.
//!
//! In: nothing. Out: the messages, the client and the server trait generated from the `.proto` files, whose comments are the
//! manual; and in `access` what `bootjack auth` writes and the service reads. This crate is a leaf: the service and the CLI share
//! it and it knows neither.

pub mod access;

/// Package `bootjack.v1`.
#[allow(clippy::doc_lazy_continuation, clippy::doc_overindented_list_items)]
pub mod v1 {
    tonic::include_proto!("bootjack.v1");

    /// The compiled descriptors of the package and all it imports, for the gRPC reflection service.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/bootjack.v1.bin"));
}
