//! The encoder that looks harder for matches.

use super::chain::{Chains, Effort};
use super::sequence::{Block, encode};
use super::{check_distance, lazy};
use crate::{EncodeError, Encoder, Fill};

/// Encodes LZ4 blocks smaller and slower than [`Lz4Encoder`](super::Lz4Encoder)
/// does; they decode as fast.
#[derive(Debug)]
pub struct Lz4HcEncoder {
    chains: Chains,
}

impl Lz4HcEncoder {
    /// The levels, numbered as liblz4 does.
    pub const LEVELS: std::ops::RangeInclusive<i32> = 1..=12;

    /// An encoder of one of [`LEVELS`](Self::LEVELS) whose matches look back at
    /// most `max_distance` bytes.
    ///
    /// # Errors
    /// [`EncodeError::Parameter`] for another level, or a distance of 0.
    pub fn new(level: i32, max_distance: u16) -> Result<Self, EncodeError> {
        check_distance(max_distance)?;
        let (attempts, nice_length, table_log) = match level {
            1 => (1, 32, 14),
            2 => (2, 32, 15),
            3 => (4, 32, 15),
            4 => (8, 32, 15),
            5 => (16, 64, 16),
            6 => (32, 64, 16),
            7 => (64, 64, 16),
            8 => (128, 128, 16),
            9 => (256, 128, 16),
            10 => (512, 256, 16),
            11 => (1024, 512, 16),
            12 => (4096, 4096, 16),
            _ => {
                return Err(EncodeError::Parameter {
                    name: "LZ4HC level",
                    value: level.into(),
                    min: (*Self::LEVELS.start()).into(),
                    max: (*Self::LEVELS.end()).into(),
                });
            }
        };
        Ok(Self {
            chains: Chains::new(
                max_distance,
                Effort {
                    attempts,
                    nice_length,
                    table_log,
                },
            ),
        })
    }
}

impl Encoder for Lz4HcEncoder {
    fn fill(&mut self, input: &[u8], output: &mut [u8]) -> Result<Option<Fill>, EncodeError> {
        Ok(encode(input, output, |block: &mut Block<'_>| {
            self.chains.restart(block.input().len(), block.room());
            lazy::parse(&mut self.chains, block);
        }))
    }

    /// Nothing to forget: no block depends on the one before.
    fn restart(&mut self) {}
}
