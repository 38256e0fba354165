//! What a transfer's options come to. In: what the client asks for, the file's length and what the path carries. Out: the terms
//! of the transfer, and what an OACK says of them.
//!
//! Whatever is asked, a window is no longer than one UDP datagram may be: it bounds what a transfer holds in memory, and lets
//! the kernel cut a whole window into datagrams in one call.

use std::time::Duration;

use super::packet::{DATA_HEADER, Wish};

/// RFC 1350 §2.
const DEFAULT_BLOCK: u16 = 512;
/// Blocks in flight. Firmware asks for 4, some for 16; what a network card's queue cannot hold is lost and sent again.
pub const LARGEST_WINDOW: u16 = 64;
/// The octets of DATA packets in flight.
pub const LARGEST_FLIGHT: usize = 65_507;
/// RFC 2348's smallest block.
const SMALLEST_BLOCK: u16 = 8;

/// What both sides agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Octets of file in every block but the last.
    pub block_size: u16,
    /// Blocks that may be unacknowledged.
    pub window: u16,
    /// How long the client wants us to wait before a block is sent again; none: as long as it turns out to take.
    pub timeout: Option<Duration>,
    /// What the OACK says; nothing: there is no OACK.
    pub answer: Vec<(&'static str, u64)>,
}

impl Terms {
    /// `size` is the file's length as the client will count it. `largest_block` is what fits an unfragmented datagram of
    /// ours: no firmware asks for more, and many a ROM cannot put fragments together.
    pub fn agree(wishes: &[Wish], size: u64, largest_block: u16) -> Self {
        let mut terms = Self {
            block_size: DEFAULT_BLOCK,
            window: 1,
            timeout: None,
            answer: Vec::new(),
        };
        // The block's size first: the window depends on it.
        for wish in wishes {
            if let Wish::BlockSize(asked) = *wish {
                terms.block_size = asked.min(largest_block.max(SMALLEST_BLOCK));
            }
        }
        let datagram = DATA_HEADER + usize::from(terms.block_size);
        let most = u16::try_from(LARGEST_FLIGHT / datagram).unwrap_or(u16::MAX);
        for wish in wishes {
            let value = match *wish {
                Wish::BlockSize(_) => u64::from(terms.block_size),
                Wish::WindowSize(asked) => {
                    terms.window = asked.min(LARGEST_WINDOW).min(most).max(1);
                    u64::from(terms.window)
                }
                Wish::Timeout(seconds) => {
                    terms.timeout = Some(Duration::from_secs(seconds.into()));
                    u64::from(seconds)
                }
                Wish::Size => size,
            };
            terms.answer.push((wish.name(), value));
        }
        terms
    }

    /// Octets of a whole window as it is sent.
    pub fn flight(&self) -> usize {
        (DATA_HEADER + usize::from(self.block_size)) * usize::from(self.window)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_options_it_is_512_octets_in_lock_step() {
        let terms = Terms::agree(&[], 10_000, 1468);
        assert_eq!((terms.block_size, terms.window), (512, 1));
        assert_eq!(terms.answer, []);
    }

    #[test]
    fn each_option_is_answered_within_bounds_in_the_order_asked() {
        let asked = [
            Wish::Size,
            Wish::WindowSize(65535),
            Wish::Timeout(3),
            Wish::BlockSize(65464),
        ];
        let terms = Terms::agree(&asked, 10_000, 1468);
        assert_eq!(
            terms.answer,
            [
                ("tsize", 10_000),
                ("windowsize", 44),
                ("timeout", 3),
                ("blksize", 1468)
            ]
        );
        assert_eq!(terms.timeout, Some(Duration::from_secs(3)));
        let small = Terms::agree(&[Wish::WindowSize(65535)], 10_000, 1468);
        assert_eq!(small.window, LARGEST_WINDOW);
    }

    proptest! {
        #[test]
        fn a_flight_is_bounded_whatever_is_asked(block in 8..=65464_u16, window in 1..=65535_u16, mtu in any::<u16>()) {
            let terms = Terms::agree(&[Wish::WindowSize(window), Wish::BlockSize(block)], 1, mtu);
            prop_assert!(terms.flight() <= LARGEST_FLIGHT.max(usize::from(terms.block_size) + DATA_HEADER));
            prop_assert!((8..=block).contains(&terms.block_size) && (1..=window).contains(&terms.window));
        }
    }
}
