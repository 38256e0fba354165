//! Files of checksums as distributions publish them. In: the text, and the name of a file. Out: its digest; or why there is none.
//!
//! Understood: `hash  file` and `hash *file` (sha256sum, sha512sum), `SHA256 (file) = hash` (BSD), and one hash alone, beside the
//! file it is of. Text around them is passed over, such as an OpenPGP signature's: the signature itself is not checked; who
//! vouches for the text is the server it came from over HTTPS.

use super::digest::{Algorithm, Digest};

/// The digest of `file`, the better one where there are two. Two lines that contradict each other are refused.
pub fn find(text: &str, file: &str) -> Result<Digest, String> {
    let mut found: Option<Digest> = None;
    let mut lone: Vec<Digest> = Vec::new();
    for line in text.lines() {
        match read_line(line.trim()) {
            Some((digest, Some(name))) if base(name) == file => {
                let known = found.as_ref();
                match known.filter(|known| known.algorithm() == digest.algorithm()) {
                    Some(known) if *known != digest => {
                        return Err(format!(
                            "two different {} digests are given for {file}",
                            digest.algorithm().as_str()
                        ));
                    }
                    _ => {}
                }
                if known.is_none_or(|known| known.hex().len() < digest.hex().len()) {
                    found = Some(digest);
                }
            }
            Some((digest, None)) => lone.push(digest),
            _ => {}
        }
    }
    match (found, lone.as_slice()) {
        (Some(digest), _) => Ok(digest),
        (None, [digest]) => Ok(digest.clone()),
        (None, _) => Err(format!("no digest is given for {file}")),
    }
}

/// A digest and, if the line has it, whose it is.
fn read_line(line: &str) -> Option<(Digest, Option<&str>)> {
    read_bsd(line).or_else(|| read_gnu(line))
}

/// `SHA256 (file) = hash`
fn read_bsd(line: &str) -> Option<(Digest, Option<&str>)> {
    let (algorithm, rest) = [
        ("SHA256 (", Algorithm::Sha256),
        ("SHA512 (", Algorithm::Sha512),
    ]
    .into_iter()
    .find_map(|(start, algorithm)| Some((algorithm, line.strip_prefix(start)?)))?;
    let (name, hex) = rest.rsplit_once(") = ")?;
    Some((Digest::new(algorithm, hex.trim())?, Some(name)))
}

/// `hash  file`, `hash *file`, `hash`
fn read_gnu(line: &str) -> Option<(Digest, Option<&str>)> {
    let (hex, name) = match line.split_once([' ', '\t']) {
        Some((hex, name)) => (hex, Some(name)),
        None => (line, None),
    };
    let digest = Digest::new(Algorithm::of_length(hex.len())?, hex)?;
    let name = name.map(|name| {
        let name = name.trim_start();
        name.strip_prefix('*').unwrap_or(name)
    });
    Some((digest, name))
}

/// Names are given as `./file` or `dir/file`, too.
fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(digit: char, length: usize) -> String {
        digit.to_string().repeat(length)
    }

    #[test]
    fn each_way_to_write_a_digest_is_read() {
        let (a, b, c) = (hash('a', 64), hash('b', 128), hash('c', 64));
        let cases = [
            (format!("{c} *other.img\n{a} *noble.img\n"), &a),
            (format!("{b}  noble.img\n"), &b),
            (format!("{a}  ./dir/noble.img\r\n"), &a),
            (format!("SHA256 (noble.img) = {a}\n"), &a),
            (format!("SHA512 (noble.img) = {b}"), &b),
            (format!("{b}\n"), &b),
            (
                format!("SHA256 (noble.img) = {a}\nSHA512 (noble.img) = {b}\n"),
                &b,
            ),
            (
                format!(
                    "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# noble.img: 5 octets\nSHA256 (noble.img) = {a}\n-----BEGIN PGP SIGNATURE-----\n\niQIzBAEB\n-----END PGP SIGNATURE-----\n"
                ),
                &a,
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(find(&text, "noble.img").unwrap().hex(), wanted, "{text}");
        }
    }

    #[test]
    fn a_file_that_is_not_named_has_no_digest() {
        let text = format!("{}  other.img\n", hash('a', 64));
        assert_eq!(
            find(&text, "noble.img").unwrap_err(),
            "no digest is given for noble.img"
        );
        assert!(find("<html>404</html>", "noble.img").is_err());
        // The end of a name is not the name.
        assert!(find(&format!("{}  my-noble.img", hash('a', 64)), "noble.img").is_err());
        // Of two hashes without names none is taken.
        let two = format!("{}\n{}\n", hash('a', 64), hash('b', 64));
        assert!(find(&two, "noble.img").is_err());
    }

    #[test]
    fn a_contradiction_is_refused() {
        let text = format!("{}  a\n{}  a\n", hash('a', 64), hash('b', 64));
        assert_eq!(
            find(&text, "a").unwrap_err(),
            "two different sha256 digests are given for a"
        );
    }
}
