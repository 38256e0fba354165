//! `bootjack image` and `bootjack disk`, as they are typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::disk::export::Form;
use crate::drivers::spec::{Arch, Firmware};
use crate::images::DiskFormat;
use crate::images::digest::Digest;
use crate::images::store::check_name;
use crate::lab::open::LabRef;
use crate::labfile::parse_size;

/// What is done with the images that are kept.
#[derive(Debug, Subcommand)]
pub enum KeptCommand {
    /// List the images that are here
    #[command(visible_alias = "ls")]
    List {
        /// Those that can be had by name, instead
        #[arg(long)]
        available: bool,
    },

    /// Show one, and the disks that lie on top of it
    Show {
        /// Its name, or the path of a file
        name: String,

        /// Of which machines; wanted where there are images of several under the name
        #[arg(long, value_enum)]
        arch: Option<Arch>,
    },

    /// Get an image from the network: by its name in `image list --available`, or by its URL
    ///
    /// A transfer that breaks off goes on with the same command. The file is held against its digest; without one, it is got only
    /// with --allow-unverified. Proxies are taken from ALL_PROXY, HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
    Pull(PullArgs),

    /// Take a file in: a qcow2, raw, vmdk or vdi disk, or a Vagrant box or OVA with one
    ///
    /// What a file is, is told by its octets. One that would have a machine read other files of this computer is refused; vmdk and
    /// vdi become qcow2.
    Import(ImportImageArgs),

    /// Read images whole, and compare them with their digests
    Verify {
        /// Which; without any, all
        names: Vec<String>,
    },

    /// Remove images; refused while a disk lies on top of one
    #[command(visible_alias = "remove")]
    Rm {
        #[arg(required = true)]
        names: Vec<String>,

        /// Of which machines; wanted where there are images of several under a name
        #[arg(long, value_enum)]
        arch: Option<Arch>,
    },

    /// Remove what no name and no disk needs: what was replaced, and what stopped commands have left
    Prune,
}

#[derive(Debug, Args)]
pub struct PullArgs {
    #[arg(value_name = "NAME|URL")]
    pub what: String,

    /// Of which machines; without it, of machines like this computer
    #[arg(long, value_enum)]
    pub arch: Option<Arch>,

    /// What it is called here; without it, as in the list, or as the file is
    #[arg(long, value_parser = name)]
    pub name: Option<String>,

    /// What the file has to be: SHA-256 or SHA-512 in hexadecimal
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    pub digest: Option<Digest>,

    /// A file of checksums that names the file, such as SHA256SUMS, over HTTPS
    #[arg(long, value_name = "URL", conflicts_with = "digest")]
    pub checksums: Option<String>,

    /// Get it though nobody vouches for it
    #[arg(long, conflicts_with_all = ["digest", "checksums"])]
    pub allow_unverified: bool,

    /// What it has to be; wanted for raw disks without a partition table
    #[arg(long, value_enum)]
    pub format: Option<DiskFormat>,

    /// Put it in the place of the image that has the name
    #[arg(long)]
    pub replace: bool,

    /// How long the server may be silent
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = super::duration)]
    pub stall_timeout: Duration,
}

#[derive(Debug, Args)]
pub struct ImportImageArgs {
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// What it is called; without it, as the file is, up to the ending
    #[arg(long, value_parser = name)]
    pub name: Option<String>,

    /// Of which machines it is
    #[arg(long, value_enum)]
    pub arch: Option<Arch>,

    /// What it has to be; wanted for raw disks without a partition table
    #[arg(long, value_enum)]
    pub format: Option<DiskFormat>,

    /// Which file of a box or OVA with several disks
    #[arg(long, value_name = "NAME")]
    pub member: Option<String>,

    /// Put it in the place of the image that has the name
    #[arg(long)]
    pub replace: bool,
}

