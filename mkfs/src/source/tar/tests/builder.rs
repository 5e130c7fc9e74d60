//! Archives put together byte by byte, so that nothing but the test decides what is in them.

/// A header block under construction.
#[derive(Clone)]
pub(super) struct Header([u8; 512]);

impl Header {
    /// Without magic: mode 0644, ids 7 and 8, time 1000.
    pub(super) fn v7(name: &str, flag: u8, size: u64) -> Self {
        Self([0; 512])
            .with(0, name.as_bytes())
            .with(100, b"0000644\0")
            .with(108, b"0000007\0")
            .with(116, b"0000010\0")
            .with(124, format!("{size:011o}\0").as_bytes())
            .with(136, b"00000001750\0")
            .with(156, &[flag])
    }

    pub(super) fn ustar(name: &str, flag: u8, size: u64) -> Self {
        Self::v7(name, flag, size).with(257, b"ustar\x0000")
    }

    pub(super) fn gnu(name: &str, flag: u8, size: u64) -> Self {
        Self::v7(name, flag, size).with(257, b"ustar  \0")
    }

    pub(super) fn with(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(super) fn link(self, target: &str) -> Self {
        self.with(157, target.as_bytes())
    }

    /// The block with its checksum, of signed bytes when asked for.
    pub(super) fn block(mut self, signed: bool) -> [u8; 512] {
        self.0[148..156].copy_from_slice(b"        ");
        let sum: i64 = self
            .0
            .iter()
            .map(|byte| {
                if signed {
                    i64::from(byte.cast_signed())
                } else {
                    i64::from(*byte)
                }
            })
            .sum();
        self.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

/// An archive under construction.
#[derive(Default, Clone)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    pub(super) fn add(self, header: Header, data: &[u8]) -> Self {
        self.raw(&header.block(false)).raw(data).pad()
    }

    pub(super) fn file(self, name: &str, data: &[u8]) -> Self {
        self.add(Header::ustar(name, b'0', data.len() as u64), data)
    }

    /// A PAX header for the next member (`x`) or all that follow (`g`).
    pub(super) fn pax(self, flag: u8, records: &[(&str, &[u8])]) -> Self {
        let data: Vec<u8> = records
            .iter()
            .flat_map(|(key, value)| record(key, value))
            .collect();
        self.add(
            Header::ustar("PaxHeaders/x", flag, data.len() as u64),
            &data,
        )
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn pad(mut self) -> Self {
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// With the two blocks of zeros.
    pub(super) fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }

    /// As it is.
    pub(super) fn bytes(self) -> Vec<u8> {
        self.0
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let length = (body + 1..).find(|length| body + length.to_string().len() == *length);
    [
        format!("{} {key}=", length.expect("grows")).as_bytes(),
        value,
        b"\n",
    ]
    .concat()
}
