//! PAX records: `LENGTH KEY=VALUE\n`, in a member of their own in front of the one they are about.

use super::header::Header;
use super::padding;
use erofs_format::inode::Timestamp;

/// Name of the extension members, which only programs that do not know PAX show.
const NAME: &[u8] = b"././@PaxHeader";

/// The records of one member.
#[derive(Default)]
pub(super) struct Records(Vec<u8>);

impl Records {
    /// Appends a record; its length counts itself.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        let content = key.len() + value.len() + b" =\n".len();
        let mut length = content;
        loop {
            let counted = content + decimal_digits(length);
            if counted == length {
                break;
            }
            length = counted;
        }
        self.0.extend_from_slice(length.to_string().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    pub(super) fn push_number(&mut self, key: &str, value: u64) {
        self.push(key.as_bytes(), value.to_string().as_bytes());
    }

    pub(super) fn push_time(&mut self, key: &str, time: Timestamp) {
        self.push(key.as_bytes(), decimal_time(time).as_bytes());
    }

    /// An extended attribute. `=` ends a keyword, so GNU tar quotes it; Linux allows it in names.
    pub(super) fn push_xattr(&mut self, name: &[u8], value: &[u8]) {
        let mut key = b"SCHILY.xattr.".to_vec();
        for byte in name {
            match byte {
                b'=' => key.extend_from_slice(b"%3D"),
                b'%' => key.extend_from_slice(b"%25"),
                other => key.push(*other),
            }
        }
        self.push(&key, value);
    }

    /// Appends the extension member, if there is something to say.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        if self.0.is_empty() {
            return;
        }
        let mut header = Header::new(b'x');
        header.path(NAME);
        header.mode(0o644);
        // 16 MiB of attributes are the most that an inode can have.
        header.size(self.0.len() as u64);
        out.extend_from_slice(&header.finish());
        out.extend_from_slice(&self.0);
        out.resize(out.len() + padding(self.0.len() as u64), 0);
    }
}

fn decimal_digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Decimal seconds since 1970: the fraction counts away from zero, as it does in any decimal number.
fn decimal_time(time: Timestamp) -> String {
    const SECOND: u32 = 1_000_000_000;
    // Larger values are no time.
    let nanoseconds = time.nanoseconds.min(SECOND - 1);
    let text = match (time.seconds, nanoseconds) {
        (seconds, 0) => return seconds.to_string(),
        (seconds @ 0.., _) => format!("{seconds}.{nanoseconds:09}"),
        (seconds, _) => format!("-{}.{:09}", -(seconds + 1), SECOND - nanoseconds),
    };
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_themselves() {
        for (value, expected) in [
            (&b"v"[..], &b"6 k=v\n"[..]),
            (b"1234", b"9 k=1234\n"),
            // A tenth byte needs a second digit.
            (b"12345", b"11 k=12345\n"),
            (b"\0=\n", b"8 k=\0=\n\n"),
        ] {
            let mut records = Records::default();
            records.push(b"k", value);
            assert_eq!(records.0, expected);
        }
        for length in [90, 93, 94, 95, 96, 990, 993, 994, 995, 9990, 9991, 9992] {
            let mut records = Records::default();
            records.push(b"key", &vec![b'x'; length]);
            let text = String::from_utf8(records.0).unwrap();
            let (count, _) = text.split_once(' ').unwrap();
            assert_eq!(count.parse(), Ok(text.len()));
        }
    }

    #[test]
    fn times_are_exact() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0"),
            (1, 500_000_000, "1.5"),
            (1_700_000_000, 1, "1700000000.000000001"),
            (-1, 0, "-1"),
            (-1, 999_999_999, "-0.000000001"),
            (-5, 7, "-4.999999993"),
            (-2, 500_000_000, "-1.5"),
            (i64::MIN, 1, "-9223372036854775807.999999999"),
            (1, u32::MAX, "1.999999999"),
        ] {
            let time = Timestamp {
                seconds,
                nanoseconds,
            };
            assert_eq!(decimal_time(time), text);
        }
    }

    #[test]
    fn keywords_end_at_the_first_equals_sign() {
        let mut records = Records::default();
        records.push_xattr(b"user.a=b%3D", b"1=2");
        assert_eq!(records.0, b"36 SCHILY.xattr.user.a%3Db%253D=1=2\n");
    }
}
