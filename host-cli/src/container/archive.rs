//! The archive around a layer: blobs by digest, what says which is which for OCI (`index.json`) and for `docker load`
//! (`manifest.json`).

use std::collections::HashMap;
use std::io;

use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, Digest, HistoryBuilder, ImageConfigurationBuilder,
    ImageIndexBuilder, ImageManifestBuilder, MediaType, Os, PlatformBuilder, RootFsBuilder,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, Header};

use super::USER;
use super::layer::{self, Entry};

/// What the image is called, and for which processor it is.
#[derive(Clone, Debug)]
pub struct Image {
    /// As `docker run` is told: `bootjackd`.
    pub name: String,
    /// `0.1.0`.
    pub version: String,
    pub arch: Arch,
}

/// One blob, by its digest.
struct Blob {
    octets: Vec<u8>,
    sha256: String,
}

impl Blob {
    fn new(octets: Vec<u8>) -> Self {
        let sha256 = hex(&octets);
        Self { octets, sha256 }
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.sha256)
    }

    fn descriptor(&self, media_type: MediaType) -> Result<Descriptor, String> {
        let digest: Digest = format!("sha256:{}", self.sha256)
            .parse()
            .map_err(|error: oci_spec::OciSpecError| error.to_string())?;
        Ok(Descriptor::new(
            media_type,
            self.octets.len() as u64,
            digest,
        ))
    }
}

fn hex(octets: &[u8]) -> String {
    let digest = Sha256::digest(octets);
    digest.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The archive of an image with these entries as its one layer.
pub fn pack(image: &Image, entries: &[Entry]) -> Result<Vec<u8>, String> {
    let said = |error: oci_spec::OciSpecError| error.to_string();
    let unpacked = layer::tar(entries).map_err(|error| error.to_string())?;
    let layer = Blob::new(layer::gzip(&unpacked).map_err(|error| error.to_string())?);
    let config = Blob::new(json_octets(&configuration(image, &hex(&unpacked))?)?);
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(config.descriptor(MediaType::ImageConfig)?)
        .layers(vec![layer.descriptor(MediaType::ImageLayerGzip)?])
        .build()
        .map_err(said)?;
    let manifest = Blob::new(json_octets(&manifest)?);
    let tag = format!("{}:{}", image.name, image.version);
    let platform = PlatformBuilder::default()
        .architecture(image.arch.clone())
        .os(Os::Linux)
        .build()
        .map_err(said)?;
    let mut described = manifest.descriptor(MediaType::ImageManifest)?;
    described.set_platform(Some(platform));
    // What podman and skopeo, and containerd, take a name from.
    described.set_annotations(Some(HashMap::from([
        ("org.opencontainers.image.ref.name".to_owned(), tag.clone()),
        (
            "io.containerd.image.name".to_owned(),
            format!("docker.io/library/{tag}"),
        ),
    ])));
    let index = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![described])
        .build()
        .map_err(said)?;
    let for_docker = json!([{
        "Config": config.path(),
        "RepoTags": [tag, format!("{}:latest", image.name)],
        "Layers": [layer.path()],
    }]);
    let files = [
        (config.path(), config.octets),
        (layer.path(), layer.octets),
        (manifest.path(), manifest.octets),
        ("index.json".to_owned(), json_octets(&index)?),
        ("manifest.json".to_owned(), json_octets(&for_docker)?),
        (
            "oci-layout".to_owned(),
            json_octets(&json!({ "imageLayoutVersion": "1.0.0" }))?,
        ),
    ];
    files_to_tar(&files).map_err(|error| error.to_string())
}

fn json_octets(value: &impl serde::Serialize) -> Result<Vec<u8>, String> {
    // By way of a value, whose keys are in order: a map's own order is another each time.
    let value = serde_json::to_value(value).map_err(|error| error.to_string())?;
    serde_json::to_vec(&value).map_err(|error| error.to_string())
}

