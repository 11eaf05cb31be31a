//! Pictures of figures by day, as SVG that stands in a page.

use std::fmt::Write;

use super::Day;

/// Width and height, in units of the picture.
const SIZE: (f64, f64) = (900.0, 160.0);
/// Room for what stands beside and below.
const MARGIN: (f64, f64) = (84.0, 22.0);
/// Bars that fit: more days are put together.
const BARS: usize = 120;

/// What stands in a picture: its parts are put on each other.
struct Bar {
    label: String,
    parts: Vec<(f64, &'static str)>,
}

/// Backups by day: those that failed on those that succeeded.
pub(super) fn outcomes(days: &[Day]) -> String {
    let bars = grouped(days).map(|(label, days)| {
        let of = |count: fn(&Day) -> u64| days.iter().map(count).sum::<u64>() as f64;
        Bar { label, parts: vec![(of(|day| day.succeeded), "good"), (of(|day| day.failed), "bad")] }
    });
    picture(&format!("Backups {}", per(days)), &bars.collect::<Vec<_>>(), |value| {
        format!("{value:.0}")
    })
}

/// Bytes that were stored by day.
pub(super) fn stored(days: &[Day]) -> String {
    let bars = grouped(days).map(|(label, days)| Bar {
        label,
        parts: vec![(days.iter().map(|day| day.stored_bytes).sum::<u64>() as f64, "neutral")],
    });
    picture(&format!("Stored {}", per(days)), &bars.collect::<Vec<_>>(), |value| {
        crate::words::size(value as u64)
    })
}

/// What a bar stands for: "by day", or more of them.
pub(super) fn per(days: &[Day]) -> String {
    match together(days) {
        1 => "per day".to_owned(),
        several => format!("per {several} days"),
    }
}

fn together(days: &[Day]) -> usize {
    days.len().div_ceil(BARS).max(1)
}

fn grouped(days: &[Day]) -> impl Iterator<Item = (String, &[Day])> {
    days.chunks(together(days)).map(|days| {
        let first = days[0].date.to_string();
        let label = if days.len() == 1 {
            first
        } else {
            format!("{first} to {}", days[days.len() - 1].date)
        };
        (label, days)
    })
}

fn picture(title: &str, bars: &[Bar], unit: impl Fn(f64) -> String) -> String {
    let (width, height) = (SIZE.0 - MARGIN.0, SIZE.1 - MARGIN.1);
    let most = bars
        .iter()
        .map(|bar| bar.parts.iter().map(|(value, _)| value).sum::<f64>())
        .fold(0.0, f64::max);
    let mut svg = format!(
        "<svg role=\"img\" aria-label=\"{title}\" viewBox=\"0 0 {} {}\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n",
        SIZE.0, SIZE.1
    );
    let step = width / bars.len().max(1) as f64;
    for (at, bar) in bars.iter().enumerate() {
        let (mut top, left) = (height, MARGIN.0 + at as f64 * step);
        for (value, class) in bar.parts.iter().filter(|(value, _)| *value > 0.0) {
            let size = value / most * (height - 8.0);
            top -= size;
            // Writing into text never fails.
            _ = writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" \
                 height=\"{size:.1}\"><title>{}: {}</title></rect>",
                (step * 0.85).max(0.5),
                bar.label,
                unit(*value)
            );
        }
    }
    let (left, base) = (MARGIN.0, height);
    _ = writeln!(
        svg,
        "<line class=\"axis\" x1=\"{left}\" y1=\"{base}\" x2=\"{}\" y2=\"{base}\"/>",
        SIZE.0
    );
    _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"14\" text-anchor=\"end\">{}</text>",
        left - 6.0,
        unit(most)
    );
    _ = writeln!(svg, "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">0</text>", left - 6.0);
    if let (Some(first), Some(last)) = (bars.first(), bars.last()) {
        let end = |label: &str, at: usize| label.split(" to ").nth(at).unwrap_or(label).to_owned();
        _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{}\">{}</text>",
            SIZE.1 - 4.0,
            end(&first.label, 0)
        );
        _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            SIZE.0,
            SIZE.1 - 4.0,
            end(&last.label, 1)
        );
    }
    svg.push_str("</svg>");
    svg
}
