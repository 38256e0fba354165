//! Profiles, artefacts and the server itself over gRPC.

use bootjack_api::v1;
use bootjack_api::v1::artifacts_client::ArtifactsClient;
use bootjack_api::v1::profile::Source;
use bootjack_api::v1::profiles_client::ProfilesClient;
use bootjack_api::v1::server_client::ServerClient;
use bootjack_api::v1::upload_artifact_request::Part;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use crate::support::api::{Http, node, text};
use crate::support::lab::{Lab, details};

const PROFILE: &str = "description = \"mine\"\n\n[documents]\nuser-data = \"user-data.j2\"\n\n[x86_64]\nkernel = \"k\"\nargs = [\"ds=nocloud-net;s={{ seed_url }}\"]\n";

fn profile(name: &str, files: &[(&str, &str)]) -> v1::Profile {
    let files = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    v1::Profile {
        name: format!("profiles/{name}"),
        files: files.collect(),
        ..Default::default()
    }
}

fn mine(user_data: &str) -> v1::Profile {
    profile(
        "mine",
        &[("profile.toml", PROFILE), ("user-data.j2", user_data)],
    )
}

fn put(lab: &Lab, profile: v1::Profile, etag: &str) -> Result<v1::Profile, Status> {
    let request = v1::PutProfileRequest {
        profile: Some(profile),
        etag: etag.to_owned(),
        validate_only: false,
    };
    lab.call(async |channel| ProfilesClient::new(channel).put_profile(request).await)
}

fn get(lab: &Lab, name: &str) -> Result<v1::Profile, Status> {
    let request = v1::GetProfileRequest {
        name: name.to_owned(),
    };
    lab.call(async |channel| ProfilesClient::new(channel).get_profile(request).await)
}

fn delete(lab: &Lab, name: &str) -> Result<(), Status> {
    let request = v1::DeleteProfileRequest {
        name: name.to_owned(),
        ..Default::default()
    };
    lab.call(async |channel| ProfilesClient::new(channel).delete_profile(request).await)
}

#[test]
fn a_profile_is_put_served_from_and_there_after_a_kill() {
    let lab = Lab::new("");
    let made = put(&lab, mine("#cloud-config\nhostname: one\n"), "").expect("it is sound");
    assert_eq!(
        (made.source(), made.hides(), made.description.as_str()),
        (Source::Api, Source::Unspecified, "mine")
    );
    lab.api
        .create(v1::Reservation {
            profile: "mine".to_owned(),
            ..node(12)
        })
        .expect("it fits");
    let lab = lab.killed_and_started("");
    let got = get(&lab, "profiles/mine").expect("it is there");
    assert_eq!(
        got,
        v1::Profile {
            machines: 1,
            ..made.clone()
        }
    );
    let document = || {
        let mut http = Http::connect_from(&lab.netns, "198.18.0.12");
        String::from_utf8(
            http.get("/machines/52-54-00-00-00-0c/nocloud/user-data")
                .body,
        )
        .expect("UTF-8")
    };
    assert!(document().contains("hostname: one"), "{}", document());
    let status = put(&lab, mine("#cloud-config\nhostname: two\n"), "0").expect_err("another etag");
    assert_eq!(status.code(), Code::Aborted);
    put(&lab, mine("#cloud-config\nhostname: two\n"), &made.etag).expect("its etag");
    assert!(document().contains("hostname: two"), "from now on");
    // What would break the machine's document is refused with the line, and changes nothing.
    let status = put(&lab, mine("#cloud-config\nhostname: [\n"), "").expect_err("broken");
    assert_eq!(
        (status.code(), details(&status).0[0].as_str()),
        (Code::InvalidArgument, "profile.files.user-data")
    );
    assert!(status.message().contains("line"), "{status:?}");
    assert!(document().contains("hostname: two"));
    let status = put(
        &lab,
        profile("mine", &[("profile.toml", "nonsense = 1\n")]),
        "",
    )
    .expect_err("unknown key");
    assert!(status.message().contains("line 1"), "{status:?}");
    let status = delete(&lab, "profiles/mine").expect_err("it is used");
    assert_eq!(
        (status.code(), details(&status).1.as_str()),
        (Code::FailedPrecondition, "IN_USE")
    );
    lab.api
        .delete("reservations/node-12", "")
        .expect("it is there");
    delete(&lab, "profiles/mine").expect("nobody has it");
    assert_eq!(
        get(&lab, "profiles/mine").expect_err("gone").code(),
        Code::NotFound
    );
    let lab = lab.killed_and_started("");
    assert_eq!(
        get(&lab, "profiles/mine").expect_err("gone").code(),
        Code::NotFound
    );
}

