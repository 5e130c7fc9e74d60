//! Progress of long work, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Shows a byte counter on standard error until it is dropped, beginning after a second.
#[derive(Debug)]
pub(crate) struct Progress {
    counter: Arc<AtomicU64>,
    shown: Option<(ProgressBar, Arc<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Starts; nothing is shown with `quiet` or when standard error is no terminal.
    pub(crate) fn start(what: &'static str, quiet: bool) -> Self {
        let counter = Arc::new(AtomicU64::new(0));
        if quiet || !std::io::stderr().is_terminal() {
            return Self {
                counter,
                shown: None,
            };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} {msg} {bytes} ({bytes_per_sec}) {elapsed}")
        {
            bar.set_style(style);
        }
        bar.set_message(what);
        let alive = Arc::new(());
        let (watch, bytes, shown) = (Arc::downgrade(&alive), Arc::clone(&counter), bar.clone());
        let ticker = std::thread::spawn(move || {
            let mut ticks = 0u32;
            while watch.upgrade().is_some() {
                std::thread::sleep(Duration::from_millis(100));
                ticks += 1;
                if ticks > 10 {
                    shown.set_position(bytes.load(Ordering::Relaxed));
                }
            }
        });
        Self {
            counter,
            shown: Some((bar, alive, ticker)),
        }
    }

    /// Prints something while nothing is shown.
    pub(crate) fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.shown {
            Some((bar, ..)) => bar.suspend(print),
            None => print(),
        }
    }

    /// The counter to advance.
    pub(crate) const fn counter(&self) -> &Arc<AtomicU64> {
        &self.counter
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((bar, alive, ticker)) = self.shown.take() {
            drop(alive);
            // The ticker only sleeps and draws.
            let _ = ticker.join();
            bar.finish_and_clear();
        }
    }
}
