//! `bootjack artifact …` against a running bootjackd.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use bootjack_api::v1::artifacts_client::ArtifactsClient;
use bootjack_api::v1::upload_artifact_request::Part;
use bootjack_api::v1::{
    Artifact, DeleteArtifactRequest, GetArtifactRequest, ListArtifactsRequest,
    UploadArtifactRequest,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use tokio_stream::wrappers::ReceiverStream;

use crate::cli::{ArtifactCommand, Format};
use crate::client::{self, Connection, Server, all_pages};
use crate::exit::Failure;
use crate::options::hex;
use crate::output::{self, Style, or_dash, or_null};

const COLLECTION: &str = "artifacts/";
/// An image of many GiB over a slow link.
const PATIENCE: Duration = Duration::from_secs(24 * 3_600);
const CHUNK: usize = 1 << 20;

/// Runs one command; the answer goes to standard output.
pub fn run(command: ArtifactCommand, server: &Server, format: Format) -> Result<(), Failure> {
    client::block_on(async {
        let mut api = ArtifactsClient::new(client::patient_channel(server, PATIENCE).await?);
        let refused = |status| client::refused(server, &status);
        match command {
            ArtifactCommand::List => {
                let all = all_pages(async |page_token| {
                    let request = ListArtifactsRequest {
                        page_size: 0,
                        page_token,
                    };
                    let page = api.list_artifacts(request).await?.into_inner();
                    Ok((page.artifacts, page.next_page_token))
                });
                list(&all.await.map_err(refused)?, format)
            }
            ArtifactCommand::Get { name } => {
                let answer = api.get_artifact(GetArtifactRequest { name }).await;
                one(&answer.map_err(refused)?.into_inner(), format)
            }
            ArtifactCommand::Upload { name, file, sha256 } => {
                let artifact = upload(api, server, &name, &file, sha256).await?;
                let text = || {
                    format!(
                        "uploaded {}: {}, sha256 {}",
                        artifact.name,
                        size(&artifact),
                        artifact.sha256
                    )
                };
                output::answer(format, || as_json(&artifact), text)
            }
            ArtifactCommand::Delete { names } => {
                let mut failures = Vec::new();
                for name in names {
                    let request = DeleteArtifactRequest {
                        name: name.clone(),
                        ..DeleteArtifactRequest::default()
                    };
                    match api.delete_artifact(request).await.map_err(refused) {
                        Ok(_) => output::say_one_of_many(
                            format,
                            || json!({ "deleted": name }),
                            || format!("deleted {name}"),
                        )?,
                        Err(failure) => failures.push(failure),
                    }
                }
                Failure::of_many(failures)
            }
        }
    })
}

/// Sends a file, with a bar on a terminal.
pub async fn upload(
    mut api: ArtifactsClient<Connection>,
    server: &Server,
    name: &str,
    file: &Path,
    sha256: Option<String>,
) -> Result<Artifact, Failure> {
    let size = std::fs::metadata(file)
        .map_err(Failure::io("read", file))?
        .len();
    let bar = progress(size);
    let sha256 = match sha256 {
        Some(sha256) => sha256,
        None => {
            bar.set_message("reading");
            digest(file, &bar)?
        }
    };
    bar.set_position(0);
    bar.set_message("sending");
    let artifact = Artifact {
        name: format!(
            "{COLLECTION}{}",
            name.strip_prefix(COLLECTION).unwrap_or(name)
        ),
        sha256,
        size_bytes: i64::try_from(size).unwrap_or(i64::MAX),
        origin: file.display().to_string(),
    };
    let (parts, stream) = tokio::sync::mpsc::channel(4);
    let sending = send_parts(parts, artifact, file, &bar);
    let (read, answer) = tokio::join!(sending, api.upload_artifact(ReceiverStream::new(stream)));
    bar.finish_and_clear();
    // A file that cannot be read to its end is why the server was not content, and is the better thing to say.
    read?;
    Ok(answer
        .map_err(|status| client::refused(server, &status))?
        .into_inner())
}

/// What it is, and then its octets, until the server wants no more.
async fn send_parts(
    parts: tokio::sync::mpsc::Sender<UploadArtifactRequest>,
    artifact: Artifact,
    file: &Path,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    use tokio::io::AsyncReadExt as _;
    let mut from = tokio::fs::File::open(file)
        .await
        .map_err(Failure::io("read", file))?;
    let mut part = Part::Artifact(artifact);
    loop {
        if parts
            .send(UploadArtifactRequest { part: Some(part) })
            .await
            .is_err()
        {
            return Ok(());
        }
        let mut octets = vec![0; CHUNK];
        let read = from
            .read(&mut octets)
            .await
            .map_err(Failure::io("read", file))?;
        if read == 0 {
            return Ok(());
        }
        octets.truncate(read);
        bar.inc(read as u64);
        part = Part::Octets(octets);
    }
}

/// The SHA-256 of a file, in hexadecimal.
pub fn digest_of(file: &Path) -> Result<String, Failure> {
    digest(file, &ProgressBar::hidden())
}

fn digest(file: &Path, bar: &ProgressBar) -> Result<String, Failure> {
    let mut from = std::fs::File::open(file).map_err(Failure::io("read", file))?;
    let mut digest = Sha256::new();
    let mut octets = vec![0; CHUNK];
    loop {
        match from.read(&mut octets).map_err(Failure::io("read", file))? {
            0 => return Ok(hex(&digest.finalize()).replace(':', "")),
            read => {
                digest.update(&octets[..read]);
                bar.inc(read as u64);
            }
        }
    }
}

/// On standard error, if that is a terminal.
fn progress(size: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template(
        "{msg:8} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    );
    bar.set_style(style.expect("the template is fixed"));
    bar
}

fn list(artifacts: &[Artifact], format: Format) -> Result<(), Failure> {
    if format.is_for_programs() {
        let list: Vec<Json> = artifacts.iter().map(as_json).collect();
        return output::say_value(format, &json!({ "artifacts": list }));
    }
    if artifacts.is_empty() {
        eprintln!("no artefacts; send one with: bootjack artifact upload NAME FILE");
        return Ok(());
    }
    let header = ["NAME", "SIZE", "SHA256", "ORIGIN"];
    let rows = artifacts.iter().map(|artifact| {
        let digest = match format {
            Format::Wide => artifact.sha256.as_str(),
            _ => artifact.sha256.get(..12).unwrap_or(&artifact.sha256),
        };
        let cells = [id(artifact), &size(artifact), digest, &artifact.origin];
        cells.map(|cell| or_dash(cell).to_owned()).to_vec()
    });
    output::say(&output::table(Style::stdout(), &header, rows.collect()))
}

fn one(artifact: &Artifact, format: Format) -> Result<(), Failure> {
    let text = || {
        let style = Style::stdout();
        let lines = [
            ("name", artifact.name.clone()),
            ("size", size(artifact)),
            ("sha256", artifact.sha256.clone()),
            ("origin", artifact.origin.clone()),
        ];
        let lines = lines
            .map(|(key, value)| format!("{}{}", style.bold(&format!("{key:<8}")), or_dash(&value)));
        lines.join("\n")
    };
    output::answer(format, || as_json(artifact), text)
}

/// The artefact for programs: every key always, null for none.
fn as_json(artifact: &Artifact) -> Json {
    json!({
        "name": artifact.name,
        "id": id(artifact),
        "sha256": or_null(&artifact.sha256),
        "size_bytes": artifact.size_bytes,
        "origin": or_null(&artifact.origin),
    })
}

fn size(artifact: &Artifact) -> String {
    output::size(artifact.size_bytes.unsigned_abs())
}

fn id(artifact: &Artifact) -> &str {
    let name = &artifact.name;
    name.strip_prefix(COLLECTION).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn the_digest_is_that_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("abc");
        std::fs::write(&file, "abc").unwrap();
        let digest = digest(&file, &ProgressBar::hidden()).unwrap();
        assert_eq!(
            digest,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            super::digest(&dir.path().join("none"), &ProgressBar::hidden())
                .unwrap_err()
                .exit,
            Exit::NotFound
        );
    }
}
