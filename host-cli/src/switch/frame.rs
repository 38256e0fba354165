//! The first 14 octets of an Ethernet frame: all that a switch reads.

use std::fmt;

/// Shortest thing that is a frame: two addresses and a type.
pub const HEADER: usize = 14;
/// Longest frame that goes through.
pub const FRAME_MAX: usize = 65_535;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Broadcast or multicast: no machine's own address.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Where a frame is going, and where it says it comes from. None for what is too short or too long, or comes from a group.
pub fn addresses(frame: &[u8]) -> Option<(Mac, Mac)> {
    if frame.len() < HEADER || frame.len() > FRAME_MAX {
        return None;
    }
    let (to, rest) = frame.split_first_chunk()?;
    let from = Mac(*rest.first_chunk()?);
    (!from.is_group()).then_some((Mac(*to), from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_can_have_sent_is_no_frame() {
        let mut frame = vec![0; 60];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&[0x52, 0x54, 0, 0, 0, 1]);
        let (to, from) = addresses(&frame).unwrap();
        assert!(to.is_group() && !from.is_group());
        assert_eq!(from.to_string(), "52:54:00:00:00:01");
        assert_eq!(addresses(&frame[..13]), None);
        assert!(addresses(&frame[..14]).is_some());
        frame.resize(FRAME_MAX, 0);
        assert!(addresses(&frame).is_some());
        frame.push(0);
        assert_eq!(addresses(&frame), None);
        frame.truncate(60);
        frame[6] = 0xff;
        assert_eq!(addresses(&frame), None);
    }
}
