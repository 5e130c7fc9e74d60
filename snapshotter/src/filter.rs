//! The language in which containerd asks for some of all snapshots: `kind==active,labels."a.b/c"~=^x`.
//!
//! A filter is a list of selectors, separated by commas, all of which must hold. A selector is a path, alone (there is such
//! a field) or compared with a value: `==`, `!=`, `~=` (a regular expression matches somewhere). Parts of a path and values may be
//! quoted, regular expressions also by `/` or `|` (containerd, `pkg/filters`).

use crate::error::Error;
use regex::bytes::{Regex, RegexBuilder};
use std::iter::Peekable;
use std::str::CharIndices;

/// Longest filter, in bytes.
const MAX_LENGTH: usize = 64 << 10;
/// Most memory of a regular expression, in bytes.
const REGEX_SIZE: usize = 1 << 20;

/// Something with fields.
pub(crate) trait Fields {
    /// The value of the field with this path, if there is one.
    fn field(&self, path: &[String]) -> Option<&str>;
}

/// Filters of which one must match; all matches where there are none.
#[derive(Debug, Default)]
pub(crate) struct Filters(Vec<Vec<Selector>>);

#[derive(Debug)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

impl Filters {
    /// Parses each filter of a request.
    ///
    /// # Errors
    /// [`Error::Argument`], with the place.
    pub(crate) fn parse(filters: &[String]) -> Result<Self, Error> {
        filters
            .iter()
            .map(|filter| Parser::new(filter).and_then(|mut parser| parser.filter()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The values that a field has in what matches, if each of them says one.
    pub(crate) fn values(&self, field: &str) -> Option<Vec<&str>> {
        if self.0.is_empty() {
            return None;
        }
        let filters = self.0.iter();
        filters
            .map(|filter| filter.iter().find_map(|selector| selector.value(field)))
            .collect()
    }

    /// Whether one of them matches.
    pub(crate) fn matches(&self, fields: &impl Fields) -> bool {
        let holds = |filter: &Vec<Selector>| filter.iter().all(|selector| selector.holds(fields));
        self.0.is_empty() || self.0.iter().any(holds)
    }
}

impl Selector {
    /// The value that this field must have, if that is what it says.
    fn value(&self, field: &str) -> Option<&str> {
        match (&*self.path, &self.test) {
            ([path], Test::Equal(value)) if path == field => Some(value),
            _ => None,
        }
    }

    fn holds(&self, fields: &impl Fields) -> bool {
        let field = fields.field(&self.path);
        match &self.test {
            Test::Present => field.is_some(),
            Test::Equal(value) => field == Some(value),
            // A field that is not there has another value too.
            Test::NotEqual(value) => field.unwrap_or_default() != value,
            Test::Matches(regex) => field.is_some_and(|field| regex.is_match(field.as_bytes())),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, Error> {
        if text.len() > MAX_LENGTH {
            let length = text.len();
            return Err(Error::Argument(format!(
                "a filter of {length} bytes; at most {MAX_LENGTH} are read"
            )));
        }
        Ok(Self {
            text,
            rest: text.char_indices().peekable(),
        })
    }

    fn failed(&mut self, reason: impl std::fmt::Display) -> Error {
        let at = self.rest.peek().map_or(self.text.len(), |&(at, _)| at);
        Error::Argument(format!("filter {:?}, byte {at}: {reason}", self.text))
    }

    fn filter(&mut self) -> Result<Vec<Selector>, Error> {
        let mut selectors = Vec::new();
        loop {
            self.skip_space();
            selectors.push(self.selector()?);
            self.skip_space();
            match self.rest.next() {
                None => return Ok(selectors),
                Some((_, ',')) => {}
                Some(_) => return Err(self.failed("a comma or the end should be before this")),
            }
        }
    }

    fn skip_space(&mut self) {
        while self.rest.next_if(|(_, c)| c.is_whitespace()).is_some() {}
    }

    fn selector(&mut self) -> Result<Selector, Error> {
        let mut path = vec![self.path_part()?];
        while self.rest.next_if(|&(_, c)| c == '.').is_some() {
            path.push(self.path_part()?);
        }
        self.skip_space();
        let Some((_, operator)) = self.rest.next_if(|(_, c)| "=!~".contains(*c)) else {
            let test = Test::Present;
            return Ok(Selector { path, test });
        };
        if self.rest.next_if(|&(_, c)| c == '=').is_none() {
            return Err(self.failed("operators are ==, != and ~="));
        }
        self.skip_space();
        let test = match operator {
            '=' => Test::Equal(self.value("\"")?),
            '!' => Test::NotEqual(self.value("\"")?),
            _ => {
                let pattern = self.value("\"/|")?;
                // Classes are those of ASCII, as in Go.
                let regex = RegexBuilder::new(&pattern)
                    .unicode(false)
                    .size_limit(REGEX_SIZE)
                    .build();
                Test::Matches(regex.map_err(|error| self.failed(error))?)
            }
        };
        Ok(Selector { path, test })
    }

    fn path_part(&mut self) -> Result<String, Error> {
        if let Some(quoted) = self.quoted("\"")? {
            return Ok(quoted);
        }
        let mut name = String::new();
        while let Some((_, c)) = self
            .rest
            .next_if(|&(_, c)| c.is_alphanumeric() || c == '_' || c == '-')
        {
            name.push(c);
        }
        match name.is_empty() {
            true => Err(self.failed("a field's name should be here")),
            false => Ok(name),
        }
    }

    fn value(&mut self, quotes: &str) -> Result<String, Error> {
        if let Some(quoted) = self.quoted(quotes)? {
            return Ok(quoted);
        }
        let mut value = String::new();
        while let Some((_, c)) = self.rest.next_if(|&(_, c)| c != ',' && !c.is_whitespace()) {
            value.push(c);
        }
        match value.is_empty() {
            true => Err(self.failed("a value should be here")),
            false => Ok(value),
        }
    }

    /// What is between two of the same quotes, in which a backslash takes the meaning from the next character.
    fn quoted(&mut self, quotes: &str) -> Result<Option<String>, Error> {
        let Some((_, quote)) = self.rest.next_if(|&(_, c)| quotes.contains(c)) else {
            return Ok(None);
        };
        let mut value = String::new();
        while let Some((_, c)) = self.rest.next() {
            match c {
                c if c == quote => return Ok(Some(value)),
                '\\' => match self.rest.next() {
                    Some((_, c)) if c == quote => value.push(c),
                    // Within quotes of its own a regular expression keeps its backslashes.
                    Some((_, c)) if quote != '"' => value.extend(['\\', c]),
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, c)) => value.push(c),
                    None => break,
                },
                c => value.push(c),
            }
        }
        Err(self.failed("the quote is not closed"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    struct One;

    impl Fields for One {
        fn field(&self, path: &[String]) -> Option<&str> {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            match path[..] {
                ["kind"] => Some("active"),
                ["name"] => Some("default/1/a,b"),
                ["labels", "containerd.io/snapshot.ref"] => Some("sha256:abc"),
                _ => None,
            }
        }
    }

    fn matches(filters: &[&str]) -> bool {
        let filters: Vec<String> = filters.iter().map(|&filter| filter.to_owned()).collect();
        Filters::parse(&filters).unwrap().matches(&One)
    }

    #[test]
    fn what_containerd_asks_is_understood() {
        assert!(matches(&[]));
        assert!(matches(&["kind==active"]));
        assert!(!matches(&["kind!=active"]));
        assert!(matches(&[
            r#"labels."containerd.io/snapshot.ref"==sha256:abc"#
        ]));
        assert!(matches(&[
            r#"kind == active , labels."containerd.io/snapshot.ref"==sha256:abc,parent!=x"#
        ]));
        assert!(!matches(&["kind==active,parent==x"]));
        assert!(matches(&["kind==view", "kind==active"]));
        assert!(matches(&[r#"name=="default/1/a,b""#]));
        assert!(matches(&["kind"]) && !matches(&["labels.other"]));
        assert!(
            matches(&["kind~=^act"]) && matches(&[r"name~=/\d\/a/"]) && matches(&["name~=|1/a|"])
        );
        assert!(matches(&["parent!=x"]));
    }

    #[test]
    fn what_a_field_must_be_is_told_where_each_filter_says_it() {
        let values = |filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(|&filter| filter.to_owned()).collect();
            let filters = Filters::parse(&filters).unwrap();
            let values = filters.values("parent");
            values.map(|values| values.join(" "))
        };
        assert_eq!(values(&[]), None);
        assert_eq!(values(&["kind==active"]), None);
        assert_eq!(values(&["parent!=a"]), None);
        assert_eq!(values(&["labels.parent==a"]), None);
        assert_eq!(values(&["parent==a", "kind==active"]), None);
        let said = values(&[r#"kind==active,parent=="a""#, "parent==b,parent==c"]);
        assert_eq!(said.as_deref(), Some("a b"));
    }

    #[test]
    fn errors_name_the_place() {
        for (filter, expected) in [
            ("", "byte 0: a field's name"),
            ("kind=active", "byte 5: operators are"),
            ("kind==", "byte 6: a value"),
            ("kind==\"a", "byte 8: the quote"),
            ("kind==a b", "byte 9: a comma"),
            ("kind~=(", "unclosed group"),
            ("kind,", "byte 5: a field's name"),
        ] {
            let error = Filters::parse(&[filter.to_owned()])
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{filter}: {error}");
        }
    }
}
