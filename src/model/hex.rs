//! Hexadecimal digits, two to an octet and nothing else.

/// The octets that an even number of digits says, in either case.
pub(super) fn octets(digits: &str) -> Option<Vec<u8>> {
    let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hex || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}

/// The same for a certain number of them.
pub(super) fn array<const N: usize>(digits: &str) -> Option<[u8; N]> {
    octets(digits)?.try_into().ok()
}
