//! `bootjackd check`: every problem at once, each with its line.

use std::process::{Command, Output};

use crate::support::service::{Home, program};

fn check(home: &Home, config: &str) -> Output {
    let file = home.write("bootjackd.toml", config);
    Command::new(program())
        .arg("check")
        .arg("--config")
        .arg(file)
        .output()
        .expect("it runs")
}

#[test]
fn a_sound_file_is_said_to_be_sound() {
    let home = Home::new();
    let output = check(&home, &home.config(""));
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("is sound: 1 subnet"));
}

#[test]
fn every_problem_is_reported_at_once_with_its_line() {
    let home = Home::new();
    let config = home
        .config("")
        .replace("198.18.0.199\"]", "198.18.1.5\"]")
        .replace("router = \"198.18.0.1\"", "router = \"198.18.9.1\"")
        .replace("listen = \"198.18.0.1:80\"", "listne = \"198.18.0.1:80\"");
    let output = check(&home, &config);
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "bootjackd: bootjackd.toml has 3 problems\n  \
         line 8, subnet[0].pools[0]: 198.18.0.100-198.18.1.5 is outside subnet 198.18.0.0/24\n  \
         line 9, subnet[0].router: 198.18.9.1 is outside subnet 198.18.0.0/24\n  \
         line 19, http.listne: unknown key; did you mean http.listen?\n"
    );
}
