//! Headers of tars made by hand: for sources too large to keep, and for what no tar program writes.

/// The 512-byte ustar header of a regular file: `name` up to 100 bytes, `size` up to 8 GiB.
pub fn header(name: &str, size: u64) -> [u8; 512] {
    block(name, size, "0", "")
}

/// That of a hard link to `target`, up to 100 bytes.
pub fn hard_link(name: &str, target: &str) -> [u8; 512] {
    block(name, 0, "1", target)
}

/// That of PAX records for the next member, `size` bytes of them.
pub fn pax(size: u64) -> [u8; 512] {
    block("pax", size, "x", "")
}

fn block(name: &str, size: u64, flag: &str, link: &str) -> [u8; 512] {
    assert!(
        name.len() <= 100 && link.len() <= 100 && size < 8 << 30,
        "within ustar"
    );
    let mut block = [0; 512];
    let mut put =
        |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "13000000000");
    put(148, "        "); // The checksum counts itself as spaces.
    put(156, flag);
    put(157, link);
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    /// tar itself reads the header.
    #[test]
    fn tar_lists_it() {
        let mut tar = super::header("a/name", 5).to_vec();
        tar.extend_from_slice(b"bytes");
        tar.resize(2048, 0);
        let mut child = Command::new("tar")
            .args(["-tvf", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(&tar)
            .expect("taken");
        let output = child.wait_with_output().expect("waited");
        assert!(output.status.success(), "{output:?}");
        let listing = String::from_utf8(output.stdout).expect("text");
        assert!(
            listing.starts_with("-rw-r--r-- 0/0")
                && listing.contains(" 5 ")
                && listing.ends_with(" a/name\n"),
            "{listing}"
        );
    }
}
