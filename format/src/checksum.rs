//! CRC-32C as EROFS uses it: reflected polynomial 0x82F63B78, no final inversion (`fs/erofs/super.c`).

const POLYNOMIAL: u32 = 0x82F6_3B78;

const TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut byte = 0u32;
    while byte < 256 {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 {
                (crc >> 1) ^ POLYNOMIAL
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

/// Continues a CRC-32C over `bytes`; start with [`INITIAL`].
///
/// A table of one byte a step is enough: at most 64 KiB are covered, once per image.
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ TABLE[usize::from(low ^ byte)]
    })
}

/// Initial value of the superblock checksum.
pub const INITIAL: u32 = 0xFFFF_FFFF;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_vectors() {
        assert_eq!(crc32c(INITIAL, b"123456789") ^ INITIAL, 0xE306_9283);
        assert_eq!(
            crc32c(INITIAL, &[0xE2, 0xE1, 0xF5, 0xE0, 0, 0, 0, 0]),
            0x5045_B54A
        );
    }
}
