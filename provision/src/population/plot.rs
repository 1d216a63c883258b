//! A year as a drawing: SVG. Devices beside capacity, utilisation, and what a registration costs as the registry grows.

use std::fmt::Write as _;

use super::{Report, Sample};

const WIDTH: f64 = 900.0;
const PANEL: f64 = 190.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 36.0;
const COLOURS: [&str; 2] = ["#3b6ea5", "#c0392b"];

/// A panel: its title, what its axes are, and lines of points.
struct Panel<'a> {
    title: String,
    across: &'a str,
    lines: Vec<(&'a str, Vec<(f64, f64)>)>,
}

/// The year's three panels.
#[must_use]
pub fn plot(report: &Report) -> String {
    let size = f64::from(report.stamp_devices);
    let line = |y: &dyn Fn(&Sample) -> f64| -> Vec<(f64, f64)> {
        report.samples.iter().map(|sample| (f64::from(sample.day), y(sample))).collect()
    };
    let cost = report.samples.iter().map(|sample| (sample.gateways as f64, sample.registration_us)).collect();
    let panels = [
        Panel {
            title: format!(
                "{} devices on {} stamps of {}",
                report.devices, report.stamps, report.stamp_devices
            ),
            across: "day",
            lines: vec![
                ("devices", line(&|sample| sample.devices as f64)),
                ("capacity", line(&|sample| sample.stamps as f64 * size)),
            ],
        },
        Panel {
            title: format!(
                "promised ÷ capacity; {} stamps lost, {} moves, {} gateways waited, {} caps exceeded",
                report.lost_stamps, report.moves, report.waited, report.caps_exceeded
            ),
            across: "day",
            lines: vec![
                ("all stamps", line(&|sample| sample.utilisation)),
                ("the fullest", line(&|sample| sample.fullest)),
            ],
        },
        Panel {
            title: "a registration in µs, commits included, as the registry grows".to_owned(),
            across: "gateways registered",
            lines: vec![("µs", cost)],
        },
    ];
    let height = PANEL * panels.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, panel) in panels.iter().enumerate() {
        draw(&mut svg, panel, PANEL * number as f64);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, panel: &Panel<'_>, top: f64) {
    let points = || panel.lines.iter().flat_map(|(_, points)| points.iter().copied());
    let right = points().map(|(x, _)| x).fold(1.0, f64::max);
    let most = points().map(|(_, y)| y).fold(f64::MIN_POSITIVE, f64::max) * 1.05;
    let base = top + PANEL - BOTTOM;
    let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * at / right;
    let y = |at: f64| base - (PANEL - TOP - BOTTOM) * at / most;
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>",
        top + 20.0,
        panel.title
    );
    let step = step(most);
    let mut at = 0.0;
    while at <= most {
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {0:.1}H{1:.1}\" stroke=\"#ddd\"/><text x=\"{2:.1}\" y=\"{3:.1}\" text-anchor=\"end\">{at}</text>",
            y(at),
            WIDTH - RIGHT,
            LEFT - 6.0,
            y(at) + 4.0
        );
        // Multiples of a step like 0.2 would show their rounding.
        at = ((at / step).round() + 1.0) * step;
        at = (at * 1e6).round() / 1e6;
    }
    for (number, (name, points)) in panel.lines.iter().enumerate() {
        let colour = COLOURS.get(number).copied().unwrap_or("#444");
        let path: Vec<String> =
            points.iter().map(|(at, value)| format!("{:.1} {:.1}", x(*at), y(*value))).collect();
        let _ = writeln!(
            svg,
            "<path d=\"M{}\" stroke=\"{colour}\" stroke-width=\"1.5\" fill=\"none\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\" text-anchor=\"end\">{name}</text>",
            path.join("L"),
            WIDTH - RIGHT - 80.0 * number as f64,
            top + 20.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{0:.1}\">0</text><text x=\"{1:.1}\" y=\"{0:.1}\" text-anchor=\"end\">{right} {2}</text>",
        base + 18.0,
        WIDTH - RIGHT,
        panel.across
    );
}

/// 1, 2 or 5 times a power of ten, four to ten times in `most`.
fn step(most: f64) -> f64 {
    let power = 10_f64.powf((most / 5.0).log10().floor());
    [5.0, 2.0].into_iter().map(|times| times * power).find(|step| most / step >= 4.0).unwrap_or(power)
}
