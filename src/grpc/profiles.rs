//! `bootjack.v1.Profiles`: what machines boot. In: files. Out: a profile that is on disk and served from, once it is clear that it breaks
//! no document of any machine; or a status that says which line is wrong.

use std::collections::BTreeMap;

use bootjack_api::v1;
use bootjack_api::v1::finding::Severity as Word;
use bootjack_api::v1::profiles_server::Profiles;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::errors::{in_the_way, invalid, not_found, refused, said, stale, store_failed};
use super::paging::Wanted;
use super::profile_message::{COLLECTION, check_files, check_name, etag, name_in, to_message};
use crate::catalog::Catalog;
use crate::config::reader::Problem;
use crate::lint::machine::{Surveyed, broken, survey};
use crate::lint::{Finding, Severity};
use crate::model::{Event, Profile, ProfileSource};
use crate::observe::emit;
use crate::render::profile::{PROFILE_FILE, read};
use crate::store::profiles::{Files, Places, files_of, hidden_by, shipped};
use crate::store::{ProfilesError, Store, own_profiles};

/// The service.
pub struct Shelf {
    store: Store,
    places: Places,
}

impl Shelf {
    pub fn new(store: Store, places: Places) -> Self {
        Self { store, places }
    }

    fn message(&self, catalog: &Catalog, profile: &Profile, with_files: bool) -> v1::Profile {
        let files = files_of(&self.places, &profile.name, profile.source).unwrap_or_default();
        let hides = hidden_by(&self.places, profile);
        let mut message = to_message(catalog, profile, hides, &files);
        if with_files {
            message.files = files;
        }
        message
    }

    /// The directory of those that are made here.
    fn own(&self) -> Result<&std::path::Path, Status> {
        let own = self.places.own.as_deref();
        own.ok_or_else(|| Status::unimplemented("this service keeps no profiles of its own"))
    }

    fn check_etag(&self, profile: Option<&Profile>, name: &str, sent: &str) -> Result<(), Status> {
        if sent.is_empty() {
            return Ok(());
        }
        let files = profile.and_then(|p| files_of(&self.places, name, p.source));
        let current = files.map_or_else(|| "none".to_owned(), |files| etag(&files));
        match current == sent {
            true => Ok(()),
            false => Err(stale(&format!("{COLLECTION}{name}"), &current, sent)),
        }
    }

    /// Puts the profiles in place, or takes back what was written.
    async fn place(
        &self,
        profiles: BTreeMap<String, Profile>,
        changed: own_profiles::Changed,
        name: &str,
    ) -> Result<(), Status> {
        match self.store.replace_profiles(profiles).await {
            Ok(()) => {
                emit(&Event::ProfilesLoaded {
                    changed: vec![name.to_owned()],
                });
                // What is left of the former one is removed by the next change, if not now.
                let _ = changed.keep();
                Ok(())
            }
            Err(why) => {
                changed.undo().map_err(|error| unwritable(&error))?;
                Err(match why {
                    ProfilesError::Refused(refused) => unfit(name, &refused),
                    ProfilesError::Failed(failure) => store_failed(&failure),
                })
            }
        }
    }
}

/// UNAVAILABLE: the disk does not take it.
fn unwritable(error: &std::io::Error) -> Status {
    emit(&Event::Failed {
        about: "profiles",
        error: error.to_string(),
    });
    Status::unavailable(
        "the profile cannot be written; the log of bootjackd says why; nothing was changed",
    )
}

/// The profile that these files are.
fn parsed(name: &str, files: &Files) -> Result<Profile, Status> {
    let profile = read(name, files.clone()).map_err(|problems| malformed(name, &problems))?;
    Ok(Profile {
        source: ProfileSource::Api,
        ..profile
    })
}

fn malformed(name: &str, problems: &[Problem]) -> Status {
    let mut details = ErrorDetails::new();
    let mut texts = Vec::new();
    for problem in problems.iter().take(20) {
        let text = match problem.line {
            0 => problem.text.clone(),
            line => format!("line {line}, {}: {}", problem.place, problem.text),
        };
        details.add_bad_request_violation(format!("profile.files.{PROFILE_FILE}"), text.as_str());
        texts.push(text);
    }
    let text = format!("profile {name}: {}", said(&texts));
    Status::with_error_details(Code::InvalidArgument, text, details)
}

