//! Standard output and standard error. `println!` and its like panic when nobody reads or a disk is full, so they are not
//! used.
//!
//! With `--json` what a command says on standard output is one document, also when it could not run.

use serde::Serialize;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether standard output has got anything.
static BEGUN: AtomicBool = AtomicBool::new(false);

/// Prints a line that tells what was done, see [`line`].
macro_rules! say {
    ($($words:tt)*) => { $crate::output::line(format_args!($($words)*)) };
}

/// Prints a line on standard error.
macro_rules! complain {
    ($($words:tt)*) => { $crate::output::complaint(format_args!($($words)*)) };
}

/// Prints a line that tells what was done. That is done, whoever listens: a reader that has gone is no error, and any other
/// error is told on standard error.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    match writeln!(Output::new(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => complain!("erofs: {error}"),
        _ => {}
    }
}

/// Prints a line on standard error. Nobody is left to tell when that fails.
pub(crate) fn complaint(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// What commands with `--json` print when they could not run, unless they printed something before.
#[derive(Debug, Serialize)]
struct JsonError<'e> {
    /// The line on standard error.
    error: &'e str,
}

/// Prints why a command could not run as a JSON document, unless standard output has got one already, or a part of one.
pub(crate) fn json_error(error: &str) {
    if !BEGUN.load(Ordering::Relaxed) {
        // Nobody is left to tell when that fails.
        let _ = crate::report::print_json(&JsonError { error });
    }
}

/// Standard output, which is named by its errors.
#[derive(Debug)]
pub(crate) struct Output(io::Stdout);

impl Output {
    /// Standard output.
    pub(crate) fn new() -> Self {
        Self(io::stdout())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BEGUN.store(true, Ordering::Relaxed);
        self.0.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(named)
    }
}

fn named(error: io::Error) -> io::Error {
    match error.kind() {
        // To be tried again.
        ErrorKind::Interrupted => error,
        kind => io::Error::new(kind, format!("standard output: {error}")),
    }
}
