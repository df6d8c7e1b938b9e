//! One plot as SVG 1.1 (<https://www.w3.org/TR/SVG11/>): the series, a threshold line, the spans in
//! which an alert fired.
//!
//! No background and middle colours, so that it reads on light and dark pages. However many points
//! come in, each column of pixels gets two at most (its least and its greatest), so a picture stays
//! below 30 KB. Values that are no numbers leave gaps.

use std::fmt::Write as _;
use std::time::Duration;

use crate::model::Timestamp;

pub(super) const WIDTH: f64 = 640.0;
pub(super) const HEIGHT: f64 = 200.0;
/// Room for the labels of the axes and the title, in pixels.
pub(super) const LEFT: f64 = 56.0;
pub(super) const TOP: f64 = 28.0;
pub(super) const BOTTOM: f64 = 24.0;
pub(super) const RIGHT: f64 = 8.0;
/// Columns of pixels that get points.
const COLUMNS: usize = 288;
/// Longest title, in characters.
const MAX_TITLE: usize = 80;
/// Most firing spans that are drawn, the newest.
const MAX_SPANS: usize = 50;

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Plot<'a> {
    /// Above the picture.
    pub title: &'a str,
    /// Left edge.
    pub from: Timestamp,
    /// Right edge, after `from`.
    pub to: Timestamp,
    /// The series in time order; points outside the edges are left out.
    pub points: &'a [(Timestamp, f64)],
    /// Points further apart than this are not joined.
    pub gap: Duration,
    /// What the times of the axis add to UTC, in seconds.
    pub utc_offset: i32,
    /// Where the alert begins.
    pub threshold: Option<f64>,
    /// When it fired: begin and end.
    pub firing: &'a [(Timestamp, Timestamp)],
}

/// The picture as a document of its own.
pub fn svg(plot: &Plot<'_>) -> String {
    let columns = thin(plot);
    let scale = Scale::of(plot, &columns);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#808080\">\n<text x=\"{LEFT}\" y=\"16\" font-size=\"13\">{}</text>\n",
        escape(&plot.title.chars().take(MAX_TITLE).collect::<String>())
    );
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for (begin, end) in plot.firing.iter().rev().take(MAX_SPANS) {
        let (x1, x2) = (scale.x(*begin).max(LEFT), scale.x(*end).min(right));
        if x2 > x1 {
            let (width, height) = (x2 - x1, bottom - TOP);
            push(
                &mut out,
                format_args!(
                    "<rect x=\"{x1:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\" fill=\"#d93f3f\" fill-opacity=\".15\"/>\n"
                ),
            );
        }
    }
    for value in scale.ticks() {
        let (y, x) = (scale.y(value), LEFT - 6.0);
        push(
            &mut out,
            format_args!(
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#808080\" stroke-opacity=\".25\"/>\n"
            ),
        );
        push(
            &mut out,
            format_args!(
                "<text x=\"{x}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                y + 4.0,
                short(value)
            ),
        );
    }
    for (share, anchor) in [(0, "start"), (1, "middle"), (2, "end")] {
        let moment = Timestamp(plot.from.0 + (plot.to.0 - plot.from.0) / 2 * share);
        let (x, y) = (LEFT + (right - LEFT) / 2.0 * share as f64, HEIGHT - 8.0);
        push(
            &mut out,
            format_args!(
                "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>\n",
                clock(plot, moment)
            ),
        );
    }
    if let Some(threshold) = plot.threshold.filter(|t| t.is_finite()) {
        let y = scale.y(threshold);
        push(
            &mut out,
            format_args!(
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#d93f3f\" stroke-dasharray=\"6 4\"/>\n"
            ),
        );
    }
    let path = path(plot, &columns, &scale);
    push(
        &mut out,
        format_args!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"#3b82f6\" stroke-width=\"1.5\" stroke-linecap=\"round\" stroke-linejoin=\"round\"/>\n</svg>\n"
        ),
    );
    out
}

/// Of each column of pixels the least and the greatest point, in time order.
pub(super) fn thin(plot: &Plot<'_>) -> Vec<(Timestamp, f64)> {
    let span = (plot.to.0 - plot.from.0).max(1);
    let column =
        |at: Timestamp| ((at.0 - plot.from.0) as i128 * COLUMNS as i128 / span as i128) as usize;
    let inside =
        |(at, value): &&(Timestamp, f64)| (plot.from..=plot.to).contains(at) && value.is_finite();
    let points: Vec<(Timestamp, f64)> = plot.points.iter().filter(inside).copied().collect();
    let mut out = Vec::with_capacity(2 * COLUMNS);
    for group in points.chunk_by(|a, b| column(a.0) == column(b.0)) {
        let least = group.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
        let greatest = group.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
        let mut pair: Vec<(Timestamp, f64)> = least.into_iter().chain(greatest).collect();
        pair.sort_by_key(|(at, _)| *at);
        pair.dedup();
        out.extend(pair);
    }
    out
}