/// INVALID_ARGUMENT: reservations do not fit the profile.
fn unfit(name: &str, refused: &[crate::catalog::Refusal]) -> Status {
    let mut details = ErrorDetails::new();
    for refusal in refused.iter().take(20) {
        details.add_bad_request_violation("profile.files", refusal.to_string());
    }
    let text = format!("profile {name}: {}", said(refused));
    Status::with_error_details(Code::InvalidArgument, text, details)
}

/// Whether every machine could be served all of its documents.
fn check_documents(next: &Catalog, name: &str) -> Result<(), Status> {
    let found = broken(next, name);
    if found.is_empty() {
        return Ok(());
    }
    let mut details = ErrorDetails::new();
    let mut texts = Vec::new();
    for Surveyed {
        finding, machines, ..
    } in found.iter().take(20)
    {
        let text = format!("{finding} (for {})", said(machines));
        let field = format!("profile.files.{}", finding.document);
        details.add_bad_request_violation(field, text.as_str());
        texts.push(text);
    }
    let text = format!("profile {name}: {}", said(&texts));
    Err(Status::with_error_details(
        Code::InvalidArgument,
        text,
        details,
    ))
}

/// Who could not do without the profile of this name.
fn users(catalog: &Catalog, name: &str) -> Vec<(String, String)> {
    let machines = (catalog.reservations(None))
        .filter(|own| catalog.profile_name_of(own) == Some(name))
        .map(|own| format!("reservations/{}", own.id));
    let groups = (catalog.groups().iter())
        .filter(|group| group.profile.as_deref() == Some(name))
        .map(|group| format!("group {} of the configuration", group.name));
    let rescue = (catalog.rescue_name() == name).then(|| "boot.rescue".to_owned());
    let all = machines.chain(groups).chain(rescue).take(20);
    let told = "has this profile; give it another one first";
    all.map(|user| (user, told.to_owned())).collect()
}

fn finding(catalog: &Catalog, found: Surveyed) -> v1::Finding {
    let Surveyed {
        finding, machines, ..
    } = found;
    let machine = |title: String| {
        let own = catalog.named(&title);
        format!("machines/{}", own.map_or(title.as_str(), |own| &own.id))
    };
    let Finding {
        document,
        line,
        severity,
        message,
        next_step,
    } = finding;
    v1::Finding {
        document,
        line: i32::try_from(line).unwrap_or(i32::MAX),
        severity: match severity {
            Severity::Error => Word::Error,
            Severity::Warning => Word::Warning,
            Severity::Info => Word::Info,
        }
        .into(),
        message,
        next_step,
        machines: machines.into_iter().map(machine).collect(),
    }
}

/// Lints on a thread of its own: hashing a password takes some milliseconds.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|panic| Status::internal(panic.to_string()))
}

#[tonic::async_trait]
impl Profiles for Shelf {
    async fn list_profiles(
        &self,
        request: Request<v1::ListProfilesRequest>,
    ) -> Result<Response<v1::ListProfilesResponse>, Status> {
        let request = request.into_inner();
        let wanted = Wanted::new(request.page_size, &request.page_token, &["profiles"])?;
        let catalog = self.store.catalog();
        let after = wanted.after.clone().unwrap_or_default();
        let rest = catalog.profiles().values().filter(|p| p.name > after);
        let page = wanted.page(
            rest,
            |profile| profile.name.clone(),
            |profile| self.message(&catalog, profile, false),
            || catalog.profiles().len(),
        );
        Ok(Response::new(v1::ListProfilesResponse {
            profiles: page.items,
            next_page_token: page.next_token,
        }))
    }

    async fn get_profile(
        &self,
        request: Request<v1::GetProfileRequest>,
    ) -> Result<Response<v1::Profile>, Status> {
        let catalog = self.store.catalog();
        let profile = find(&catalog, &request.get_ref().name)?;
        Ok(Response::new(self.message(&catalog, profile, true)))
    }

