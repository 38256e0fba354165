//! What a server's answer means for a download that may have begun. In: how much is here and what is known of the server's file, and
//! the head of the answer. Out: what to do. Pure: RFC 9110, sections 13.1.5 (If-Range), 14.2 (Range), 14.4 (Content-Range), 15.5.17
//! (416); servers that ignore or contradict them are counted on.

/// What is known of the file that a part is of. The part is worth something only together with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Known {
    /// Of the URL; the URL itself may hold a secret.
    pub url_sha256: String,
    pub etag: Option<String>,
    pub modified: Option<String>,
    pub length: Option<u64>,
}

impl Known {
    /// What a server can be asked to compare: a strong ETag, or a date.
    pub fn validator(&self) -> Option<&str> {
        let strong = |etag: &&String| !etag.starts_with("W/");
        let etag = self.etag.as_ref().filter(strong);
        etag.or(self.modified.as_ref()).map(String::as_str)
    }
}

/// The head of an answer, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    /// Content-Length.
    pub length: Option<u64>,
    /// Content-Range.
    pub range: Option<Range>,
    pub etag: Option<String>,
    pub modified: Option<String>,
}

/// `bytes 5-9/10`, `bytes 5-9/*`, `bytes */10`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: Option<u64>,
    pub total: Option<u64>,
}

impl Range {
    pub fn parse(text: &str) -> Option<Self> {
        let (range, total) = text
            .trim()
            .strip_prefix("bytes")?
            .trim_start()
            .split_once('/')?;
        let number = |text: &str| text.trim().parse().ok();
        let first = match range.trim() {
            "*" => None,
            range => Some(number(range.split_once('-')?.0)?),
        };
        let total = match total.trim() {
            "*" => None,
            total => Some(number(total)?),
        };
        Some(Self { first, total })
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The body goes on where the part ends; the file has so many octets in all, if that is known.
    Append {
        total: Option<u64>,
    },
    /// The body is the file from its beginning.
    StartOver {
        total: Option<u64>,
    },
    /// Nothing is missing.
    Whole,
    /// The part is of another file: forget it, and ask for all.
    Forget,
    /// It is not there, and will not be.
    Gone,
    /// Not now.
    Later,
    Refused,
}

/// `have` octets are here; more than none only if `known` says of what.
pub fn next(have: u64, known: Option<&Known>, head: &Head) -> Next {
    match head.status {
        200 => Next::StartOver { total: head.length },
        206 => match (head.range, known) {
            (Some(range), Some(known)) if have > 0 && range.first == Some(have) => {
                let total = range.total;
                let other = |one: &Option<String>, other: &Option<String>| matches!((one, other), (Some(one), Some(other)) if one != other);
                let grew = matches!((total, known.length), (Some(now), Some(then)) if now != then);
                if other(&head.etag, &known.etag)
                    || other(&head.modified, &known.modified)
                    || grew
                    || total.is_some_and(|total| total < have)
                {
                    return Next::Forget;
                }
                Next::Append {
                    total: total.or(known.length),
                }
            }
            _ => Next::Forget,
        },
        416 if have > 0 => match head.range.and_then(|range| range.total) {
            Some(total) if total == have => Next::Whole,
            _ => Next::Forget,
        },
        404 | 410 => Next::Gone,
        408 | 425 | 429 | 500 | 502 | 503 | 504 => Next::Later,
        _ => Next::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known {
            url_sha256: "u".to_owned(),
            etag: Some("\"a\"".to_owned()),
            modified: None,
            length: Some(100),
        }
    }

    fn head(status: u16, range: &str, etag: Option<&str>) -> Head {
        Head {
            status,
            length: Some(100),
            range: Range::parse(range),
            etag: etag.map(str::to_owned),
            modified: None,
        }
    }

    #[test]
    fn a_part_goes_on_only_with_the_same_file() {
        let total = Some(100);
        let cases = [
            (
                40,
                head(206, "bytes 40-99/100", Some("\"a\"")),
                Next::Append { total },
            ),
            (40, head(206, "bytes 40-99/*", None), Next::Append { total }),
            // Another file, another length, another place, no place at all.
            (
                40,
                head(206, "bytes 40-99/100", Some("\"b\"")),
                Next::Forget,
            ),
            (
                40,
                head(206, "bytes 40-119/120", Some("\"a\"")),
                Next::Forget,
            ),
            (40, head(206, "bytes 0-99/100", Some("\"a\"")), Next::Forget),
            (40, head(206, "", Some("\"a\"")), Next::Forget),
            (0, head(206, "bytes 0-99/100", Some("\"a\"")), Next::Forget),
            // The server ignores ranges, or has another file.
            (40, head(200, "", Some("\"b\"")), Next::StartOver { total }),
            (100, head(416, "bytes */100", None), Next::Whole),
            (100, head(416, "bytes */90", None), Next::Forget),
            (100, head(416, "", None), Next::Forget),
            (0, head(416, "bytes */0", None), Next::Refused),
            (40, head(404, "", None), Next::Gone),
            (40, head(503, "", None), Next::Later),
            (40, head(403, "", None), Next::Refused),
            (40, head(302, "", None), Next::Refused),
        ];
        for (have, head, wanted) in cases {
            assert_eq!(next(have, Some(&known()), &head), wanted, "{have} {head:?}");
        }
        let unknown = next(40, None, &head(206, "bytes 40-99/100", None));
        assert_eq!(unknown, Next::Forget);
    }

    #[test]
    fn ranges_are_read() {
        let range = |first, total| Some(Range { first, total });
        assert_eq!(Range::parse("bytes 5-9/10"), range(Some(5), Some(10)));
        assert_eq!(Range::parse("bytes 5-9/*"), range(Some(5), None));
        assert_eq!(Range::parse("bytes */10"), range(None, Some(10)));
        for text in ["", "bytes", "bytes 5/10", "bytes a-b/c", "items 5-9/10"] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_weak_etag_compares_nothing() {
        let mut known = known();
        assert_eq!(known.validator(), Some("\"a\""));
        known.etag = Some("W/\"a\"".to_owned());
        assert_eq!(known.validator(), None);
        known.modified = Some("Sat, 21 Nov 2026 00:00:00 GMT".to_owned());
        assert_eq!(known.validator(), known.modified.as_deref());
    }
}