#[derive(Debug, Subcommand)]
pub enum DiskCommand {
    /// Make a disk: empty, or on top of an image
    Create {
        /// The file to make; there must be none
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// Such as 20GiB; with --image, that of the image if it is not said
        #[arg(long, value_parser = size, required_unless_present = "image")]
        size: Option<u64>,

        /// What it is kept as
        #[arg(long, value_enum, default_value = "qcow2", conflicts_with = "image")]
        format: DiskFormat,

        /// Name of an image, or path of one: the disk keeps what differs from it
        #[arg(long, value_name = "IMAGE")]
        image: Option<String>,

        /// Of which machines the image is
        #[arg(long, value_enum, requires = "image")]
        arch: Option<Arch>,
    },

    /// Show what a file is, how large, and what lies beneath it
    Info {
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// What it has to be; wanted for raw disks without a partition table
        #[arg(long, value_enum)]
        format: Option<DiskFormat>,
    },

    /// Change its size; the file systems on it stay as they are
    Resize {
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// Such as 20GiB
        #[arg(value_parser = size)]
        size: u64,

        /// It may become smaller; what lies behind is lost
        #[arg(long)]
        shrink: bool,

        /// What it has to be; wanted for raw disks without a partition table
        #[arg(long, value_enum)]
        format: Option<DiskFormat>,
    },

    /// States of a qcow2 disk, kept within it
    Snapshot {
        #[command(subcommand)]
        command: SnapshotCommand,
    },

    /// Make a file for others of a disk and all that lies beneath it: a disk of another format, or a Vagrant box
    Export(ExportArgs),

    /// Make a second disk with the same content, by the file system where it can do that without a copy
    Clone {
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// The file to make; there must be none
        #[arg(value_name = "NEW-FILE")]
        to: PathBuf,

        /// What it has to be; wanted for raw disks without a partition table
        #[arg(long, value_enum)]
        format: Option<DiskFormat>,
    },
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Path of a disk, or name of an image
    #[arg(value_name = "DISK|IMAGE", required_unless_present = "vm")]
    pub from: Option<String>,

    /// The disk of this machine of the lab, which has to be stopped; a box gets what the lab's file says of it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["from", "from_format", "arch"])]
    pub vm: Option<String>,

    #[command(flatten)]
    pub lab: LabRef,

    /// What to make
    #[arg(long, value_enum)]
    pub format: Form,

    /// The file to make; there must be none
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,

    /// Pack a qcow2 file, which takes time and saves room
    #[arg(long)]
    pub pack: bool,

    /// What the disk is, if it is raw and without a partition table
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub from_format: Option<DiskFormat>,

    /// Of which machines it is; without it, of machines like this computer, or as the image says
    #[arg(long, value_enum)]
    pub arch: Option<Arch>,

    /// Of a box: what its machine is called; without it, as the file is
    #[arg(long, value_parser = name)]
    pub name: Option<String>,

    /// Of a box: what its machine boots from [default: uefi]
    #[arg(long, value_enum)]
    pub firmware: Option<Firmware>,

    /// Of a box: processors of its machine [default: 2]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub cpus: Option<u32>,

    /// Of a box: memory of its machine [default: 2GiB]
    #[arg(long, value_parser = parse_size)]
    pub memory: Option<u64>,

    /// Of a box: whom Vagrant logs in as, with its own key unless that user's Vagrantfile says otherwise
    #[arg(long, default_value = "vagrant")]
    pub user: String,
}

#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Keep the state of now
    Create { file: PathBuf, name: String },
    /// Go back to a state; what came after it is lost
    Apply { file: PathBuf, name: String },
    /// Forget a state
    Delete { file: PathBuf, name: String },
    /// List what is kept
    #[command(visible_alias = "ls")]
    List { file: PathBuf },
}

fn digest(text: &str) -> Result<Digest, String> {
    text.parse()
}

fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

/// Of a disk: whole sectors.
fn size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        octets if octets % 512 != 0 => Err(format!(
            "wanted whole sectors of 512 octets, got {octets} octets"
        )),
        octets => Ok(octets),
    }
}
