//! Puts shared extents in the place of data that is there already, in the order of tasks.

use super::task::Content;
use crate::data::compression::Method;
use crate::data::encode::{EncodedSegment, Form, encode_segment};
use crate::data::sharing::{KnownExtents, share};
use erofs_codec::{EncodeError, Encoder};
use erofs_format::{BlockAddr, BlockBits};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What extents are shared with.
pub(super) struct Sharing {
    known: KnownExtents,
    /// For the edges of shared stretches, which are cut anew.
    encoders: HashMap<Method, Box<dyn Encoder>>,
    block_bits: BlockBits,
}

impl Sharing {
    pub(super) fn new(block_bits: BlockBits) -> Self {
        Self {
            known: KnownExtents::default(),
            encoders: HashMap::new(),
            block_bits,
        }
    }

    /// Number of segments so far.
    pub(super) fn segments(&self) -> usize {
        self.known.segments()
    }

    /// Forgets what was taken back: all segments from number `first` on.
    pub(super) fn forget(&mut self, first: usize) {
        self.known.forget(first);
    }

    /// Leaves out of a segment what others hold, and remembers the rest, which goes to block `start`. `is_end` says that
    /// nothing of the file follows.
    pub(super) fn share(
        &mut self,
        segment: &mut EncodedSegment,
        content: &Content,
        method: Method,
        is_end: bool,
        start: BlockAddr,
    ) -> Result<(), EncodeError> {
        let bits = self.block_bits;
        // What is inlined has no place that others could refer to.
        let inlined = segment.take_inlined(bits);
        let is_end = is_end && inlined.is_none();
        let body = segment.extents.iter().map(|extent| extent.length as usize);
        let references = self.known.references(&content.chunks, body.sum(), bits);
        if !references.is_empty() {
            let encoder = match self.encoders.entry(method) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(method.encoder()?),
            };
            let form = Form {
                block_bits: bits,
                max_pcluster: method.max_pcluster,
                max_extent: method.max_extent,
                sample: method.settings.is_worth_sampling(),
                pack_tail: false,
            };
            let encode = |data: &[u8]| encode_segment(&mut **encoder, data, form);
            if let Some(shared) = share(segment, &content.bytes, &references, is_end, bits, encode)?
            {
                *segment = shared;
            }
        }
        self.known
            .remember(&content.chunks, &segment.extents, start, bits);
        if let Some((extent, bytes)) = inlined {
            segment.extents.push(extent);
            segment.inlined = bytes;
        }
        Ok(())
    }
}
