//! Passwords as `/etc/shadow` holds them. In: a password, and the salt of whoever it is for. Out: its sha512-crypt hash, the same
//! for every fetch of the same document: an installer that asks twice must not be told two things.

use minijinja::{Environment, Error, ErrorKind, Value};
use sha_crypt::{PasswordHasher as _, ShaCrypt};
use sha2::{Digest as _, Sha256};

use super::filters::{refused, scalar};
use crate::model::HIDDEN;

/// What tells the hashes of equal passwords on different machines apart. Twelve octets are the sixteen characters that glibc
/// takes; it cuts off what is longer, and nobody could log in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Salt([u8; 12]);

impl Salt {
    /// The salt of these facts of a machine and its attempt. The password must not be among them: the salt stands in the open,
    /// and would let a guess be tried at the cost of one plain hash.
    pub fn of(facts: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        digest.update(b"bootjack password salt");
        for fact in facts {
            digest.update((fact.len() as u64).to_be_bytes());
            digest.update(fact);
        }
        let mut salt = [0; 12];
        salt.copy_from_slice(&digest.finalize()[..12]);
        Self(salt)
    }
}

pub(super) fn add_to(environment: &mut Environment<'_>, salt: &Salt) {
    let salt = *salt;
    environment.add_filter("sha512crypt", move |password: &Value| crypt(password, salt));
}

fn crypt(password: &Value, salt: Salt) -> Result<String, Error> {
    let password = scalar(password)?;
    // A hash is what it is to become; a secret that is not shown has none.
    if password == HIDDEN || is_hash(&password) {
        return Ok(password);
    }
    if password.is_empty() || password.contains('\0') {
        return Err(refused("nothing, or a NUL octet", "a password"));
    }
    let hashed = ShaCrypt::SHA512.hash_password_with_salt(password.as_bytes(), &salt.0);
    match hashed {
        Ok(hash) => Ok(hash.as_str().to_owned()),
        Err(error) => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("the password cannot be hashed: {error}"),
        )),
    }
}

/// Whether the text is a hash that crypt(3) of the systems we install knows: sha256, sha512, bcrypt or yescrypt.
fn is_hash(text: &str) -> bool {
    let mut parts = text.split('$');
    let known = ["5", "6", "2a", "2b", "2y", "y"];
    parts.next() == Some("")
        && parts.next().is_some_and(|id| known.contains(&id))
        && parts.clone().count() >= 2
        && text.len() >= 40
        && (text.bytes()).all(|b| b.is_ascii_alphanumeric() || b"./$=,".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::render_text;
    use minijinja::context;

    fn hash(password: &str, salt: &Salt) -> String {
        let values = context! { password };
        render_text("t", "{{ password|sha512crypt }}", &values, salt).expect("renders")
    }

    #[test]
    fn a_password_becomes_the_same_hash_every_time_and_another_for_another_machine_or_attempt() {
        let salt = Salt::of(&[b"node-1", b"1"]);
        let first = hash("correct horse", &salt);
        assert_eq!(first, hash("correct horse", &salt));
        let parts: Vec<&str> = first.split('$').collect();
        assert_eq!((parts[0], parts[1]), ("", "6"), "{first}");
        let of_salt = parts[parts.len() - 2];
        assert_eq!(of_salt.len(), 16, "glibc cuts off what is longer: {first}");
        for other in [[&b"node-2"[..], b"1"], [b"node-1", b"2"], [b"node-11", b""]] {
            assert_ne!(first, hash("correct horse", &Salt::of(&other)));
        }
        assert_ne!(first, hash("other", &salt));
    }

    #[test]
    fn a_hash_stays_as_it_is_and_an_empty_password_is_none() {
        let salt = Salt::default();
        let done = hash("x", &salt);
        assert_eq!(hash(&done, &salt), done);
        assert_eq!(hash(HIDDEN, &salt), HIDDEN);
        assert_ne!(hash("$6$short", &salt), "$6$short");
        let empty = render_text("t", "{{ ''|sha512crypt }}", &Value::from(()), &salt);
        assert!(
            empty
                .expect_err("refused")
                .to_string()
                .contains("wanted a password")
        );
    }
}