/// From time and value to pixels.
pub(super) struct Scale {
    from: f64,
    span: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Scale {
    pub(super) fn of(plot: &Plot<'_>, points: &[(Timestamp, f64)]) -> Self {
        let values = points
            .iter()
            .map(|(_, value)| *value)
            .chain(plot.threshold.filter(|t| t.is_finite()));
        let (mut low, mut high) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (low.min(v), high.max(v))
            });
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        // A flat line stands in the middle; halves, because a difference of the largest numbers is
        // no number.
        let margin = ((high / 2.0 - low / 2.0) * 0.1)
            .max(high.abs().max(low.abs()) * 1e-6)
            .max(f64::MIN_POSITIVE);
        Scale {
            from: plot.from.seconds(),
            span: (plot.to.seconds() - plot.from.seconds()).max(0.001),
            // Nothing that is never negative is drawn below zero.
            low: if low >= 0.0 {
                (low - margin).max(0.0)
            } else {
                (low - margin).max(f64::MIN)
            },
            high: (high + margin).min(f64::MAX),
        }
    }

    /// Two to five round numbers between the edges: 1, 2 or 5 with zeros, apart by the same.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let plain = || vec![self.low, self.low / 2.0 + self.high / 2.0, self.high];
        let rough = self.high / 3.0 - self.low / 3.0;
        let size = 10f64.powf(rough.log10().floor());
        let step = size
            * match rough / size {
                ..1.5 => 1.0,
                1.5..3.5 => 2.0,
                3.5..7.5 => 5.0,
                _ => 10.0,
            };
        let first = (self.low / step).ceil();
        // Numbers that are too large, small or near to each other for round ones between them.
        if !step.is_normal() || !first.is_finite() || first.abs() > 1e4 {
            return plain();
        }
        let ticks: Vec<f64> = (0..8)
            .map(|index| (first + f64::from(index)) * step)
            .take_while(|tick| *tick <= self.high)
            .collect();
        if ticks.len() < 2 { plain() } else { ticks }
    }

    pub(super) fn x(&self, at: Timestamp) -> f64 {
        LEFT + (at.seconds() - self.from) / self.span * (WIDTH - LEFT - RIGHT)
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        let share = (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0);
        let share = if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.5
        };
        HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
    }
}

fn path(plot: &Plot<'_>, points: &[(Timestamp, f64)], scale: &Scale) -> String {
    let mut out = String::with_capacity(points.len() * 14);
    let mut before: Option<Timestamp> = None;
    for (at, value) in points {
        let joined = before.is_some_and(|b| at.since(b) <= plot.gap);
        let (x, y) = (scale.x(*at), scale.y(*value));
        if joined {
            push(&mut out, format_args!("L{x:.1} {y:.1}"));
        } else {
            // A point on its own is a dot: a line to itself with round ends.
            push(&mut out, format_args!("M{x:.1} {y:.1}h0"));
        }
        before = Some(*at);
    }
    out
}

/// A value in at most seven characters: `1.5k`, `250M`, `0.05`.
pub(super) fn short(value: f64) -> String {
    let magnitude = value.abs();
    let (size, unit) = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
        .into_iter()
        .find(|(s, _)| magnitude >= *s)
        .unwrap_or((1.0, ""));
    if magnitude >= 1e15 || (magnitude < 1e-3 && magnitude > 0.0) {
        return format!("{value:.0e}");
    }
    let scaled = value / size;
    let digits = if scaled.abs() >= 100.0 {
        0
    } else if scaled.abs() >= 1.0 {
        1
    } else {
        3
    };
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{unit}")
}

/// `09:00`, to the second in a short plot, with the day in a long one.
pub(super) fn clock(plot: &Plot<'_>, at: Timestamp) -> String {
    let form = match plot.to.0 - plot.from.0 {
        ..900_000 => "%H:%M:%S",
        900_000..=86_400_000 => "%H:%M",
        _ => "%m-%d %H:%M",
    };
    let local = jiff::Timestamp::from_millisecond(at.0 + i64::from(plot.utc_offset) * 1000);
    local
        .map(|t| t.strftime(form).to_string())
        .unwrap_or_default()
}

