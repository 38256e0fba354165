//! The owner's own user-data, looked at before a machine is given it: what cloud-init would pass over in silence is refused here.
//! Pure. In: its text. Out: nothing, or what is wrong with it.

/// How cloud-init knows what it is given: by its first line, or by a header of MIME.
const HEADS: [&str; 11] = [
    "#cloud-config",
    "#!",
    "#include",
    "#cloud-boothook",
    "#part-handler",
    "#upstart-job",
    "#cloud-config-archive",
    "#cloud-config-jsonp",
    "## template: jinja",
    "content-type:",
    "mime-version:",
];

/// Refuses what is no user-data, and what would keep the machine from what the lab has for it.
pub fn check(text: &str) -> Result<(), String> {
    let first = text.lines().next().unwrap_or_default().trim_end();
    let lower = first.to_ascii_lowercase();
    if !HEADS.iter().any(|head| lower.starts_with(head)) {
        return Err(format!(
            "wanted cloud-init's user-data, whose first line is #cloud-config or begins with #!, got \"{}\"",
            first.chars().take(60).collect::<String>()
        ));
    }
    let refused = text
        .lines()
        .position(|line| line.starts_with("vendor_data:"));
    match refused {
        Some(at) => Err(format!(
            "line {}: vendor_data is how the lab tells a machine what it is; leave it out",
            at + 1
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cloud_init_would_pass_over_is_refused() {
        for good in [
            "#cloud-config\npackages: [vim]\n",
            "#!/bin/sh\necho vendor_data: here\n",
            "## template: jinja\n#cloud-config\n",
            "Content-Type: multipart/mixed; boundary=\"x\"\n",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", "got \"\""),
            ("packages: [vim]\n", "got \"packages: [vim]\""),
            ("\n#cloud-config\n", "got \"\""),
            (
                "#cloud-config\nvendor_data: {enabled: false}\n",
                "line 2: vendor_data is",
            ),
        ] {
            let problem = check(bad).unwrap_err();
            assert!(problem.contains(why), "{problem}");
        }
    }
}