#[test]
fn a_shipped_profile_is_hidden_and_comes_back_and_the_directory_counts_before_both() {
    let lab = Lab::new("");
    let shipped = get(&lab, "debian-12").expect("it is shipped");
    assert_eq!(
        (shipped.source(), shipped.files.contains_key("profile.toml")),
        (Source::Shipped, true)
    );
    let status = delete(&lab, "debian-12").expect_err("shipped");
    assert_eq!(details(&status).1, "SHIPPED");
    let own = v1::Profile {
        name: "profiles/debian-12".to_owned(),
        ..mine("#cloud-config\n{}\n")
    };
    let made = put(&lab, own.clone(), "").expect("it is sound");
    assert_eq!(
        (made.source(), made.hides()),
        (Source::Api, Source::Shipped)
    );
    delete(&lab, "debian-12").expect("its own");
    assert_eq!(get(&lab, "debian-12").ok(), Some(shipped));
    lab.home
        .write("profiles/edited/profile.toml", "description = \"edited\"\n");
    let lab = lab.killed_and_started("");
    assert_eq!(
        get(&lab, "edited").expect("it is there").source(),
        Source::Directory
    );
    let own = v1::Profile {
        name: "profiles/edited".to_owned(),
        ..own
    };
    let status = put(&lab, own, "").expect_err("edited there");
    assert_eq!(
        (status.code(), details(&status).1.as_str()),
        (Code::FailedPrecondition, "FROM_DIRECTORY")
    );
    for bad in ["profiles/../x", "profiles/.x", "profiles/A", ""] {
        let wrong = v1::Profile {
            name: bad.to_owned(),
            ..mine("x")
        };
        assert_eq!(
            put(&lab, wrong, "").expect_err(bad).code(),
            Code::InvalidArgument,
            "{bad}"
        );
    }
    let outside = profile("p", &[("profile.toml", ""), ("../x", "x")]);
    assert_eq!(
        put(&lab, outside, "").expect_err("no file's name").code(),
        Code::InvalidArgument
    );
    let request = v1::LintProfileRequest {
        name: "profiles/new".to_owned(),
        files: mine("#cloud-config\nhostnam: x\n").files,
    };
    let found = lab
        .call(async |channel| ProfilesClient::new(channel).lint_profile(request).await)
        .expect("it is looked at");
    assert!(
        found.findings.iter().any(|f| f.message.contains("hostnam")),
        "{found:?}"
    );
}

fn upload(lab: &Lab, artifact: v1::Artifact, pieces: &[&[u8]]) -> Result<v1::Artifact, Status> {
    let octets = pieces.iter().map(|piece| Part::Octets(piece.to_vec()));
    let parts: Vec<v1::UploadArtifactRequest> = std::iter::once(Part::Artifact(artifact))
        .chain(octets)
        .map(|part| v1::UploadArtifactRequest { part: Some(part) })
        .collect();
    lab.call(async |channel| {
        ArtifactsClient::new(channel)
            .upload_artifact(tokio_stream::iter(parts))
            .await
    })
}

