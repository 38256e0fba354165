//! `bootjack apply` and `diff` against a running service: what is there becomes what files say.

use serde_json::json;

use crate::cli::{Server, serve};

const THREE: &str = "reservations:
- {id: a, mac: '52:54:00:00:01:01', address: 198.18.0.11, labels: {rack: r1}, vars: {n: 1}}
- {id: b, mac: '52:54:00:00:01:02', address: 198.18.0.12, options: {ntp_servers: 198.18.0.1}}
- {id: c, mac: '52:54:00:00:01:03', hostname: c, client_ids: [kiosk], program: ipxe}
";

/// Writes the file and runs the command on it.
fn with(server: &Server, text: &str, words: &[&str]) -> (Option<i32>, String, String) {
    let file = server.home.write("hosts.yaml", text);
    let file = file.to_str().expect("UTF-8").to_owned();
    let words = [&words[..1], &["-f", &file], &words[1..]].concat();
    let (status, out, err) = server.types(&words);
    (status, out, err.replace(&file, "FILE"))
}

fn addresses(server: &Server) -> Vec<(String, String)> {
    let listed = server.json(&["reservation", "list"]);
    let listed = listed["reservations"].as_array().expect("a list").clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    listed
        .iter()
        .map(|r| (text(&r["id"]), text(&r["address"])))
        .collect()
}

#[test]
fn what_is_applied_twice_changes_nothing_the_second_time() {
    let server = serve("");
    let (status, out, _) = with(&server, THREE, &["diff"]);
    assert_eq!(status, Some(9));
    assert!(out.contains("+ a\n+   mac: 52:54:00:00:01:01\n"), "{out}");
    let made = "created a\ncreated b\ncreated c\n3 created, 0 updated, 0 deleted, 0 unchanged\n";
    assert_eq!(
        with(&server, THREE, &["apply"]),
        (Some(0), made.to_owned(), String::new())
    );
    let same = "0 created, 0 updated, 0 deleted, 3 unchanged\n";
    assert_eq!(with(&server, THREE, &["apply"]).1, same);
    assert_eq!(with(&server, THREE, &["diff"]).0, Some(0));
    // What bootjackd answers is a file that changes nothing, too.
    let (_, exported, _) = server.types(&["reservation", "export"]);
    assert_eq!(with(&server, &exported, &["apply"]).1, same);
    let (_, listed, _) = server.types(&["reservation", "list", "-o", "json"]);
    assert_eq!(with(&server, &listed, &["apply"]).1, same);
}

#[test]
fn only_what_differs_is_written_and_two_exchange_their_addresses() {
    let server = serve("");
    with(&server, THREE, &["apply"]);
    let other = THREE
        .replace("198.18.0.11", "198.18.0.99")
        .replace("198.18.0.12", "198.18.0.11")
        .replace("198.18.0.99", "198.18.0.12")
        .replace("n: 1", "n: 2");
    let (status, out, err) = with(&server, &other, &["diff"]);
    assert_eq!((status, err.as_str()), (Some(9), ""));
    assert_eq!(
        out,
        "~ a\n-   address: 198.18.0.11\n+   address: 198.18.0.12\n-   vars.n: 1\n+   vars.n: 2\n\
         ~ b\n-   address: 198.18.0.12\n+   address: 198.18.0.11\n0 to create, 2 to update, 0 to delete, 1 unchanged\n"
    );
    let (status, out, err) = with(&server, &other, &["apply"]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(
        out,
        "updated a: address, vars.n\nupdated b: address\n0 created, 2 updated, 0 deleted, 1 unchanged\n"
    );
    let pairs = |text: &[(&str, &str)]| -> Vec<(String, String)> {
        text.iter()
            .map(|(id, address)| ((*id).to_owned(), (*address).to_owned()))
            .collect()
    };
    assert_eq!(
        addresses(&server),
        pairs(&[("a", "198.18.0.12"), ("b", "198.18.0.11"), ("c", "")])
    );
}

#[test]
fn pruning_deletes_what_the_owner_no_longer_wants_and_nothing_else() {
    let server = serve("[[reservation]]\nmac = \"52:54:00:00:00:0a\"\nhostname = \"gateway\"\n");
    server.types(&[
        "reservation",
        "create",
        "--mac",
        "52:54:00:00:02:01",
        "--hostname",
        "by-hand",
    ]);
    assert_eq!(
        with(&server, THREE, &["apply", "--owner", "lab"]).0,
        Some(0)
    );
    // What another takes over is free by then.
    let two = "- {id: a, mac: '52:54:00:00:01:01', address: 198.18.0.11, labels: {rack: r1}, vars: {n: 1}}\n- {id: d, mac: '52:54:00:00:01:02', address: 198.18.0.12}\n";
    let (status, out, err) = with(
        &server,
        two,
        &["apply", "--owner", "lab", "--prune", "--dry-run"],
    );
    assert_eq!((status, err.as_str()), (Some(0), ""));
    assert!(out.ends_with("- b\n- c\n+ d\n+   mac: 52:54:00:00:01:02\n+   address: 198.18.0.12\n+   labels: {\"bootjack/owner\":\"lab\"}\n1 to create, 0 to update, 2 to delete, 1 unchanged\n"), "{out}");
    let (status, out, _) = with(&server, two, &["apply", "--owner", "lab", "--prune"]);
    assert_eq!(status, Some(0), "{out}");
    assert_eq!(
        out,
        "deleted b\ndeleted c\ncreated d\n1 created, 0 updated, 2 deleted, 1 unchanged\n"
    );
    let ids: Vec<String> = addresses(&server).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["a", "by-hand", "d", "gateway"]);
    let (status, _, err) = with(&server, two, &["apply", "--owner", "hall"]);
    assert_eq!(status, Some(5));
    assert!(
        err.contains("FILE:1: labels: a belongs to lab; apply it with --owner lab"),
        "{err}"
    );
}

