//! Extended options about fragments, in the spelling of mkfs.erofs: `fragments[=SIZE]`, `all-fragments[=SIZE]`,
//! `fragdedupe=inode|full`, and each with `^` in front.

use crate::values;
use anyhow::bail;
use erofs_mkfs::data::compression::Compression;
use erofs_mkfs::data::fragments::{FragmentDedupe, Packing};

/// What the options given so far say.
#[derive(Debug, Default)]
pub(crate) struct PackingOptions {
    wanted: bool,
    whole_files: bool,
    cluster_size: Option<u64>,
    dedupe: Option<FragmentDedupe>,
}

impl PackingOptions {
    /// Takes an option and returns whether it is one of these.
    pub(crate) fn take(&mut self, option: &str) -> anyhow::Result<bool> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        match (name, value) {
            ("fragments" | "all-fragments", size) => {
                self.wanted = true;
                self.whole_files |= name == "all-fragments";
                if let Some(size) = size {
                    self.cluster_size = Some(
                        values::size(size)
                            .map_err(|error| anyhow::anyhow!("-E {name}: {error}"))?,
                    );
                }
            }
            ("^fragments" | "^all-fragments", None) => {
                self.wanted = false;
                self.whole_files = false;
            }
            ("^fragdedupe", None) => self.dedupe = Some(FragmentDedupe::Off),
            ("fragdedupe", None | Some("full")) => self.dedupe = Some(FragmentDedupe::Full),
            ("fragdedupe", Some("inode")) => self.dedupe = Some(FragmentDedupe::Inode),
            ("fragdedupe", Some(mode)) => bail!("-E fragdedupe={mode}: expected inode or full"),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Refuses to share fragments of which there are none.
    pub(crate) fn check_dedupe(&self) -> anyhow::Result<()> {
        if !self.wanted && self.dedupe.is_some() {
            bail!("-E fragdedupe is about fragments: it needs -E fragments or -E all-fragments");
        }
        Ok(())
    }

    /// Adds what was said to the compression of an image with blocks of `block` bytes.
    pub(crate) fn apply(
        self,
        compression: Option<&mut Compression>,
        block: u64,
    ) -> anyhow::Result<()> {
        if !self.wanted {
            return Ok(());
        }
        let Some(compression) = compression else {
            bail!("-E fragments packs data in order to compress it: it needs -z");
        };
        if let Some(size) = self.cluster_size
            && (size < block.max(4096) || size > 1 << 20 || !size.is_multiple_of(block))
        {
            bail!(
                "-E fragments={size}: a cluster must be a multiple of the block size ({block}), from 4096 bytes to 1 MiB"
            );
        }
        compression.packing = Some(Packing {
            whole_files: self.whole_files,
            max_pcluster: self.cluster_size.map(usize::try_from).transpose()?,
            dedupe: self.dedupe.unwrap_or_default(),
        });
        Ok(())
    }
}
