//! How many threads can run at the same time.

use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::thread;

/// Processors that this process may use, as they were when it was asked first: finding out reads half a dozen files of control
/// groups, which takes as long as making a small image.
pub fn processors() -> NonZeroUsize {
    static PROCESSORS: OnceLock<NonZeroUsize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
}
