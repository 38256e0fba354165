//! The hash of RFC 3074 §6: which of 256 buckets a client is in. In: the octets that identify it. Out: a number that is the same
//! in every replica and every version.

/// How many buckets there are.
pub const BUCKETS: usize = 256;

/// The mixing table of RFC 3074 §6: each number once.
const MIXING: [u8; BUCKETS] = [
    251, 175, 119, 215, 81, 14, 79, 191, 103, 49, 181, 143, 186, 157, 0, 232, //
    31, 32, 55, 60, 152, 58, 17, 237, 174, 70, 160, 144, 220, 90, 57, 223, //
    59, 3, 18, 140, 111, 166, 203, 196, 134, 243, 124, 95, 222, 179, 197, 65, //
    180, 48, 36, 15, 107, 46, 233, 130, 165, 30, 123, 161, 209, 23, 97, 16, //
    40, 91, 219, 61, 100, 10, 210, 109, 250, 127, 22, 138, 29, 108, 244, 67, //
    207, 9, 178, 204, 74, 98, 126, 249, 167, 116, 34, 77, 193, 200, 121, 5, //
    20, 113, 71, 35, 128, 13, 182, 94, 25, 226, 227, 199, 75, 27, 41, 245, //
    230, 224, 43, 225, 177, 26, 155, 150, 212, 142, 218, 115, 241, 73, 88, 105, //
    39, 114, 62, 255, 192, 201, 145, 214, 168, 158, 221, 148, 154, 122, 12, 84, //
    82, 163, 44, 139, 228, 236, 205, 242, 217, 11, 187, 146, 159, 64, 86, 239, //
    195, 42, 106, 198, 118, 112, 184, 172, 87, 2, 173, 117, 176, 229, 247, 253, //
    137, 185, 99, 164, 102, 147, 45, 66, 231, 52, 141, 211, 194, 206, 246, 238, //
    56, 110, 78, 248, 63, 240, 189, 93, 92, 51, 53, 183, 19, 171, 72, 50, //
    33, 104, 101, 69, 8, 252, 83, 120, 76, 135, 85, 54, 202, 125, 188, 213, //
    96, 235, 136, 208, 162, 129, 190, 132, 156, 38, 47, 1, 7, 254, 24, 4, //
    216, 131, 89, 21, 28, 133, 37, 153, 149, 80, 170, 68, 6, 169, 234, 151,
];

/// The bucket of a client: Pearson's hash over its client-id (option 61) if it sends one, else over its hardware address,
/// beginning with the length and the last octet.
pub fn bucket(client: &[u8]) -> u8 {
    // RFC 3074 §6 begins with the length in one octet; longer than 255 no option that comes in one piece is.
    let length = client.len().to_le_bytes()[0];
    (client.iter().rev()).fold(length, |hash, octet| MIXING[usize::from(hash ^ octet)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixing_table_holds_every_number_once_and_is_the_one_of_rfc_3074() {
        let mut sorted = MIXING;
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(n, m)| n == usize::from(*m)));
        // Of the 256 octets as two other DHCP servers have them, Kea 2 and ISC's dhcpd 4.
        assert_eq!(crc32fast::hash(&MIXING), 1_498_510_450);
    }

    #[test]
    fn buckets_are_those_that_the_c_of_rfc_3074_computes() {
        for (client, expected) in [
            (&[][..], 0),
            (&[0x52, 0x54, 0, 0, 0, 1], 149),
            (&[0x52, 0x54, 0, 0, 0, 2], 101),
            (&[1, 0x52, 0x54, 0, 0, 0, 1], 28),
            (&[1, 2, 3, 4, 5, 6], 179),
            (&[0xff; 16], 105),
            (&[0; 255], 123),
            (&[0; 300], 40),
        ] {
            assert_eq!(bucket(client), expected, "{client:02x?}");
        }
    }

    #[test]
    fn clients_spread_over_the_buckets() {
        let mut clients_in = [0_u32; BUCKETS];
        for n in 0..65_536_u32 {
            let [_, _, high, low] = n.to_be_bytes();
            clients_in[usize::from(bucket(&[0x52, 0x54, 0, 0x12, high, low]))] += 1;
        }
        assert!(
            clients_in.iter().all(|n| (128..512).contains(n)),
            "{clients_in:?}"
        );
    }
}