#[test]
fn everything_is_checked_before_the_first_write() {
    let server = serve(
        "[[reservation]]\nmac = \"52:54:00:00:00:0a\"\nhostname = \"gateway\"\naddress = \"198.18.0.2\"\n",
    );
    let before = addresses(&server);
    let good = "- {id: good, mac: '52:54:00:00:01:01'}\n";
    for (bad, status, part) in [
        (
            "- {id: x, mac: '52:54'}\n",
            3,
            "FILE:2: [1].mac: `52:54` is not a MAC address",
        ),
        (
            "- {id: x, adress: 198.18.0.9, mac: '52:54:00:00:01:02'}\n",
            3,
            "FILE:2: [1].adress: unknown key; did you mean address?",
        ),
        (
            "- {id: x, mac: '52:54:00:00:01:01'}\n",
            3,
            "FILE:2: mac: 52:54:00:00:01:01 is good's too (FILE:1)",
        ),
        (
            "- {id: x, mac: '52:54:00:00:01:02', address: 198.18.0.2}\n",
            5,
            "FILE:2: address: 198.18.0.2 already belongs to gateway",
        ),
        (
            "- {id: gateway, mac: '52:54:00:00:00:0a', hostname: gateway, address: 198.18.0.3}\n",
            5,
            "FILE:2: address: gateway comes from bootjackd.toml",
        ),
        // These only the service can know.
        (
            "- {id: x, mac: '52:54:00:00:01:02', address: 10.0.0.1}\n",
            3,
            "FILE:2: address: ",
        ),
        (
            "- {id: x, mac: '52:54:00:00:01:02', profile: nowhere}\n",
            3,
            "FILE:2: profile: ",
        ),
        (
            "- {id: x, mac: '52:54:00:00:01:02', options: {ntp_servers: nobody}}\n",
            3,
            "FILE:2: options",
        ),
    ] {
        let (code, out, err) = with(&server, &format!("{good}{bad}"), &["apply"]);
        assert_eq!((code, out.as_str()), (Some(status), ""), "{bad}: {err}");
        assert!(
            err.starts_with("bootjack: 1 problem; nothing was changed\n  FILE:"),
            "{bad}: {err}"
        );
        assert!(err.contains(part), "{bad}: {err}");
        assert_eq!(addresses(&server), before, "{bad}");
    }
}

#[test]
fn for_programs_the_outcome_and_the_error_are_json() {
    let server = serve("");
    let (_, out, _) = with(&server, THREE, &["apply", "-o", "json"]);
    let done: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        done,
        json!({ "created": ["a", "b", "c"], "updated": [], "deleted": [], "unchanged": [], "failed": [] })
    );
    let (status, _, err) = with(
        &server,
        "- {id: x, mac: '52:54'}\n",
        &["apply", "-o", "json"],
    );
    let error: serde_json::Value = serde_json::from_str(&err).expect("JSON");
    assert_eq!(
        (status, &error["error"]["exit_status"]),
        (Some(3), &json!(3))
    );
    assert_eq!(error["error"]["details"][0]["field"], "FILE:1: [0].mac");
    let (_, _, err) = server.types(&[
        "reservation",
        "create",
        "--mac",
        "52:54:00:00:09:09",
        "--address",
        "198.18.0.11",
        "-o",
        "json",
    ]);
    let error: serde_json::Value = serde_json::from_str(&err).expect("JSON");
    assert_eq!(error["error"]["reason"], "TAKEN");
    assert_eq!(error["error"]["details"][0]["field"], "address");
    assert_eq!(error["error"]["details"][0]["resource"], "reservations/a");
}