fn escape(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn push(out: &mut String, parts: std::fmt::Arguments<'_>) {
    out.write_fmt(parts)
        .expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    fn plot<'a>(points: &'a [(Timestamp, f64)], firing: &'a [(Timestamp, Timestamp)]) -> Plot<'a> {
        Plot {
            title: "disk <\"/data\">",
            from: Timestamp(0),
            to: Timestamp(3_600_000),
            points,
            gap: Duration::from_secs(60),
            utc_offset: 0,
            threshold: Some(90.0),
            firing,
        }
    }

    #[test]
    fn the_axis_has_round_numbers() {
        let ticks = |low: f64, high: f64| {
            let scale = Scale {
                from: 0.0,
                span: 1.0,
                low,
                high,
            };
            scale.ticks().into_iter().map(short).collect::<Vec<_>>()
        };
        assert_eq!(ticks(3.9, 50.1), ["20", "40"]);
        assert_eq!(ticks(0.0, 1.05), ["0", "0.5", "1"]);
        assert_eq!(ticks(0.0, 2.36e10), ["0", "10G", "20G"]);
        assert_eq!(ticks(-7.0, 12.0), ["-5", "0", "5", "10"]);
        // Too near to each other for round numbers between them.
        assert_eq!(ticks(1e9, 1e9 + 10.0).len(), 3);
        for (low, high) in [
            (0.0, f64::MIN_POSITIVE),
            (f64::MIN, f64::MAX),
            (0.0, f64::MAX),
            (1.0, 1.0),
            (99.9, 100.1),
        ] {
            assert!((2..=8).contains(&ticks(low, high).len()), "{low} {high}");
        }
    }

    #[test]
    fn a_gap_breaks_the_line_and_a_lone_point_is_a_dot() {
        let points = [(0, 1.0), (15, 2.0), (30, f64::NAN), (600, 3.0)]
            .map(|(s, v)| (Timestamp(s * 1000), v));
        let picture = svg(&plot(
            &points,
            &[(Timestamp(600_000), Timestamp(9_000_000))],
        ));
        let path = picture
            .split("<path d=\"")
            .nth(1)
            .and_then(|p| p.split('"').next())
            .expect("a path");
        assert_eq!(
            (path.matches('M').count(), path.matches('L').count()),
            (2, 1),
            "{path}"
        );
        assert!(
            picture.contains("disk &lt;\"/data\"&gt;")
                && picture.contains("stroke-dasharray")
                && picture.contains("fill-opacity=\".15\"")
        );
    }

    /// Below 30 KB, however much comes in.
    #[test]
    fn a_picture_of_a_million_points_stays_small() {
        let points: Vec<(Timestamp, f64)> = (0..1_000_000)
            .map(|i| (Timestamp(i * 3), f64::from(i as u32 % 977) * 1e9))
            .collect();
        let picture = svg(&plot(&points, &[(Timestamp(0), Timestamp(1000)); 1000]));
        assert!(
            (2_000..30_000).contains(&picture.len()),
            "{}",
            picture.len()
        );
    }

    #[test]
    fn labels_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (1500.0, "1.5k"),
            (250e6, "250M"),
            (0.05, "0.05"),
            (1e-9, "1e-9"),
            (-12.5, "-12.5"),
            (1e18, "1e18"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    /// The margin around the greatest numbers there are is no number.
    #[test]
    fn the_greatest_numbers_have_a_picture() {
        for value in [-1.7923816935391018e308, f64::MIN, f64::MAX] {
            let points = [(Timestamp(0), value)];
            let picture = svg(&plot(&points, &[]));
            assert!(
                !picture.contains("NaN") && !picture.contains("inf"),
                "{picture}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_value_breaks_the_picture(values in proptest::collection::vec((0i64..4_000_000, any::<f64>()), 0..50), threshold in any::<f64>()) {
            let mut points: Vec<(Timestamp, f64)> = values.into_iter().map(|(at, v)| (Timestamp(at), v)).collect();
            points.sort_by_key(|(at, _)| *at);
            let picture = svg(&Plot { threshold: Some(threshold), ..plot(&points, &[]) });
            prop_assert!(!picture.contains("NaN") && !picture.contains("inf") && picture.ends_with("</svg>\n"));
        }
    }
}
