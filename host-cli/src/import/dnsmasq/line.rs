//! One line as dnsmasq reads it: quotes, escapes, comments. In: the line. Out: words whose quoted characters separate nothing.

/// Characters, each with whether it was quoted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word(Vec<(char, bool)>);

/// The line without its comment and the blanks around it.
pub fn read(line: &str) -> Result<Word, &'static str> {
    let mut chars = line.trim_start_matches('\u{feff}').chars();
    let mut word = Vec::new();
    let mut after_blank = true;
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted(&mut chars, &mut word)?;
                after_blank = false;
            }
            '#' if after_blank => break,
            c if c.is_whitespace() => {
                word.push((' ', false));
                after_blank = true;
            }
            c => {
                word.push((c, false));
                after_blank = false;
            }
        }
    }
    Ok(Word(word).trimmed())
}

fn quoted(
    chars: &mut std::str::Chars<'_>,
    word: &mut Vec<(char, bool)>,
) -> Result<(), &'static str> {
    loop {
        let c = match chars.next().ok_or("a quote is not closed")? {
            '"' => return Ok(()),
            '\\' => match chars.clone().next() {
                Some(escaped @ ('"' | '\\')) => taken(chars, escaped),
                Some('t') => taken(chars, '\t'),
                Some('n') => taken(chars, '\n'),
                Some('r') => taken(chars, '\r'),
                Some('b') => taken(chars, '\u{8}'),
                Some('e') => taken(chars, '\u{1b}'),
                _ => '\\',
            },
            c => c,
        };
        word.push((c, true));
    }
}

fn taken(chars: &mut std::str::Chars<'_>, means: char) -> char {
    chars.next();
    means
}

impl Word {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn text(&self) -> String {
        self.0.iter().map(|(c, _)| c).collect()
    }

    /// Some of it was quoted.
    pub fn is_quoted(&self) -> bool {
        self.0.iter().any(|(_, quoted)| *quoted)
    }

    /// What stands before and after the first `=`.
    pub fn setting(&self) -> (String, Option<Word>) {
        match self.0.iter().position(|c| *c == ('=', false)) {
            None => (self.text(), None),
            Some(at) => {
                let part = |part: &[(char, bool)]| Self(part.to_vec()).trimmed();
                (part(&self.0[..at]).text(), Some(part(&self.0[at + 1..])))
            }
        }
    }

    /// What stands between commas.
    pub fn parts(&self) -> Vec<Word> {
        let parts = self.0.split(|c| *c == (',', false));
        parts.map(|part| Self(part.to_vec()).trimmed()).collect()
    }

    fn trimmed(mut self) -> Self {
        let is_blank = |c: &(char, bool)| *c == (' ', false);
        while self.0.last().is_some_and(is_blank) {
            self.0.pop();
        }
        let blanks = self.0.iter().take_while(|c| is_blank(c)).count();
        self.0.drain(..blanks);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hide_commas_and_comments() {
        let word = read("  dhcp-option = 17,\"a,b # \\\"c\\\"\", d#e  # comment").unwrap();
        let (key, value) = word.setting();
        assert_eq!(key, "dhcp-option");
        let parts: Vec<String> = value.unwrap().parts().iter().map(Word::text).collect();
        assert_eq!(parts, ["17", "a,b # \"c\"", "d#e"]);
        assert!(read("# all of it").unwrap().is_empty());
        assert_eq!(read("a=\"b"), Err("a quote is not closed"));
    }
}