/// How the container is run: as a user without rights, with its data on a volume.
fn configuration(image: &Image, diff_id: &str) -> Result<Value, String> {
    let said = |error: oci_spec::OciSpecError| error.to_string();
    let ports = ["67/udp", "69/udp", "80/tcp", "4011/udp"];
    let config = ConfigBuilder::default()
        .user(format!("{USER}:{USER}"))
        .exposed_ports(ports.map(str::to_owned).to_vec())
        .entrypoint(vec!["/bootjackd".to_owned()])
        .cmd(
            ["serve", "--config", "/etc/bootjack/bootjackd.toml"]
                .map(str::to_owned)
                .to_vec(),
        )
        .volumes(vec!["/var/lib/bootjack".to_owned()])
        .working_dir("/var/lib/bootjack")
        .stop_signal("SIGTERM")
        .labels(HashMap::from([
            (
                "org.opencontainers.image.title".to_owned(),
                image.name.clone(),
            ),
            (
                "org.opencontainers.image.version".to_owned(),
                image.version.clone(),
            ),
            (
                "org.opencontainers.image.licenses".to_owned(),
                env!("CARGO_PKG_LICENSE").to_owned(),
            ),
            (
                "org.opencontainers.image.source".to_owned(),
                env!("CARGO_PKG_REPOSITORY").to_owned(),
            ),
        ]))
        .build()
        .map_err(said)?;
    let rootfs = RootFsBuilder::default()
        .typ("layers")
        .diff_ids(vec![format!("sha256:{diff_id}")])
        .build()
        .map_err(said)?;
    let history = HistoryBuilder::default()
        .created("1970-01-01T00:00:00Z")
        .created_by("bootjack image container")
        .build()
        .map_err(said)?;
    let configuration = ImageConfigurationBuilder::default()
        .created("1970-01-01T00:00:00Z")
        .architecture(image.arch.clone())
        .os(Os::Linux)
        .config(config)
        .rootfs(rootfs)
        .history(vec![history])
        .build()
        .map_err(said)?;
    let mut value = serde_json::to_value(configuration).map_err(|error| error.to_string())?;
    // Docker's own: the image-spec reserves the name and does not describe it. Nanoseconds.
    value["config"]["Healthcheck"] = json!({
        "Test": ["CMD", "/bootjackd", "health"],
        "Interval": 30_000_000_000_u64,
        "Timeout": 5_000_000_000_u64,
        "StartPeriod": 10_000_000_000_u64,
        "Retries": 3,
    });
    Ok(value)
}

fn files_to_tar(files: &[(String, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = Header::new_ustar();
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, &content[..])?;
    }
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read as _;

    fn image() -> Image {
        Image {
            name: "bootjackd".into(),
            version: "1.2.3".into(),
            arch: Arch::ARM64,
        }
    }

    fn packed() -> Vec<u8> {
        let programs = vec![("ipxe.efi".to_owned(), b"efi".to_vec())];
        pack(
            &image(),
            &super::super::entries(vec![1; 1000], programs, None),
        )
        .unwrap()
    }

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let files = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        files.collect()
    }

    #[test]
    fn the_same_files_give_the_same_octets() {
        assert!(packed() == packed());
    }

    #[test]
    fn every_blob_has_the_digest_that_it_is_called_by_and_is_found_both_ways() {
        let files = files(&packed());
        for (path, content) in &files {
            if let Some(digest) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(digest, hex(content));
            }
        }
        let read = |path: &str| -> Value { serde_json::from_slice(&files[path]).unwrap() };
        let blob = |digest: &Value| digest.as_str().unwrap().replace("sha256:", "blobs/sha256/");
        let index = read("index.json");
        let manifest = read(&blob(&index["manifests"][0]["digest"]));
        let for_docker = read("manifest.json");
        assert_eq!(blob(&manifest["config"]["digest"]), for_docker[0]["Config"]);
        let layer = blob(&manifest["layers"][0]["digest"]);
        assert_eq!(layer, for_docker[0]["Layers"][0]);
        assert_eq!(for_docker[0]["RepoTags"][0], "bootjackd:1.2.3");
        assert_eq!(index["manifests"][0]["platform"]["architecture"], "arm64");

        let mut unpacked = Vec::new();
        let mut gzip = flate2::read::GzDecoder::new(&files[&layer][..]);
        gzip.read_to_end(&mut unpacked).unwrap();
        let config = read(for_docker[0]["Config"].as_str().unwrap());
        let diff_id = format!("sha256:{}", hex(&unpacked));
        assert_eq!(config["rootfs"]["diff_ids"][0], diff_id);
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Healthcheck"]["Test"][2], "health");
    }

    #[test]
    fn the_program_may_bind_low_ports_whoever_runs_it_and_directories_come_before_what_is_in_them()
    {
        let entries = super::super::entries(vec![1; 1000], vec![], Some(b"pem".to_vec()));
        let layer = layer::tar(&entries).unwrap();
        let mut archive = tar::Archive::new(&layer[..]);
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let header = entry.header();
            let (mode, uid) = (header.mode().unwrap(), header.uid().unwrap());
            let capabilities = entry.pax_extensions().unwrap().map(|all| {
                let all = all.map(|one| one.unwrap().value_bytes().to_vec());
                all.collect::<Vec<_>>()
            });
            if path == "bootjackd" {
                let wanted = b"\x01\0\0\x02\0\x24\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
                assert_eq!(capabilities, Some(vec![wanted]));
            }
            seen.push((path, mode, uid));
        }
        let at = |path: &str| seen.iter().position(|(known, ..)| known == path).unwrap();
        assert!(at("etc/ssl/") < at("etc/ssl/certs/"));
        assert!(at("etc/ssl/certs/") < at("etc/ssl/certs/ca-certificates.crt"));
        assert_eq!(seen[at("var/lib/bootjack/")].1, 0o700);
        assert_eq!(seen[at("var/lib/bootjack/")].2, u64::from(USER));
    }
}
