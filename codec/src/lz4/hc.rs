//! The encoder that looks harder for matches.

use super::chain::{Chains, Effort};
use super::optimal::Optimal;
use super::sequence::{Block, encode};
use super::{check_distance, lazy};
use crate::{EncodeError, Encoder, Fill};

/// Encodes LZ4 blocks smaller and slower than [`Lz4Encoder`](super::Lz4Encoder)
/// does; they decode as fast.
#[derive(Debug)]
pub struct Lz4HcEncoder {
    chains: Chains,
    /// Chooses from them at the levels from [`OPTIMAL`] on.
    optimal: Option<Optimal>,
}

/// The first level whose matches are chosen by what the whole block costs.
const OPTIMAL: i32 = 8;

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
            5 => (16, 128, 16),
            6 => (32, 128, 16),
            7 => (64, 128, 16),
            8 => (8, 512, 16),
            9 => (24, 512, 16),
            10 => (64, 512, 16),
            11 => (256, 1024, 16),
            12 => (1024, 2048, 16),
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
            optimal: (level >= OPTIMAL).then(|| Optimal::new(nice_length)),
            chains: Chains::new(
                max_distance,
                Effort {
                    attempts,
                    nice_length,
                    thorough: level >= 6,
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
            match &mut self.optimal {
                Some(optimal) => optimal.parse(&mut self.chains, block),
                None => lazy::parse(&mut self.chains, block),
            }
        }))
    }

    /// Nothing to forget: no block depends on the one before.
    fn restart(&mut self) {}
}
