//! Results made of named values, written as they are found: for people as indented lines and tables, for scripts as one
//! JSON document. Both come from the same calls, so they cannot say different things.
//!
//! The text is stable: the same values give the same lines, and nothing in it depends on the machine, the time zone or
//! the size of a terminal.

use crate::listing;
use crate::names::Printable;
use erofs_format::inode::Timestamp;
use std::fmt::{self, Write as _};
use std::io::{self, Write};

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    /// Nothing is known or there.
    Nothing,
    /// A count, size or number.
    Number(u64),
    /// A number that may be negative.
    Signed(i64),
    /// A byte position: in text decimal and hexadecimal.
    Position(u64),
    /// A bit pattern of so many digits: in text hexadecimal, in JSON a string like that.
    Bits(u64, usize),
    /// A number with this many decimals.
    Ratio(f64, usize),
    /// Yes or no.
    Flag(bool),
    /// Text of ours.
    Text(String),
    /// Bytes from the image: escaped in text; in JSON text, and under the name with `_hex` behind it when that is not exact.
    Bytes(&'a [u8]),
    /// A point in time: UTC in text, an object in JSON.
    Time(Timestamp),
    /// Several words.
    Words(Vec<String>),
}

impl Value<'_> {
    /// Text.
    pub(crate) fn text(text: impl fmt::Display) -> Self {
        Self::Text(text.to_string())
    }

    /// A number, or nothing.
    pub(crate) fn maybe(number: Option<u64>) -> Self {
        number.map_or(Self::Nothing, Self::Number)
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("-"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Signed(number) => write!(f, "{number}"),
            Self::Position(position) => write!(f, "{position} ({position:#x})"),
            Self::Bits(bits, digits) => write!(f, "{bits:#0width$x}", width = digits + 2),
            Self::Ratio(ratio, decimals) => write!(f, "{ratio:.decimals$}"),
            Self::Flag(flag) => f.write_str(if *flag { "yes" } else { "no" }),
            Self::Text(text) => f.write_str(text),
            Self::Bytes(bytes) => write!(f, "{}", Printable(bytes)),
            Self::Time(time) => write!(f, "{}", listing::Utc(*time)),
            Self::Words(words) if words.is_empty() => f.write_str("none"),
            Self::Words(words) => f.write_str(&words.join(" ")),
        }
    }
}

/// Where values are written to.
pub(crate) struct Sheet<W> {
    out: W,
    json: bool,
    /// For each open object or list: whether it is empty.
    open: Vec<bool>,
    /// Columns of the open table.
    columns: Vec<Column>,
    line: String,
}

/// A column of a table: its name, and its width in text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    name: &'static str,
    width: usize,
    right: bool,
}

/// A column of words.
pub(crate) const fn left(name: &'static str, width: usize) -> Column {
    Column {
        name,
        width,
        right: false,
    }
}

/// A column of numbers.
pub(crate) const fn right(name: &'static str, width: usize) -> Column {
    Column {
        name,
        width,
        right: true,
    }
}

impl<W: Write> Sheet<W> {
    /// Begins a document.
    pub(crate) fn new(mut out: W, json: bool) -> io::Result<Self> {
        if json {
            write!(out, "{{")?;
        }
        Ok(Self {
            out,
            json,
            open: vec![true],
            columns: Vec::new(),
            line: String::new(),
        })
    }

