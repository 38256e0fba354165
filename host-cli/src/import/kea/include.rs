//! `<?include "FILE"?>`: Kea puts the file's text in its place, wherever that is.

use std::sync::Arc;

use crate::import::{Files, beside};

/// One text, and where each of its lines comes from.
#[derive(Debug, Default)]
pub struct Text {
    pub text: String,
    lines: Vec<(Arc<str>, usize)>,
}

impl Text {
    /// The file and line that a line of the whole is.
    pub fn place(&self, line: usize) -> (Arc<str>, usize) {
        let at = line
            .saturating_sub(1)
            .min(self.lines.len().saturating_sub(1));
        self.lines
            .get(at)
            .cloned()
            .unwrap_or_else(|| ("".into(), line))
    }
}

const DEEPEST: usize = 10;

/// Reads a file with all that it includes; or the file, the line and what is wrong there.
pub fn read(path: &str, files: &dyn Files) -> Result<Text, (String, usize, String)> {
    let mut whole = Text::default();
    add(path, files, 0, &mut whole).map(|()| whole)
}

fn add(
    path: &str,
    files: &dyn Files,
    depth: usize,
    whole: &mut Text,
) -> Result<(), (String, usize, String)> {
    let text = files.read(path).map_err(|problem| {
        (
            path.to_owned(),
            0,
            format!("{problem}; a copy of another host's files is read with --root DIR"),
        )
    })?;
    if depth > DEEPEST {
        let problem = format!("files include each other more than {DEEPEST} deep");
        return Err((path.to_owned(), 0, problem));
    }
    let file: Arc<str> = path.into();
    for (number, line) in text.lines().enumerate() {
        let mut rest = line;
        while let Some((before, named, after)) = include(rest) {
            push(whole, &file, number + 1, before);
            add(&beside(path, named), files, depth + 1, whole)?;
            rest = after;
        }
        push(whole, &file, number + 1, rest);
    }
    Ok(())
}

fn push(whole: &mut Text, file: &Arc<str>, line: usize, text: &str) {
    whole.text.push_str(text);
    whole.text.push('\n');
    whole.lines.push((Arc::clone(file), line));
}

/// What stands before an include, the file it names, and what stands behind; an include in a comment is none.
fn include(line: &str) -> Option<(&str, &str, &str)> {
    let at = line.find("<?include")?;
    let before = &line[..at];
    if before.contains('#') || before.contains("//") {
        return None;
    }
    let (inside, after) = line[at + "<?include".len()..].split_once("?>")?;
    Some((before, inside.trim().trim_matches('"'), after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests_support::Texts;

    #[test]
    fn an_include_stands_for_the_files_text() {
        let texts = Texts::of(&[
            (
                "d/a",
                "{\n\"x\": <?include \"b\"?>,\n# <?include \"none\"?>\n}",
            ),
            ("d/b", "[1,\n2]"),
        ]);
        let whole = read("d/a", &texts).unwrap();
        assert_eq!(
            whole.text,
            "{\n\"x\": \n[1,\n2]\n,\n# <?include \"none\"?>\n}\n"
        );
        let (file, line) = whole.place(4);
        assert_eq!((&*file, line), ("d/b", 2));
        assert_eq!(whole.place(6).1, 3);
    }

    #[test]
    fn a_loop_or_a_missing_file_is_said() {
        let texts = Texts::of(&[("a", "<?include \"a\"?>"), ("b", "<?include \"/c\"?>")]);
        assert!(
            read("a", &texts)
                .unwrap_err()
                .2
                .contains("more than 10 deep")
        );
        assert_eq!(read("b", &texts).unwrap_err().0, "/c");
    }
}
