//! Charts of measurements as SVG.
#![forbid(unsafe_code)]

use plotters::coord::ranged1d::IntoSegmentedCoord as _;
use plotters::prelude::*;

/// Width of every chart in pixels.
const WIDTH: u32 = 900;
/// Height of a chart of points.
const HEIGHT: u32 = 520;
/// Height of a bar with the room around it, and of what is above and below all bars.
const BAR_HEIGHT: u32 = 24;
const FRAME_HEIGHT: u32 = 110;
/// Font of all text; whoever shows the chart has some such.
const FONT: &str = "sans-serif";
const CAPTION: u32 = 20;
const LABEL: u32 = 13;

/// Why there is no chart.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// Nothing to show.
    #[error("a chart of nothing")]
    Empty,
    /// The drawing library failed.
    #[error("cannot draw the chart: {0}")]
    Drawing(String),
}

/// What the axes of a chart say.
#[derive(Debug, Clone, Copy)]
pub struct Axes<'a> {
    /// Above the chart.
    pub title: &'a str,
    /// Below the horizontal axis, with the unit.
    pub x: &'a str,
    /// Beside the vertical axis, with the unit.
    pub y: &'a str,
}

/// A named point.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its name.
    pub name: String,
    /// Place on the horizontal axis.
    pub x: f64,
    /// Place on the vertical axis.
    pub y: f64,
}

/// A bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What it stands for.
    pub name: String,
    /// Its length.
    pub value: f64,
}

/// Named points; both axes begin at 0. Points that are no finite numbers are left out.
///
/// # Errors
/// [`ChartError`].
pub fn scatter(axes: Axes<'_>, points: &[Point]) -> Result<String, ChartError> {
    let points: Vec<_> = points
        .iter()
        .filter(|point| point.x.is_finite() && point.y.is_finite())
        .collect();
    let most =
        |value: fn(&Point) -> f64| points.iter().map(|point| value(point)).fold(0.0, f64::max);
    // Room at the right for names.
    let (width, height) = (most(|point| point.x) * 1.25, most(|point| point.y) * 1.1);
    if points.is_empty() || width <= 0.0 || height <= 0.0 {
        return Err(ChartError::Empty);
    }
    draw(HEIGHT, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(axes.title, (FONT, CAPTION))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..width, 0.0..height)?;
        chart
            .configure_mesh()
            .x_desc(axes.x)
            .y_desc(axes.y)
            .label_style((FONT, LABEL))
            .light_line_style(WHITE)
            .draw()?;
        chart.draw_series(points.iter().map(|point| {
            EmptyElement::at((point.x, point.y))
                + Circle::new((0, 0), 5, BLUE.filled())
                + Text::new(point.name.clone(), (9, -7), (FONT, LABEL))
        }))?;
        Ok(())
    })
}

/// Horizontal bars under each other, in the given order, with their values.
///
/// # Errors
/// [`ChartError`].
pub fn bars(axes: Axes<'_>, bars: &[Bar]) -> Result<String, ChartError> {
    let longest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max) * 1.15;
    if bars.is_empty() || longest <= 0.0 || !longest.is_finite() {
        return Err(ChartError::Empty);
    }
    let rows = u32::try_from(bars.len()).unwrap_or(u32::MAX);
    let height = rows.saturating_mul(BAR_HEIGHT).saturating_add(FRAME_HEIGHT);
    draw(height, |area| {
        let last = bars.len() - 1;
        let mut chart = ChartBuilder::on(area)
            .caption(axes.title, (FONT, CAPTION))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(160)
            .build_cartesian_2d(0.0..longest, (0..last).into_segmented())?;
        // The first bar is on top, where the axis ends.
        let name = |segment: &SegmentValue<usize>| match segment {
            SegmentValue::CenterOf(row) if *row <= last => bars[last - row].name.clone(),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .x_desc(axes.x)
            .y_labels(bars.len())
            .y_label_formatter(&name)
            .label_style((FONT, LABEL))
            .light_line_style(WHITE)
            .draw()?;
        chart.draw_series(bars.iter().rev().enumerate().map(|(row, bar)| {
            let corners = [
                (0.0, SegmentValue::Exact(row)),
                (bar.value, SegmentValue::Exact(row + 1)),
            ];
            let mut rectangle = Rectangle::new(corners, BLUE.mix(0.7).filled());
            rectangle.set_margin(3, 3, 0, 0);
            rectangle
        }))?;
        chart.draw_series(bars.iter().rev().enumerate().map(|(row, bar)| {
            let place = (bar.value, SegmentValue::CenterOf(row));
            EmptyElement::at(place) + Text::new(number(bar.value), (6, -6), (FONT, LABEL))
        }))?;
        Ok(())
    })
}

/// A value with three digits.
fn number(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(
    height: u32,
    draw: impl Fn(&Area<'_>) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<String, ChartError> {
    let failed = |error: Box<dyn std::error::Error>| ChartError::Drawing(error.to_string());
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).map_err(|error| failed(error.into()))?;
        draw(&area).map_err(failed)?;
        area.present().map_err(|error| failed(error.into()))?;
    }
    Ok(svg)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const AXES: Axes<'static> = Axes {
        title: "sizes <of> images",
        x: "MiB",
        y: "MiB/s",
    };

    #[test]
    fn every_point_has_its_name() {
        let point = |name: &str, x, y| Point {
            name: name.into(),
            x,
            y,
        };
        let svg = scatter(
            AXES,
            &[point("lz4 & co", 3.0, 9.0), point("bad", f64::NAN, 1.0)],
        )
        .unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(
            svg.contains("lz4 &amp; co") && !svg.contains("bad"),
            "{svg}"
        );
        assert!(svg.contains("sizes &lt;of&gt; images"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 1);
    }

    #[test]
    fn bars_come_in_their_order_with_their_values() {
        let bar = |name: &str, value| Bar {
            name: name.into(),
            value,
        };
        let svg = bars(AXES, &[bar("first", 2.5), bar("second", 11.7)]).unwrap();
        let place = |text: &str| {
            let at = svg.find(text).unwrap();
            let before = &svg[..at];
            let y = &before[before.rfind(" y=\"").unwrap() + 4..];
            y[..y.find('"').unwrap()].parse::<f64>().unwrap()
        };
        assert!(place("first") < place("second"), "{svg}");
        assert!(place("2.50") < place("11.7"), "{svg}");
    }

    #[test]
    fn nothing_makes_no_chart() {
        assert!(matches!(scatter(AXES, &[]), Err(ChartError::Empty)));
        assert!(matches!(bars(AXES, &[]), Err(ChartError::Empty)));
    }
}
