//! Sizes of disks and memories: `512MiB`, `20 GiB`, `10G`.

/// Octets. Powers of 1,024 however the unit is written, since disks and memories come in them.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("wanted a size such as 20GiB or 512MiB, found \"{text}\"");
    let trimmed = text.trim();
    let digits = trimmed.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = trimmed[digits.len()..].trim().to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kib" | "kb" => 10,
        "m" | "mib" | "mb" => 20,
        "g" | "gib" | "gb" => 30,
        "t" | "tib" | "tb" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number
        .checked_mul(1 << shift)
        .filter(|size| *size > 0)
        .ok_or_else(wrong)
}

/// The shortest way to write it exactly.
pub fn shown_size(octets: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if octets > 0 && octets.is_multiple_of(1 << shift) {
            return format!("{}{unit}", octets >> shift);
        }
    }
    format!("{octets}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, octets) in [
            ("512MiB", 512 << 20),
            ("20 GiB", 20 << 30),
            ("10G", 10 << 30),
            ("1t", 1 << 40),
            ("4096", 4096),
        ] {
            assert_eq!(parse_size(text), Ok(octets), "{text}");
            assert_eq!(parse_size(&shown_size(octets)), Ok(octets));
        }
        for text in [
            "",
            "GiB",
            "0GiB",
            "-1GiB",
            "1.5GiB",
            "20 Gib its",
            "99999999999T",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
