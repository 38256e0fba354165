//! `bootjack image pull` and `image list --available`.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::kept::{as_json, name_of, say_new};
use crate::cli::{Format, PullArgs};
use crate::client::block_on;
use crate::drivers::spec::Arch;
use crate::exit::{Exit, Failure};
use crate::images::Store;
use crate::images::catalogue::{self, Source, Voucher};
use crate::images::pull::{self, Patience, Wanted};
use crate::output::{self, Style};

pub fn run(store: &Store, args: PullArgs, format: Format) -> Result<(), Failure> {
    let patience = Patience {
        stall: args.stall_timeout,
        ..Patience::default()
    };
    let wanted = match args.what.contains("://") {
        true => by_url(args)?,
        false => by_name(args)?,
    };
    let pulled = block_on(pull::pull(store, &wanted, patience))?;
    match pulled.was_here {
        false => say_new("got", &pulled.image, format),
        true => output::answer(
            format,
            || as_json(&pulled.image),
            || format!("{} is here already", wanted.name),
        ),
    }
}

fn usage(text: String) -> Failure {
    Failure::new(Exit::Usage, text)
}

fn by_name(args: PullArgs) -> Result<Wanted, Failure> {
    let listed = catalogue::find(&args.what).ok_or_else(|| {
        let meant = catalogue::similar(&args.what)
            .map_or(String::new(), |name| format!("; did you mean {name}?"));
        let text = format!(
            "wanted a URL or a name out of `bootjack image list --available`, got '{}'{meant}",
            args.what
        );
        Failure::new(Exit::NotFound, text)
    })?;
    // The list says all of this itself.
    let given = [
        (args.digest.is_some(), "--digest"),
        (args.checksums.is_some(), "--checksums"),
        (args.allow_unverified, "--allow-unverified"),
        (args.format.is_some(), "--format"),
    ];
    if let Some((_, flag)) = given.iter().find(|(given, _)| *given) {
        return Err(usage(format!("{flag} has a meaning for URLs alone")));
    }
    let arch = match args.arch.or_else(Arch::of_host) {
        Some(arch) => arch,
        None => return Err(usage("say for which machines, with --arch".to_owned())),
    };
    let mut wanted = Wanted::listed(listed, arch)?;
    if let Some(name) = args.name {
        wanted.name = name;
        wanted.replace = args.replace;
    }
    Ok(wanted)
}

fn by_url(args: PullArgs) -> Result<Wanted, Failure> {
    let url = args.what;
    pull::check_url(&url).map_err(|problem| usage(format!("{url}: {problem}")))?;
    let voucher = match (args.digest, args.checksums) {
        (Some(digest), _) => Voucher::Digest(digest),
        (None, Some(checksums)) => {
            pull::check_url(&checksums)
                .map_err(|problem| usage(format!("--checksums {checksums}: {problem}")))?;
            if !pull::is_safe(&checksums) {
                return Err(usage(format!(
                    "--checksums {checksums}: wanted https://, or somebody on the way could change them"
                )));
            }
            Voucher::Checksums(checksums)
        }
        (None, None) if args.allow_unverified => Voucher::Nobody,
        (None, None) => {
            return Err(usage(
                "nobody vouches for what comes from there; give its digest with --digest, its checksums with --checksums, or say --allow-unverified"
                    .to_owned(),
            ));
        }
    };
    let name = match args.name {
        Some(name) => name,
        None => name_of(Path::new(url.split(['?', '#']).next().unwrap_or(&url)))?,
    };
    Ok(Wanted {
        name,
        arch: args.arch,
        sources: vec![Source { url, voucher }],
        boot: Vec::new(),
        cloud_init: None,
        says: args.format,
        replace: args.replace,
    })
}

/// What can be had by name.
pub fn available(store: &Store, format: Format) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for image in catalogue::all() {
        for arch in image.archs() {
            let is_here = store
                .named(&image.name, Some(arch))
                .is_ok_and(|found| found.is_some_and(|found| found.arch == Some(arch)));
            let urls: Vec<String> = image.sources(arch).into_iter().map(|s| s.url).collect();
            values.push(json!({
                "name": image.name,
                "title": image.title,
                "arch": arch.as_str(),
                "boot": image.boot(arch),
                "cloud_init": image.cloud_init,
                "urls": urls,
                "here": is_here,
            }));
            rows.push(vec![
                image.name.clone(),
                arch.as_str().to_owned(),
                image.boot(arch).join(", "),
                if image.cloud_init { "yes" } else { "no" }.to_owned(),
                if is_here { "yes" } else { "-" }.to_owned(),
                image.title.clone(),
            ]);
        }
    }
    output::answer(
        format,
        || Json::Array(values),
        || {
            let header = ["NAME", "ARCH", "BOOTS FROM", "CLOUD-INIT", "HERE", "WHAT"];
            output::table(Style::stdout(), &header, rows)
        },
    )
}
