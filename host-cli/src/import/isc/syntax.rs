//! The syntax of dhcpd.conf: statements that end with `;` or hold others in braces. In: a text. Out: statements with their lines.

/// One statement: its words, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub line: usize,
    pub words: Vec<Word>,
    pub body: Option<Vec<Statement>>,
}

/// A word, text in quotes, or a comma.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    Bare(String),
    Quoted(String),
    Comma,
}

/// A text that is no dhcpd.conf, with the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub line: usize,
    pub why: String,
}

/// What a text is made of.
#[derive(Debug)]
enum Token {
    Word(Word),
    Open,
    Close,
    End,
}

const DEEPEST: usize = 64;

/// Reads all statements. What is broken spoils the statement it is in, and reading goes on behind it.
pub fn read(text: &str) -> (Vec<Statement>, Vec<Broken>) {
    let mut broken = Vec::new();
    let tokens = tokens(text, &mut broken);
    let mut rest = tokens.into_iter().peekable();
    let mut all = Vec::new();
    loop {
        all.extend(block(&mut rest, 0, &mut broken));
        // A brace that closes nothing.
        match rest.next() {
            Some((line, _)) => broken.push(Broken {
                line,
                why: "this brace closes nothing".to_owned(),
            }),
            None => return (all, broken),
        }
    }
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<(usize, Token)>>;

/// Statements up to the brace that closes, which is left there.
fn block(rest: &mut Tokens, depth: usize, broken: &mut Vec<Broken>) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut words = Vec::new();
    let mut begun = 0;
    while let Some((line, token)) = rest.next_if(|(_, token)| !matches!(token, Token::Close)) {
        if words.is_empty() {
            begun = line;
        }
        match token {
            Token::Word(word) => words.push(word),
            Token::End if words.is_empty() => {}
            Token::End => statements.push(Statement {
                line: begun,
                words: std::mem::take(&mut words),
                body: None,
            }),
            Token::Open => {
                let body = inner(rest, line, depth, broken);
                statements.push(Statement {
                    line: begun,
                    words: std::mem::take(&mut words),
                    body: Some(body),
                });
            }
            Token::Close => {}
        }
    }
    if !words.is_empty() {
        broken.push(Broken {
            line: begun,
            why: "this statement has no semicolon at its end".to_owned(),
        });
    }
    statements
}

fn inner(rest: &mut Tokens, line: usize, depth: usize, broken: &mut Vec<Broken>) -> Vec<Statement> {
    if depth >= DEEPEST {
        let why = "braces are nested deeper than anything that is meant".to_owned();
        broken.push(Broken { line, why });
        rest.by_ref().for_each(drop);
        return Vec::new();
    }
    let body = block(rest, depth + 1, broken);
    if rest.next().is_none() {
        let why = "this brace is not closed".to_owned();
        broken.push(Broken { line, why });
    }
    body
}

fn tokens(text: &str, broken: &mut Vec<Broken>) -> Vec<(usize, Token)> {
    let mut tokens = Vec::new();
    let mut chars = text.trim_start_matches('\u{feff}').chars().peekable();
    let mut line = 1;
    while let Some(c) = chars.next() {
        let token = match c {
            '\n' => {
                line += 1;
                continue;
            }
            '#' => {
                while chars.next_if(|c| *c != '\n').is_some() {}
                continue;
            }
            c if c.is_whitespace() => continue,
            '{' => Token::Open,
            '}' => Token::Close,
            ';' => Token::End,
            ',' => Token::Word(Word::Comma),
            '"' => {
                let begun = line;
                match quoted(&mut chars, &mut line) {
                    Some(text) => Token::Word(Word::Quoted(text)),
                    None => {
                        let why = "a quote is not closed".to_owned();
                        broken.push(Broken { line: begun, why });
                        return tokens;
                    }
                }
            }
            c => {
                let mut word = c.to_string();
                let ends = |c: &char| c.is_whitespace() || "{};,\"#".contains(*c);
                while let Some(c) = chars.next_if(|c| !ends(c)) {
                    word.push(c);
                }
                Token::Word(Word::Bare(word))
            }
        };
        tokens.push((line, token));
    }
    tokens
}

fn quoted(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    line: &mut usize,
) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => match chars.next()? {
                't' => text.push('\t'),
                'n' => text.push('\n'),
                'r' => text.push('\r'),
                'x' => {
                    let digits: String = (0..2)
                        .map_while(|_| chars.next_if(char::is_ascii_hexdigit))
                        .collect();
                    text.push(char::from(u8::from_str_radix(&digits, 16).ok()?));
                }
                digit @ '0'..='7' => {
                    let mut digits = digit.to_string();
                    digits.extend((0..2).map_while(|_| chars.next_if(|c| ('0'..='7').contains(c))));
                    text.push(char::from(u8::from_str_radix(&digits, 8).ok()?));
                }
                other => text.push(other),
            },
            '\n' => {
                *line += 1;
                text.push('\n');
            }
            c => text.push(c),
        }
    }
}

impl Word {
    pub fn text(&self) -> &str {
        match self {
            Self::Bare(text) | Self::Quoted(text) => text,
            Self::Comma => ",",
        }
    }
}

impl Statement {
    /// The word at this place, or nothing.
    pub fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", Word::text)
    }

    /// What stands between commas behind the first `from` words; words that no comma parts are joined.
    pub fn values(&self, from: usize) -> Vec<String> {
        let rest = self.words.get(from..).unwrap_or_default();
        let parts = rest.split(|word| *word == Word::Comma);
        let joined = |part: &[Word]| part.iter().map(Word::text).collect::<Vec<_>>().join(" ");
        parts.map(joined).filter(|part| !part.is_empty()).collect()
    }

    /// The statement on one line, without what it holds.
    pub fn shown(&self) -> String {
        let mut text = String::new();
        for word in &self.words {
            match word {
                Word::Comma => text.push(','),
                word => {
                    if !text.is_empty() {
                        text.push(' ');
                    }
                    text.push_str(word.text());
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_read_with_their_lines() {
        let text = "# c\nsubnet 198.18.0.0 netmask 255.255.255.0 {\n  option routers 198.18.0.1, 198.18.0.2; # d\n  host a { }\n}\noption x \"a;b\\\"c\\x41\";";
        let (all, broken) = read(text);
        assert!(broken.is_empty(), "{broken:?}");
        assert_eq!((all[0].line, all[0].word(0), all[1].line), (2, "subnet", 6));
        let body = all[0].body.as_ref().unwrap();
        assert_eq!(body[0].values(2), ["198.18.0.1", "198.18.0.2"]);
        assert_eq!(body[0].shown(), "option routers 198.18.0.1, 198.18.0.2");
        assert_eq!(body[1].body.as_deref(), Some(&[][..]));
        assert_eq!(all[1].word(2), "a;b\"cA");
    }

    #[test]
    fn what_is_broken_is_said_with_its_line() {
        for (text, line, part) in [
            ("a {\n b;\n", 1, "not closed"),
            ("a;\n}\nb;", 2, "closes nothing"),
            ("a {\n b\n}", 2, "no semicolon"),
            ("a;\nb \"c;\n", 2, "a quote"),
        ] {
            let (_, broken) = read(text);
            assert_eq!(broken[0].line, line, "{text}");
            assert!(broken[0].why.contains(part), "{text}: {broken:?}");
        }
        assert!(!read(&"a {".repeat(10_000)).1.is_empty());
    }
}
