//! Sizes as people write them: `8GiB`. Powers of 1024 alone: of `8GB` nobody knows which is meant.

const UNITS: [(&str, u32); 5] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("B", 0)];

/// Octets out of `8GiB`, `512MiB` or `1073741824`; `K`, `M`, `G` and `T` are read as QEMU does.
pub fn parse(text: &str) -> Result<u64, String> {
    let wanted = || format!("wanted a size such as 8GiB or 512MiB, got '{text}'");
    let at = text.find(|letter: char| !letter.is_ascii_digit());
    let (number, unit) = text.split_at(at.unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let unit = unit.trim_start();
    let shift = match unit {
        "" => 0,
        "KB" | "MB" | "GB" | "TB" => {
            let letter = &unit[..1];
            return Err(format!("{}; did you mean {number}{letter}iB?", wanted()));
        }
        unit => UNITS
            .iter()
            .find(|(name, _)| *name == unit || name.strip_suffix("iB") == Some(unit))
            .map(|(_, shift)| *shift)
            .ok_or_else(wanted)?,
    };
    number
        .checked_mul(1 << shift)
        .filter(|octets| *octets <= i64::MAX as u64)
        .ok_or_else(|| format!("{text} is more than any file can hold"))
}

/// A disk's: parsed, not nothing, whole sectors.
pub fn parse_disk(text: &str) -> Result<u64, String> {
    match parse(text)? {
        0 => Err("a disk of no size".to_owned()),
        octets if octets % 512 != 0 => {
            Err(format!("wanted whole sectors of 512 octets, got '{text}'"))
        }
        octets => Ok(octets),
    }
}

/// The shortest of `8GiB`, `1536MiB` that is exact.
pub fn exact(octets: u64) -> String {
    let unit = UNITS[..4]
        .iter()
        .rev()
        .find(|(_, shift)| octets != 0 && octets.trailing_zeros() >= *shift);
    match unit {
        Some((name, shift)) => format!("{}{name}", octets >> shift),
        None => format!("{octets}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, octets) in [
            ("8GiB", 8 << 30),
            ("8G", 8 << 30),
            ("1536MiB", 1536 << 20),
            ("512", 512),
            ("512B", 512),
            ("2 TiB", 2 << 40),
        ] {
            assert_eq!(parse(text), Ok(octets), "{text}");
        }
        assert_eq!(exact(8 << 30), "8GiB");
        assert_eq!(exact(1536 << 20), "1536MiB");
        assert_eq!(exact(513), "513B");
        assert_eq!(exact(0), "0B");
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "GiB", "8 gibibytes", "-1GiB", "8.5GiB", "0x10"] {
            assert!(
                parse(text).unwrap_err().starts_with("wanted a size"),
                "{text}"
            );
        }
        assert!(parse("8GB").unwrap_err().ends_with("did you mean 8GiB?"));
        assert!(parse("9999999999TiB").is_err());
        assert!(parse_disk("0").is_err());
        assert!(parse_disk("513").is_err());
    }
}
