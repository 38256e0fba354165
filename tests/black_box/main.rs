//! Tests from outside: the program as its users run it, with real sockets, real clients and real firmware.
//!
//! They need root, or a user namespace that stands for it (`make test` sees to either), and the packages of
//! `deploy/packages.sh test`; what is missing fails them by name.

mod apply;
mod artifact;
mod auth;
mod check;
mod cli;
mod cli_verbs;
mod container;
mod crash;
mod dhcp_clients;
mod dhcp_packets;
mod dhcp_policy;
mod dhcp_relay;
mod disk_image;
mod doctor;
mod documents;
mod etcd_backend;
mod etcd_client;
mod etcd_secure;
mod etcd_store;
mod firmware;
mod firmware_proxy;
mod grpc;
mod grpc_batch;
mod grpc_leases;
mod grpc_machines;
mod grpc_profiles;
mod grpc_python;
mod grpc_watch;
mod http;
mod https;
mod import;
mod interfaces;
mod lifecycle;
mod metrics;
mod privileges;
mod profiles;
mod readme;
mod replicas;
mod replicas_group;
mod serve;
mod store;
mod support;
mod tftp;
