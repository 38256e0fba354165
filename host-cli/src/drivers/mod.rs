//! What can run a virtual machine, and what each cannot. Every driver is a pure function from `spec::Vm` to what is started.

pub mod qemu;
pub mod spec;