    /// Ends the document.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if self.json {
            writeln!(self.out, "\n}}")?;
        }
        self.out.flush()
    }

    /// A named value.
    pub(crate) fn field(&mut self, name: &str, value: Value<'_>) -> io::Result<()> {
        if !self.json {
            self.indent()?;
            return writeln!(self.out, "{name}: {value}");
        }
        self.json_name(name)?;
        self.json_value(name, &value)
    }

    /// Begins an object with a name. Ended by [`Sheet::end`].
    pub(crate) fn object(&mut self, name: &str) -> io::Result<()> {
        self.begin(name, "{")
    }

    /// Begins a list of objects with a name. Ended by [`Sheet::end_list`].
    pub(crate) fn list(&mut self, name: &str) -> io::Result<()> {
        self.begin(name, "[")
    }

    /// Begins an object of the list that is open, headed by `title` in text. Ended by [`Sheet::end`].
    pub(crate) fn item(&mut self, title: &str) -> io::Result<()> {
        if self.json {
            self.separate()?;
            write!(self.out, "{{")?;
        } else {
            self.indent()?;
            writeln!(self.out, "{title}")?;
        }
        self.open.push(true);
        Ok(())
    }

    /// Begins a table: a list whose objects all have the same names. Ended by [`Sheet::end_list`].
    pub(crate) fn table(&mut self, name: &str, columns: &[Column]) -> io::Result<()> {
        self.begin(name, "[")?;
        self.columns = columns.to_vec();
        if !self.json {
            let heading: Vec<_> = columns
                .iter()
                .map(|column| Value::Text(column.name.to_owned()))
                .collect();
            self.text_row(&heading)?;
        }
        Ok(())
    }

    /// A row of the open table: a value for each column.
    pub(crate) fn row(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        if !self.json {
            return self.text_row(values);
        }
        self.separate()?;
        write!(self.out, "{{")?;
        self.open.push(true);
        let columns = std::mem::take(&mut self.columns);
        for (column, value) in columns.iter().zip(values) {
            let first = self.open.last_mut().is_some_and(std::mem::take);
            if !first {
                write!(self.out, ",")?;
            }
            write!(self.out, "\"{}\":", column.name)?;
            self.json_value(column.name, value)?;
        }
        self.columns = columns;
        self.open.pop();
        write!(self.out, "}}")
    }

    /// A name and a value from the image, in a list: `name=value` in text, an object in JSON.
    pub(crate) fn pair(&mut self, name: &[u8], value: &[u8]) -> io::Result<()> {
        if !self.json {
            self.indent()?;
            return writeln!(self.out, "{}={}", Printable(name), Printable(value));
        }
        self.item("")?;
        self.field("name", Value::Bytes(name))?;
        self.field("value", Value::Bytes(value))?;
        self.end()
    }

    /// Ends an object.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.close("}")
    }

    /// Ends a list or table.
    pub(crate) fn end_list(&mut self) -> io::Result<()> {
        self.columns.clear();
        self.close("]")
    }

    fn begin(&mut self, name: &str, bracket: &str) -> io::Result<()> {
        if self.json {
            self.json_name(name)?;
            write!(self.out, "{bracket}")?;
        } else {
            self.indent()?;
            writeln!(self.out, "{name}:")?;
        }
        self.open.push(true);
        Ok(())
    }

    fn close(&mut self, bracket: &str) -> io::Result<()> {
        let empty = self.open.pop().unwrap_or(true);
        if !self.json {
            return Ok(());
        }
        if !empty {
            self.new_line()?;
        }
        write!(self.out, "{bracket}")
    }

    fn text_row(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        self.indent()?;
        self.line.clear();
        for (column, value) in self.columns.iter().zip(values) {
            if !self.line.is_empty() {
                self.line.push_str("  ");
            }
            let (width, cell) = (column.width, value.to_string());
            // Writing to a string does not fail.
            let _ = if column.right {
                write!(self.line, "{cell:>width$}")
            } else {
                write!(self.line, "{cell:width$}")
            };
        }
        writeln!(self.out, "{}", self.line.trim_end())
    }

    fn indent(&mut self) -> io::Result<()> {
        for _ in 1..self.open.len() {
            write!(self.out, "  ")?;
        }
        Ok(())
    }

    fn new_line(&mut self) -> io::Result<()> {
        writeln!(self.out)?;
        for _ in 0..self.open.len() {
            write!(self.out, "  ")?;
        }
        Ok(())
    }

    fn separate(&mut self) -> io::Result<()> {
        if !self.open.last_mut().is_some_and(std::mem::take) {
            write!(self.out, ",")?;
        }
        self.new_line()
    }

    fn json_name(&mut self, name: &str) -> io::Result<()> {
        self.separate()?;
        write!(self.out, "\"{name}\": ")
    }

    fn json_value(&mut self, name: &str, value: &Value<'_>) -> io::Result<()> {
        let string =
            |out: &mut W, text: &str| serde_json::to_writer(out, text).map_err(io::Error::from);
        match value {
            Value::Nothing => write!(self.out, "null"),
            Value::Number(number) | Value::Position(number) => write!(self.out, "{number}"),
            Value::Signed(number) => write!(self.out, "{number}"),
            Value::Ratio(ratio, _) if !ratio.is_finite() => write!(self.out, "null"),
            Value::Ratio(..) => write!(self.out, "{value}"),
            Value::Flag(flag) => write!(self.out, "{flag}"),
            Value::Text(_) | Value::Bits(..) => string(&mut self.out, &value.to_string()),
            Value::Bytes(bytes) => {
                let (text, hex) = listing::text(bytes);
                string(&mut self.out, &text)?;
                match hex {
                    Some(hex) => write!(self.out, ", \"{name}_hex\": \"{hex}\""),
                    None => Ok(()),
                }
            }
            Value::Time(time) => write!(
                self.out,
                "{{\"seconds\":{},\"nanoseconds\":{}}}",
                time.seconds, time.nanoseconds
            ),
            Value::Words(words) => {
                serde_json::to_writer(&mut self.out, words).map_err(io::Error::from)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: bool) -> String {
        let mut bytes = Vec::new();
        let mut sheet = Sheet::new(&mut bytes, json).unwrap();
        sheet.object("first").unwrap();
        sheet.field("at", Value::Position(4096)).unwrap();
        sheet.field("name", Value::Bytes(b"a\x1b\xff\"")).unwrap();
        sheet.field("bits", Value::Bits(0x10, 8)).unwrap();
        sheet.object("empty").unwrap();
        sheet.end().unwrap();
        sheet.end().unwrap();
        sheet
            .table("rows", &[right("n", 3), left("what", 6)])
            .unwrap();
        sheet.row(&[Value::Number(7), Value::text("x")]).unwrap();
        sheet.row(&[Value::Nothing, Value::Flag(true)]).unwrap();
        sheet.end_list().unwrap();
        sheet.list("items").unwrap();
        sheet.item("item 1").unwrap();
        sheet
            .field(
                "when",
                Value::Time(Timestamp {
                    seconds: -1,
                    nanoseconds: 5,
                }),
            )
            .unwrap();
        sheet.end().unwrap();
        sheet.end_list().unwrap();
        sheet.finish().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_is_plain_lines() {
        assert_eq!(
            written(false),
            "first:\n  at: 4096 (0x1000)\n  name: a\\u{1b}\\xff\"\n  bits: 0x00000010\n  empty:\nrows:\n    n  what\n    \
             7  x\n    -  yes\nitems:\n  item 1\n    when: 1969-12-31 23:59:59.000000005\n"
        );
    }

    #[test]
    fn json_is_json_with_the_same_values() {
        let json: serde_json::Value = serde_json::from_str(&written(true)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "first": {"at": 4096, "name": "a\u{1b}\u{fffd}\"", "name_hex": "611bff22", "bits": "0x00000010", "empty": {}},
                "rows": [{"n": 7, "what": "x"}, {"n": null, "what": true}],
                "items": [{"when": {"seconds": -1, "nanoseconds": 5}}],
            })
        );
    }
}
