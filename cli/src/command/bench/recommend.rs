//! Which form to take.

use super::measure::Measured;
use serde::Serialize;

/// A balanced form is read at least at this part of the speed of the fastest.
const LEAST_SPEED: f64 = 0.5;
/// A balanced form takes at most this many times as long to build as the fastest.
const MOST_BUILD_TIME: f64 = 10.0;

/// The forms that are best in something, by their options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Choice<'m> {
    /// Small, and neither slow to read nor to build.
    pub(super) balanced: Option<&'m str>,
    /// The smallest image.
    pub(super) smallest: Option<&'m str>,
    /// The one that is read fastest.
    pub(super) fastest: Option<&'m str>,
}

impl<'m> Choice<'m> {
    /// Each choice with its name and its reason.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&'static str, &'m str, String)> {
        let balanced = format!(
            "the smallest of those read at {:.0} % of the fastest's speed or more and built in at most {MOST_BUILD_TIME:.0} times its time",
            LEAST_SPEED * 100.0
        );
        [
            ("recommended", self.balanced, balanced),
            ("smallest", self.smallest, "fewest bytes".to_owned()),
            (
                "fastest",
                self.fastest,
                "most bytes read in a second".to_owned(),
            ),
        ]
        .into_iter()
        .filter_map(|(what, form, reason)| Some((what, form?, reason)))
    }
}

/// Chooses among what was measured.
pub(super) fn choose(measured: &[Measured]) -> Choice<'_> {
    let figures = |form: &Measured| Figures {
        size: form.summary.image_size,
        speed: form.best_speed(),
        build: form.build_seconds,
    };
    let all: Vec<_> = measured.iter().map(figures).collect();
    let of = |index: Option<usize>| Some(measured.get(index?)?.form.as_str());
    Choice {
        balanced: of(balanced(&all)),
        smallest: of(smallest(&all, |_| true)),
        fastest: of((0..all.len()).max_by(|a, b| all[*a].speed.total_cmp(&all[*b].speed))),
    }
}

/// What decides.
#[derive(Debug, Clone, Copy)]
struct Figures {
    size: u64,
    speed: f64,
    build: f64,
}

fn smallest(all: &[Figures], fits: impl Fn(&Figures) -> bool) -> Option<usize> {
    let fitting = (0..all.len()).filter(|index| fits(&all[*index]));
    fitting.min_by_key(|index| all[*index].size)
}

fn balanced(all: &[Figures]) -> Option<usize> {
    let speed = all.iter().map(|form| form.speed).fold(0.0, f64::max);
    let build = all
        .iter()
        .map(|form| form.build)
        .fold(f64::INFINITY, f64::min);
    smallest(all, |form| {
        form.speed >= LEAST_SPEED * speed && form.build <= MOST_BUILD_TIME * build
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_what_is_slow_to_read_nor_what_is_slow_to_build_is_recommended() {
        let form = |size, speed, build| Figures { size, speed, build };
        let all = [
            form(100, 1000.0, 1.0),
            form(50, 600.0, 2.0),
            form(30, 100.0, 4.0),
            form(40, 600.0, 20.0),
        ];
        assert_eq!(balanced(&all), Some(1));
        assert_eq!(smallest(&all, |_| true), Some(2));
        assert_eq!(balanced(&[]), None);
    }
}
