//! The encoder that looks harder for matches.

use super::chain::{Chains, Effort};
use super::optimal::Optimal;
use super::pair::Pair;
use super::sequence::{Block, encode};
use super::{check_distance, lazy};
use crate::{EncodeError, Encoder, Fill};

/// Encodes LZ4 blocks smaller and slower than [`Lz4Encoder`](super::Lz4Encoder)
/// does; they decode as fast.
#[derive(Debug)]
pub struct Lz4HcEncoder(Search);

/// How matches are found and chosen.
#[derive(Debug)]
enum Search {
    /// The better of two positions: the two quickest levels.
    Pair(Pair),
    /// The longest nearby, among a chain.
    Lazy(Chains),
    /// By what the whole block costs: the levels from [`OPTIMAL`] on.
    Optimal(Chains, Optimal),
}

/// The first level that weighs what the whole block costs.
const OPTIMAL: i32 = 10;
/// The first level that follows every chain.
const THOROUGH: i32 = 8;

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
        let (attempts, nice_length) = match level {
            1 | 2 => return Ok(Self(Search::Pair(Pair::new(max_distance)))),
            3 => (3, 24),
            4 => (6, 32),
            5 => (16, 128),
            6 => (32, 128),
            7 => (64, 128),
            8 => (64, 128),
            9 => (96, 256),
            10 => (64, 512),
            11 => (256, 1024),
            12 => (1024, 2048),
            _ => {
                return Err(EncodeError::Parameter {
                    name: "LZ4HC level",
                    value: level.into(),
                    min: (*Self::LEVELS.start()).into(),
                    max: (*Self::LEVELS.end()).into(),
                });
            }
        };
        let chains = Chains::new(
            max_distance,
            Effort {
                attempts,
                nice_length,
                thorough: level >= THOROUGH,
            },
        );
        Ok(Self(if level >= OPTIMAL {
            Search::Optimal(chains, Optimal::new(nice_length))
        } else {
            Search::Lazy(chains)
        }))
    }
}

impl Encoder for Lz4HcEncoder {
    fn fill(&mut self, input: &[u8], output: &mut [u8]) -> Result<Option<Fill>, EncodeError> {
        Ok(encode(
            input,
            output,
            |block: &mut Block<'_>| match &mut self.0 {
                Search::Pair(pair) => pair.parse(block),
                Search::Lazy(chains) => {
                    chains.restart(block.input().len(), block.room());
                    lazy::parse(chains, block);
                }
                Search::Optimal(chains, optimal) => {
                    chains.restart(block.input().len(), block.room());
                    optimal.parse(chains, block);
                }
            },
        ))
    }

    /// Nothing to forget: no block depends on the one before.
    fn restart(&mut self) {}
}