    async fn put_profile(
        &self,
        request: Request<v1::PutProfileRequest>,
    ) -> Result<Response<v1::Profile>, Status> {
        let request = request.into_inner();
        let message = (request.profile)
            .ok_or_else(|| invalid("profile", "profile is missing; give its name and files"))?;
        let name = name_in(&message.name)?.to_owned();
        check_name(&name)?;
        check_files(&message.files)?;
        let _turn = self.store.turn_with_profiles().await;
        let catalog = self.store.catalog();
        let known = catalog.profiles().get(&name);
        if known.is_some_and(|known| known.source == ProfileSource::Directory) {
            let text = format!(
                "profile {name} comes from the directory boot.profiles; change it there, it is read anew by itself"
            );
            let facts = [("resource", message.name.as_str())];
            return Err(refused(
                Code::FailedPrecondition,
                "FROM_DIRECTORY",
                &facts,
                &text,
            ));
        }
        self.check_etag(known, &name, &request.etag)?;
        let profile = parsed(&name, &message.files)?;
        let mut profiles = catalog.profiles().clone();
        profiles.insert(name.clone(), profile.clone());
        let next = (catalog.with_profiles(profiles.clone())).map_err(|why| unfit(&name, &why))?;
        let (look, looked) = (next.clone(), name.clone());
        aside(move || check_documents(&look, &looked)).await??;
        if request.validate_only {
            let hides = hidden_by(&self.places, &profile);
            let mut supposed = to_message(&next, &profile, hides, &message.files);
            supposed.files = message.files;
            return Ok(Response::new(supposed));
        }
        let (own, id, files) = (self.own()?.to_owned(), name.clone(), message.files);
        let put = aside(move || own_profiles::put(&own, &id, &files)).await?;
        let changed = put.map_err(|error| unwritable(&error))?;
        self.place(profiles, changed, &name).await?;
        let catalog = self.store.catalog();
        Ok(Response::new(self.message(&catalog, &profile, true)))
    }

    async fn delete_profile(
        &self,
        request: Request<v1::DeleteProfileRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        let _turn = self.store.turn_with_profiles().await;
        let catalog = self.store.catalog();
        let profile = find(&catalog, &request.name)?;
        let name = profile.name.clone();
        let (why, text) = match profile.source {
            ProfileSource::Api => ("", String::new()),
            ProfileSource::Shipped => (
                "SHIPPED",
                format!(
                    "profile {name} is inside bootjackd and cannot be deleted; put one of the same name to have another"
                ),
            ),
            ProfileSource::Directory => (
                "FROM_DIRECTORY",
                format!("profile {name} comes from the directory boot.profiles; delete it there"),
            ),
        };
        if !why.is_empty() {
            let facts = [("resource", request.name.as_str())];
            return Err(refused(Code::FailedPrecondition, why, &facts, &text));
        }
        self.check_etag(Some(profile), &name, &request.etag)?;
        let mut profiles = catalog.profiles().clone();
        match shipped(&name) {
            Some(shipped) => drop(profiles.insert(name.clone(), shipped)),
            None => {
                let users = users(&catalog, &name);
                if let Some((first, _)) = users.first() {
                    let text =
                        format!("profile {name} is used by {first}; give it another profile first");
                    return Err(in_the_way("IN_USE", &users, &text));
                }
                profiles.remove(&name);
            }
        }
        let next = (catalog.with_profiles(profiles.clone())).map_err(|why| unfit(&name, &why))?;
        let id = name.clone();
        aside(move || check_documents(&next, &id)).await??;
        if request.validate_only {
            return Ok(Response::new(()));
        }
        let (own, id) = (self.own()?.to_owned(), name.clone());
        let deleted = aside(move || own_profiles::delete(&own, &id)).await?;
        let changed = deleted.map_err(|error| unwritable(&error))?;
        self.place(profiles, changed, &name).await?;
        Ok(Response::new(()))
    }

    async fn lint_profile(
        &self,
        request: Request<v1::LintProfileRequest>,
    ) -> Result<Response<v1::LintProfileResponse>, Status> {
        let request = request.into_inner();
        let catalog = self.store.catalog();
        let name = name_in(&request.name)?.to_owned();
        let next = if request.files.is_empty() {
            find(&catalog, &request.name)?;
            (*catalog).clone()
        } else {
            check_name(&name)?;
            check_files(&request.files)?;
            let mut profiles = catalog.profiles().clone();
            profiles.insert(name.clone(), parsed(&name, &request.files)?);
            (catalog.with_profiles(profiles)).map_err(|why| unfit(&name, &why))?
        };
        let look = move || survey(&next, next.profiles().get(&name));
        let mut found = aside(look).await?;
        found.sort_by_key(|found| found.finding.severity);
        let findings = found.into_iter().map(|found| finding(&catalog, found));
        Ok(Response::new(v1::LintProfileResponse {
            findings: findings.collect(),
        }))
    }
}

/// The profile that a resource name means.
fn find<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Profile, Status> {
    let id = name_in(name)?;
    catalog.profiles().get(id).ok_or_else(|| {
        let known: Vec<&str> = catalog.profiles().keys().map(String::as_str).collect();
        let text = format!(
            "profile {} does not exist; known are: {}",
            id.escape_default(),
            known.join(", ")
        );
        not_found(&format!("{COLLECTION}{id}"), &text)
    })
}
