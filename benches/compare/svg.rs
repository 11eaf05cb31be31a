//! Pictures of curves: panels side by side, each with its own scale from zero.

use std::fmt::Write as _;

/// A place on a curve.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
}

/// A curve.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) points: Vec<Point>,
}

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 60.0;
const GAP: f64 = 80.0;

/// Dashed: what would be proportional, through the last point but one.
pub(crate) fn picture(title: &str, unit: &str, panels: &[Panel]) -> String {
    let columns = u32::try_from(panels.len()).map_or(1.0, f64::from);
    let (width, height) = (LEFT + columns * (WIDTH + GAP), TOP + HEIGHT + 50.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    );
    for (at, panel) in (0_u32..).zip(panels) {
        let left = LEFT + f64::from(at) * (WIDTH + GAP);
        draw(&mut out, panel, left, unit);
    }
    out + "</svg>\n"
}

fn draw(out: &mut String, panel: &Panel, left: f64, unit: &str) {
    let most =
        |of: fn(&Point) -> f64| panel.points.iter().map(of).fold(f64::MIN_POSITIVE, f64::max);
    let (far, high) = (most(|point| point.x), round_up(most(|point| point.y)));
    let x = |value: f64| left + value / far * WIDTH;
    let y = |value: f64| TOP + HEIGHT - value / high * HEIGHT;
    let mut line = |text: String| {
        // Writing to a string cannot fail.
        _ = writeln!(out, "{text}");
    };
    line(format!("<text x=\"{left}\" y=\"{}\">{}</text>", TOP - 14.0, panel.title));
    for step in 0..=4 {
        let value = high * f64::from(step) / 4.0;
        let (at, right) = (y(value), left + WIDTH);
        line(format!("<path d=\"M{left:.1} {at:.1}H{right:.1}\" stroke=\"#ddd\"/>"));
        let (before, below) = (left - 6.0, at + 4.0);
        line(format!(
            "<text x=\"{before:.1}\" y=\"{below:.1}\" text-anchor=\"end\">{}</text>",
            short(value)
        ));
    }
    for point in &panel.points {
        let (at, below) = (x(point.x), TOP + HEIGHT + 18.0);
        line(format!(
            "<text x=\"{at:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">{}</text>",
            short(point.x)
        ));
        line(format!(
            "<circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"#1f5fa8\"/>",
            y(point.y)
        ));
    }
    let (middle, bottom) = (left + WIDTH / 2.0, TOP + HEIGHT + 38.0);
    line(format!("<text x=\"{middle:.1}\" y=\"{bottom:.1}\" text-anchor=\"middle\">{unit}</text>"));
    let places: Vec<String> =
        panel.points.iter().map(|point| format!("{:.1} {:.1}", x(point.x), y(point.y))).collect();
    line(format!(
        "<path d=\"M{}\" fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"2\"/>",
        places.join("L")
    ));
    if let [.., before, _] = panel.points[..] {
        // As much more as there is more to do, cut off at the top.
        let slope = before.y / before.x;
        let end = far.min(high / slope);
        let (from, to) = ((x(0.0), y(0.0)), (x(end), y(end * slope)));
        line(format!(
            "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"#999\" stroke-dasharray=\"4 4\"/>",
            from.0, from.1, to.0, to.1
        ));
    }
}

/// The next number that is easy to divide by four.
fn round_up(value: f64) -> f64 {
    let unit = 10_f64.powf(value.log10().floor());
    let factors = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0];
    factors
        .into_iter()
        .map(|factor| factor * unit)
        .find(|rounded| *rounded >= value)
        .unwrap_or(value)
}

fn short(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{} M", value / 1e6),
        _ if value >= 1e4 => format!("{} k", value / 1e3),
        _ if value >= 10.0 => format!("{value:.0}"),
        _ => format!("{}", (value * 1000.0).round() / 1000.0),
    }
}