#[test]
fn an_artefact_is_uploaded_whole_or_not_at_all_and_kept_while_something_names_it() {
    let lab = Lab::new("");
    let octets = vec![7_u8; 3 << 20];
    let digest: String = Sha256::digest(&octets)
        .iter()
        .map(|o| format!("{o:02x}"))
        .collect();
    let named = |name: &str| v1::Artifact {
        name: format!("artifacts/{name}"),
        ..Default::default()
    };
    let pieces: Vec<&[u8]> = octets.chunks(1 << 20).collect();
    let wanted = v1::Artifact {
        sha256: digest.clone(),
        size_bytes: 3 << 20,
        ..named("images/a.raw")
    };
    let made = upload(&lab, wanted.clone(), &pieces).expect("as it was said");
    assert_eq!(
        (made.sha256.as_str(), made.size_bytes),
        (digest.as_str(), 3 << 20)
    );
    let mut http = Http::connect(&lab.netns);
    assert_eq!(http.get("/files/images/a.raw").body, octets);
    let wrong = v1::Artifact {
        sha256: "0".repeat(64),
        ..named("images/b.raw")
    };
    let status = upload(&lab, wrong, &pieces).expect_err("another digest");
    assert_eq!(
        (status.code(), details(&status).1.as_str()),
        (Code::DataLoss, "WRONG_DIGEST")
    );
    let status = upload(&lab, wanted, &pieces[..2]).expect_err("cut off");
    assert_eq!(
        (status.code(), details(&status).1.as_str()),
        (Code::DataLoss, "CUT_OFF")
    );
    for bad in ["../x", "", "a//b"] {
        let status = upload(&lab, named(bad), &pieces).expect_err(bad);
        assert_eq!(status.code(), Code::InvalidArgument, "{bad}");
    }
    let list = || {
        let request = v1::ListArtifactsRequest::default();
        let page =
            lab.call(async |channel| ArtifactsClient::new(channel).list_artifacts(request).await);
        page.expect("a list").artifacts
    };
    assert_eq!(
        list(),
        std::slice::from_ref(&made),
        "nothing of the others was kept"
    );
    let delete = || {
        let request = v1::DeleteArtifactRequest {
            name: made.name.clone(),
            ..Default::default()
        };
        lab.call(async |channel| ArtifactsClient::new(channel).delete_artifact(request).await)
    };
    let mut user = node(12);
    user.vars.insert("image".to_owned(), text("images/a.raw"));
    lab.api.create(user).expect("nothing in the way");
    let status = delete().expect_err("it is named");
    assert_eq!(
        (status.code(), details(&status).1.as_str()),
        (Code::FailedPrecondition, "IN_USE")
    );
    lab.api
        .delete("reservations/node-12", "")
        .expect("it is there");
    delete().expect("nobody names it");
    assert_eq!(list(), []);
    assert_eq!(delete().expect_err("gone").code(), Code::NotFound);
}

#[test]
fn the_server_says_what_it_is_what_it_goes_by_and_all_that_it_keeps() {
    let lab = Lab::new("[vars]\nroot_password = \"hunter2\"\n");
    lab.api.create(node(12)).expect("nothing in the way");
    let info = lab.call(async |channel| {
        ServerClient::new(channel)
            .get_server_info(v1::GetServerInfoRequest {})
            .await
    });
    let info = info.expect("an answer");
    assert_eq!(
        (info.version.as_str(), info.process_id),
        (env!("CARGO_PKG_VERSION"), lab.service.pid())
    );
    let store = info.store.expect("one");
    assert_eq!(
        (store.backend.as_str(), store.revision, store.healthy),
        ("sled", 1, true)
    );
    assert_eq!(
        (info.subnets[0].cidr.as_str(), info.subnets[0].reserved),
        ("198.18.0.0/24", 1)
    );
    let protocols: Vec<&str> = info.listeners.iter().map(|l| l.protocol.as_str()).collect();
    for protocol in ["dhcp", "grpc", "http", "tftp"] {
        assert!(protocols.contains(&protocol), "{protocols:?}");
    }
    let config = lab.call(async |channel| {
        ServerClient::new(channel)
            .get_effective_config(v1::GetEffectiveConfigRequest {})
            .await
    });
    let config = format!("{:?}", config.expect("an answer"));
    assert!(
        config.contains("authoritative") && config.contains("root_password"),
        "{config}"
    );
    assert!(!config.contains("hunter2"), "{config}");
    let octets = lab.api.with(async |channel| {
        let mut stream = ServerClient::new(channel)
            .export_state(v1::ExportStateRequest {})
            .await?
            .into_inner();
        let mut octets = Vec::new();
        while let Some(piece) = stream.message().await? {
            octets.extend(piece.octets);
        }
        Ok::<_, Status>(octets)
    });
    let octets = octets.expect("a file");
    let records = bootjackd::store::export::read(&octets[..]).expect("it is whole");
    assert_eq!((records.reservations.len(), records.revision), (1, 1));
}
