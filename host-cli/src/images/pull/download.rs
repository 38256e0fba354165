//! One file, until all of it is here, as far as its server tells. In: a URL, and the part that has come before. Out: the part, whole.
//! It gives up a server that does not get on, or says now this and now that; what has come stays.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::time::Duration;

use super::answer::{self, Head, Known, Next};
use super::http::{self, Client, From, HttpError};
use super::part::Part;
use super::{Patience, Trouble, say, sha256_of, shown};
use crate::exit::{Exit, Failure};
use crate::files;
use crate::images::catalogue::Source;
use crate::images::import;
use crate::images::progress::Progress;
use crate::output;

/// How often in a row a transfer may fail without getting on.
const ATTEMPTS_MAX: u32 = 5;
/// How often a server may contradict what it has said before.
const FORGOTTEN_MAX: u32 = 3;

/// One file on its way here.
pub struct Download<'a> {
    pub client: &'a Client,
    pub source: &'a Source,
    /// Its digest is known: pieces that do not fit together are found out.
    pub vouched: bool,
    pub part: &'a Part,
    pub patience: Patience,
    /// What is here has come in several pieces.
    pub resumed: bool,
}

/// How a piece ended.
enum Piece {
    Whole,
    /// It broke off.
    Broken(String),
}

impl Download<'_> {
    /// Until the part is whole, as far as the server tells.
    pub fn run(&mut self) -> Result<(), Trouble> {
        let mut attempts = Attempts::new(self.patience);
        let mut forgotten = 0;
        let mut most = 0;
        loop {
            let (have, known) = self.beginning()?;
            most = most.max(have);
            if have > 0 && known.as_ref().and_then(|known| known.length) == Some(have) {
                return Ok(());
            }
            let head_and_body = self.ask(have, known.as_ref());
            let (head, body) = match head_and_body {
                Ok(answer) => (answer.head, answer.body),
                Err(HttpError::Gone) => return Err(Trouble::Gone),
                Err(HttpError::Refused(problem)) => return Err(self.failed(&problem)),
                Err(HttpError::Broken(problem)) if attempts.over() => {
                    return Err(self.failed(&format!("{problem}, {}", self.kept())));
                }
                Err(HttpError::Broken(problem)) => {
                    attempts.pause(&problem);
                    continue;
                }
            };
            let piece = match answer::next(have, known.as_ref(), &head) {
                Next::Whole => return Ok(()),
                Next::Gone => return Err(Trouble::Gone),
                Next::Refused => {
                    return Err(self.failed(&format!("the server answers {}", head.status)));
                }
                Next::Forget if forgotten == FORGOTTEN_MAX => {
                    return Err(self.failed("the server says now this and now that"));
                }
                Next::Forget => {
                    forgotten += 1;
                    self.part.empty()?;
                    continue;
                }
                Next::Later => Piece::Broken(format!("the server answers {}", head.status)),
                Next::Append { total } => {
                    self.resumed = true;
                    self.receive(self.part.go_on()?, body, have, total)?
                }
                Next::StartOver { total } => {
                    self.resumed = false;
                    let file = self.part.begin(&self.known(&head))?;
                    self.receive(file, body, 0, total)?
                }
            };
            match piece {
                Piece::Whole => return Ok(()),
                Piece::Broken(problem) => {
                    // A server that begins anew each time does not get on.
                    if self.part.length() > most {
                        most = self.part.length();
                        attempts = Attempts::new(self.patience);
                    }
                    if attempts.over() {
                        return Err(self.failed(&format!("{problem}, {}", self.kept())));
                    }
                    attempts.pause(&problem);
                }
            }
        }
    }

    /// What is here of this very file; what is of another one goes.
    fn beginning(&mut self) -> Result<(u64, Option<Known>), Failure> {
        let have = self.part.length();
        let known = self.part.known().filter(|known| {
            known.url_sha256 == sha256_of(&self.source.url)
                // Without a digest and without a validator nobody would notice another file.
                && (self.vouched || known.validator().is_some())
        });
        match (have, known) {
            (0, _) => Ok((0, None)),
            (have, Some(known)) => {
                // It may have come from another process.
                self.resumed = true;
                Ok((have, Some(known)))
            }
            (_, None) => {
                self.part.empty()?;
                Ok((0, None))
            }
        }
    }

    fn ask(&self, have: u64, known: Option<&Known>) -> Result<http::Answer, HttpError> {
        let from = known.map(|known| From {
            octet: have,
            if_range: known.validator(),
        });
        self.client.get(&self.source.url, from)
    }

    fn known(&self, head: &Head) -> Known {
        Known {
            url_sha256: sha256_of(&self.source.url),
            etag: head.etag.clone(),
            modified: head.modified.clone(),
            length: head.length,
        }
    }

    /// Writes what comes behind what is here.
    fn receive(
        &self,
        mut file: File,
        mut body: Box<dyn Read>,
        have: u64,
        total: Option<u64>,
    ) -> Result<Piece, Failure> {
        let missing = total.unwrap_or(have).saturating_sub(have);
        if let Some(free) = files::free(self.part.path().parent().unwrap_or(self.part.path()))
            && missing > free
        {
            return Err(self.no_room(missing));
        }
        let progress = Progress::octets(&self.file_name(), total);
        progress.set(have);
        let mut buffer = vec![0; 256 << 10];
        let mut at = have;
        let piece = loop {
            let length = match body.read(&mut buffer) {
                Ok(0) => break None,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => break Some(broken_off(&error)),
            };
            if at + length as u64 > total.unwrap_or(import::SIZE_MAX) {
                break Some("the server sends more than it has announced".to_owned());
            }
            match file.write_all(&buffer[..length]) {
                Err(error) if import::is_full(&error) => return Err(self.no_room(missing)),
                written => written.map_err(Failure::io("write", self.part.path()))?,
            }
            at += length as u64;
            progress.advance(length as u64);
        };
        Ok(match (piece, total) {
            (Some(problem), _) => Piece::Broken(problem),
            (None, Some(total)) if at < total => {
                Piece::Broken(format!("it ends {} octets too soon", total - at))
            }
            (None, _) => Piece::Whole,
        })
    }

    fn file_name(&self) -> String {
        let name = shown(&self.source.url).rsplit('/').next();
        name.unwrap_or_default().to_owned()
    }

    fn kept(&self) -> String {
        match self.part.length() {
            0 => "and nothing has come; is there a way to it, or a proxy to name in HTTPS_PROXY?"
                .to_owned(),
            have => format!(
                "and {} have come; the same command goes on from there",
                output::size(have)
            ),
        }
    }

    fn failed(&self, problem: &str) -> Trouble {
        let text = format!("{}: {problem}", shown(&self.source.url));
        Failure::new(Exit::Unverified, text).into()
    }

    fn no_room(&self, missing: u64) -> Failure {
        let directory = self.part.path().parent().unwrap_or(self.part.path());
        let free = files::free(directory).map_or(String::new(), |free| {
            format!(" and {} are free", output::size(free))
        });
        let text = format!(
            "no room for {}: {} are missing{free} in {}; make room, such as with: bootjack image prune, and the same command goes on where it stopped",
            self.file_name(),
            output::size(missing),
            directory.display()
        );
        Failure::new(Exit::Failed, text)
    }
}

/// Pauses that become longer, and an end.
pub struct Attempts {
    left: u32,
    pause: Duration,
}

impl Attempts {
    pub fn new(patience: Patience) -> Self {
        Self {
            left: ATTEMPTS_MAX,
            pause: patience.pause,
        }
    }

    pub fn over(&self) -> bool {
        self.left <= 1
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a pause for the server's sake; nothing tells when it is ready"
    )]
    pub fn pause(&mut self, problem: &str) {
        say(&format!(
            "{problem}; trying again in {}",
            output::span(self.pause)
        ));
        std::thread::sleep(self.pause);
        self.pause *= 2;
        self.left -= 1;
    }
}

fn broken_off(error: &io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<ureq::Error>());
    match inner {
        Some(ureq::Error::Timeout(_)) => "the server is silent".to_owned(),
        _ => format!("the connection broke off ({})", output::io_reason(error)),
    }
}
