//! What becomes of artefacts that nobody wants: which ones the configuration, its profiles and every reservation still name.
//! In: the configuration. Out: what goes, and what went.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use bootjack_api::v1;
use bootjack_api::v1::reservations_client::ReservationsClient;

use super::explain::{channel, open_store};
use super::load::Loaded;
use crate::artifact::name::Digest;
use crate::artifact::store::{Artifacts, Entry};
use crate::artifact::used::{self, Wanted};

/// What nothing leads to.
#[derive(Debug, Default)]
pub struct Unwanted {
    pub names: Vec<Entry>,
    /// Content, with its length, that has no other name.
    pub contents: Vec<(Digest, u64)>,
}

/// Finds what may go. The running service is asked for its reservations, or else its store is read.
pub async fn unwanted(loaded: Loaded, config_file: &Path) -> anyhow::Result<Unwanted> {
    let artifacts = Artifacts::new(&loaded.config.artifacts_dir());
    let wanted = wanted(loaded, config_file).await?;
    let mut unwanted = Unwanted::default();
    let mut kept = BTreeSet::new();
    for entry in artifacts.entries()? {
        if wanted.wants(&entry.name) {
            kept.insert(entry.digest);
        } else {
            unwanted.names.push(entry);
        }
    }
    for (digest, bytes) in artifacts.contents()? {
        if !kept.contains(&digest) && !wanted.wants_content(&digest) {
            unwanted.contents.push((digest, bytes));
        }
    }
    Ok(unwanted)
}

/// Removes it: names first, so that nothing ever leads nowhere.
pub fn remove(artifacts: &Artifacts, unwanted: &Unwanted) -> anyhow::Result<()> {
    for entry in &unwanted.names {
        artifacts.forget(&entry.name)?;
    }
    for (digest, _) in &unwanted.contents {
        artifacts.remove(digest)?;
    }
    artifacts.tidy()?;
    Ok(())
}

async fn wanted(loaded: Loaded, config_file: &Path) -> anyhow::Result<Wanted> {
    let mut wanted = Wanted::default();
    // Whole: whatever key a name stands under.
    let text = std::fs::read_to_string(config_file);
    wanted
        .texts
        .push(text.with_context(|| format!("cannot read {}", config_file.display()))?);
    for profile in loaded.catalog.profiles().values() {
        wanted.add(used::of_profile(profile));
    }
    wanted.texts.extend(reservations(loaded).await?);
    Ok(wanted)
}

/// The variables of every reservation, as texts.
async fn reservations(loaded: Loaded) -> anyhow::Result<Vec<String>> {
    let Some(channel) = channel(&loaded.config.grpc.listen).await else {
        let Loaded { config, catalog } = loaded;
        let (store, writer) = open_store(&config, catalog)?;
        let catalog = store.catalog();
        let all = catalog.reservations(None);
        let texts = all
            .flat_map(|reservation| used::of_vars(&reservation.vars).texts)
            .collect();
        tokio::task::spawn_blocking(move || writer.close()).await??;
        return Ok(texts);
    };
    let mut client = ReservationsClient::new(channel);
    let mut texts = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListReservationsRequest {
            page_token,
            ..Default::default()
        };
        let page = client.list_reservations(request).await?.into_inner();
        let vars = page.reservations.iter().flat_map(|r| r.vars.values());
        texts.extend(vars.map(|value| format!("{value:?}")));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(texts);
        }
    }
}
