//! What a console said lately, as plain text to be searched: pure. A prompt has no end of line, so it is text and not lines.
//!
//! In: octets in any pieces. Out: the first match behind the last one. Escape sequences and carriage returns are left out,
//! backspaces take back.

use regex::Regex;

/// Text that is kept: more than any screen.
const TEXT_MAX: usize = 64 << 10;

#[derive(Debug, Default)]
pub struct Window {
    text: String,
    state: State,
    /// Octets of a character that is not complete.
    partial: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Text,
    Escape,
    /// `ESC [`: parameters up to a letter.
    Control,
    /// `ESC ]`: up to BEL or `ESC \`.
    Quoted,
    /// One more octet belongs to the sequence.
    Skip,
}

impl Window {
    pub fn feed(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.octet(octet);
        }
        let excess = self.text.len().saturating_sub(TEXT_MAX);
        let cut = (excess..=self.text.len()).find(|at| self.text.is_char_boundary(*at));
        self.text.drain(..cut.unwrap_or(0));
    }

    /// The first match; it and what is before it are not looked at again.
    pub fn take(&mut self, pattern: &Regex) -> Option<String> {
        let found = pattern.find(&self.text)?;
        let (text, end) = (found.as_str().to_owned(), found.end());
        self.text.drain(..end);
        Some(text)
    }

    /// The last line that says something, for people.
    pub fn last_line(&self) -> &str {
        let mut lines = self.text.lines().map(str::trim);
        lines.rfind(|line| !line.is_empty()).unwrap_or("nothing")
    }

    fn octet(&mut self, octet: u8) {
        self.state = match (self.state, octet) {
            (State::Escape, b'[') => State::Control,
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::Quoted,
            (State::Escape, b'(' | b')' | b'#' | b'%') => State::Skip,
            (State::Control, 0x20..=0x3f) => State::Control,
            (State::Quoted, 0x07) => State::Text,
            (_, 0x1b) => State::Escape,
            (State::Quoted, _) => State::Quoted,
            (State::Escape | State::Control | State::Skip, _) => State::Text,
            (State::Text, _) => {
                self.character(octet);
                State::Text
            }
        };
    }

    fn character(&mut self, octet: u8) {
        match octet {
            0x08 => drop(self.text.pop()),
            b'\n' | b'\t' | 0x20..=0x7e => self.text.push(char::from(octet)),
            0x80.. => {
                self.partial.push(octet);
                if let Ok(text) = std::str::from_utf8(&self.partial) {
                    self.text.push_str(text);
                    self.partial.clear();
                } else if self.partial.len() >= 4 {
                    self.partial.clear();
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Regex {
        Regex::new(text).unwrap()
    }

    #[test]
    fn a_prompt_without_an_end_of_line_is_found_through_its_colours_in_any_pieces() {
        let said = "\x1b[0m\x1b]0;title\x07Debian GNU/Linux 12 \x1b[1mlocal\x1b[0mhost ttyS0\r\n\r\nlocalhost log\x1b(Bin: ";
        for size in [1, 3, 1000] {
            let mut window = Window::default();
            for piece in said.as_bytes().chunks(size) {
                window.feed(piece);
            }
            let found = window.take(&pattern("localhost login: $"));
            assert_eq!(found.as_deref(), Some("localhost login: "), "{size}");
            assert_eq!(window.take(&pattern("login")), None, "it was taken");
        }
    }

    #[test]
    fn matches_are_taken_one_after_the_other() {
        let mut window = Window::default();
        window.feed("a1 a2 typ\x08\x08\x08ok é".as_bytes());
        assert_eq!(window.take(&pattern("a[0-9]")).as_deref(), Some("a1"));
        assert_eq!(window.take(&pattern("a[0-9]")).as_deref(), Some("a2"));
        assert_eq!(window.take(&pattern("^ ok é$")).as_deref(), Some(" ok é"));
    }

    #[test]
    fn it_keeps_the_end_of_an_endless_text_and_noise_is_harmless() {
        let mut window = Window::default();
        window.feed("é".repeat(TEXT_MAX).as_bytes());
        window.feed(b"\nlast words\n \n");
        assert!(window.text.len() <= TEXT_MAX);
        assert_eq!(window.last_line(), "last words");
        let noise: Vec<u8> = (0..=255).cycle().take(200_000).collect();
        window.feed(&noise);
        window.feed(b"\x1b\x07 login: ");
        assert!(window.take(&pattern("login: $")).is_some());
    }
}
