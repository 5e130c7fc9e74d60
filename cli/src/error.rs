//! How a command ends: its exit code, and errors as one line with all their causes.

use crate::output;
use std::io::ErrorKind;
use std::process::ExitCode;

/// How a command that could run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well: exit code 0.
    Fine,
    /// Something was found to be wrong or different: exit code 1.
    Problems,
}

/// Prints an error, as a JSON document too if asked for, and chooses the exit code: 0 fine, 1 found problems, 2 could not run.
pub(crate) fn exit_code(result: anyhow::Result<Outcome>, json: bool) -> ExitCode {
    match result {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Problems) => ExitCode::from(1),
        // Whoever read our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let error = one_line(&error);
            complain!("erofs: {error}");
            if json {
                output::json_error(&error);
            }
            ExitCode::from(2)
        }
    }
}

/// Whether the reader of our output has seen enough.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == ErrorKind::BrokenPipe)
}

/// A result that was to be printed: that its reader has gone changes nothing about it.
pub(crate) fn printed(result: anyhow::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        result => result,
    }
}

/// The chain of causes, without those that the text before says already.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn causes_are_said_once() {
        let io = std::io::Error::new(ErrorKind::NotFound, "no such file");
        let error = Err::<(), _>(io)
            .context("x: no such file")
            .context("cannot start")
            .unwrap_err();
        assert_eq!(one_line(&error), "cannot start: x: no such file");
    }

    #[test]
    fn readers_may_go() {
        let error = |kind| Err(std::io::Error::from(kind).into());
        assert!(printed(error(ErrorKind::BrokenPipe)).is_ok());
        assert!(printed(error(ErrorKind::StorageFull)).is_err());
    }
}
