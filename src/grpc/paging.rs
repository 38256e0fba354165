//! Pages of lists (AIP-158). In: what a client asks for. Out: how many, and after which; or a status. A token says after which one the
//! next page begins: no state is kept, and a page never repeats or skips what was not changed.

use tonic::Status;

use super::errors::invalid;

/// A page without a size, and the largest there is.
const USUAL_PAGE: usize = 1_000;
const LARGEST_PAGE: usize = 10_000;

/// What one page is to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) size: usize,
    /// The key of the last one of the page before.
    pub(super) after: Option<String>,
    /// How many there are in all, as counted at the first page.
    total: Option<i32>,
    /// What is listed, and which of it.
    query: String,
}

/// One page.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) next_token: String,
    pub(super) total: i32,
}

impl Wanted {
    /// `query` is what is listed and which of it: a token of another query is refused.
    pub(super) fn new(size: i32, token: &str, query: &[&str]) -> Result<Self, Status> {
        let size = match usize::try_from(size) {
            Ok(0) => USUAL_PAGE,
            Ok(size) => size.min(LARGEST_PAGE),
            Err(_) => return Err(invalid("page_size", "page_size is negative")),
        };
        let query = query.join("\n");
        let first = Self {
            size,
            after: None,
            total: None,
            query,
        };
        if token.is_empty() {
            return Ok(first);
        }
        let (query, total, after) = opened(token).ok_or_else(|| {
            let token = token.chars().take(80).collect::<String>();
            let text = format!(
                "page_token `{}` was not made by this server",
                token.escape_default()
            );
            invalid("page_token", &text)
        })?;
        if query != crc32fast::hash(first.query.as_bytes()) {
            let text = "page_token belongs to another list or filter; repeat the filter of the first page, or begin without a token";
            return Err(invalid("page_token", text));
        }
        Ok(Self {
            after: Some(after),
            total: Some(total),
            ..first
        })
    }

    /// Makes the page of what comes after `after`, in order. `count` counts all there is, and is asked at the first page alone.
    pub(super) fn page<T, M>(
        &self,
        mut rest: impl Iterator<Item = T>,
        key: impl Fn(&T) -> String,
        message: impl Fn(T) -> M,
        count: impl FnOnce() -> usize,
    ) -> Page<M> {
        let mut last = String::new();
        let items: Vec<M> = (rest.by_ref().take(self.size))
            .map(|item| {
                last = key(&item);
                message(item)
            })
            .collect();
        let counted = || i32::try_from(count()).unwrap_or(i32::MAX);
        let total = self.total.unwrap_or_else(counted);
        let next_token = match rest.next() {
            Some(_) => self.token(&last, total),
            None => String::new(),
        };
        Page {
            items,
            next_token,
            total,
        }
    }

    fn token(&self, after: &str, total: i32) -> String {
        let query = crc32fast::hash(self.query.as_bytes());
        let text = format!("{query:08x} {total} {after}");
        let sum = crc32fast::hash(text.as_bytes());
        let octets = format!("{sum:08x}{text}").into_bytes();
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }
}

fn opened(token: &str) -> Option<(u32, i32, String)> {
    let octets = crate::model::Octets::from_hex(token)?.0;
    let text = String::from_utf8(octets).ok()?;
    let (sum, text) = text.split_at_checked(8)?;
    if u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(text.as_bytes()) {
        return None;
    }
    let mut words = text.splitn(3, ' ');
    let query = u32::from_str_radix(words.next()?, 16).ok()?;
    let total = words.next()?.parse().ok()?;
    Some((query, total, words.next()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(size: i32, of: &[&str], filter: &str) -> Vec<Vec<String>> {
        let (mut token, mut pages) = (String::new(), Vec::new());
        loop {
            let wanted = Wanted::new(size, &token, &["things", filter]).expect("its own token");
            let after = wanted.after.clone().unwrap_or_default();
            let rest = of.iter().filter(|item| ***item > *after);
            let page = wanted.page(rest, |i| (**i).to_owned(), |i| (*i).to_owned(), || of.len());
            assert_eq!(page.total as usize, of.len());
            pages.push(page.items);
            token = page.next_token;
            if token.is_empty() {
                return pages;
            }
        }
    }

    #[test]
    fn pages_are_whole_and_the_last_has_no_token() {
        assert_eq!(pages(2, &["a", "b", "c"], ""), [vec!["a", "b"], vec!["c"]]);
        assert_eq!(pages(2, &["a", "b"], ""), [vec!["a", "b"]]);
        assert_eq!(pages(0, &[], ""), [Vec::<String>::new()]);
    }

    #[test]
    fn a_token_that_is_foreign_broken_or_of_another_filter_is_refused() {
        let wanted = Wanted::new(1, "", &["things", "a = b"]).expect("a first page");
        let token = wanted.token("x y", 7);
        let again = Wanted::new(1, &token, &["things", "a = b"]).expect("its own");
        assert_eq!(
            (again.after.as_deref(), again.total),
            (Some("x y"), Some(7))
        );
        for (token, query) in [
            (token.as_str(), ["things", "a = c"]),
            (token.as_str(), ["others", "a = b"]),
            ("node-1", ["things", "a = b"]),
            (&token[2..], ["things", "a = b"]),
            ("ü", ["things", "a = b"]),
            (&token.replacen('3', "4", 1), ["things", "a = b"]),
        ] {
            assert!(Wanted::new(1, token, &query).is_err(), "{token} {query:?}");
        }
        assert!(Wanted::new(-1, "", &[]).is_err());
    }
}
