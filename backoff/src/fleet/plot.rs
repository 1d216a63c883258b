//! Arrivals per second as a drawing: SVG, one panel per run, logarithmic upwards.

use std::fmt::Write as _;

use super::Report;

const WIDTH: f64 = 900.0;
const PANEL: f64 = 170.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 34.0;
const TOP: f64 = 30.0;

/// All runs below each other, on the same axes: arrivals (bars), what the stamp admits (line), when it is back.
#[must_use]
pub fn plot(reports: &[Report]) -> String {
    let seconds = reports.iter().map(seconds_shown).max().unwrap_or(1).max(1);
    let most = reports.iter().flat_map(|report| report.arrivals.iter().copied()).max().unwrap_or(1).max(10);
    let height = PANEL * reports.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, report) in reports.iter().enumerate() {
        panel(&mut svg, report, PANEL * number as f64, seconds, most);
    }
    svg.push_str("</svg>\n");
    svg
}

/// How many seconds are worth showing: until 99 % are back, but no more than eight times the ideal.
#[must_use]
pub fn seconds_shown(report: &Report) -> usize {
    let (outage, ideal) = (report.fleet.outage.as_secs(), report.fleet.ideal().as_secs().max(60));
    let until = report.recovered_99.map_or(u64::MAX, |time| time.as_secs() + ideal / 4);
    usize::try_from(outage + until.min(ideal * 8)).unwrap_or(usize::MAX)
}

fn panel(svg: &mut String, report: &Report, top: f64, seconds: usize, most: u32) {
    let (base, room) = (top + PANEL - BOTTOM, PANEL - BOTTOM - TOP);
    let scale = f64::from(most).log10().max(1.0);
    let y = |count: f64| base - room * (count.max(1.0).log10() / scale);
    let x = |second: f64| LEFT + (WIDTH - LEFT - 10.0) * second / seconds as f64;
    let title = format!(
        "{}: peak {:.2} × capacity, 99 % back {}, {:.1} attempts per gateway",
        report.behaviour.as_str(),
        report.peak_over_capacity(),
        report
            .recovered_over_ideal()
            .map_or("not within the run".to_owned(), |times| format!("after {times:.2} × the ideal time")),
        report.attempts_per_gateway()
    );
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{title}</text>", top + 18.0);
    let mut decade = 1_u32;
    while decade <= most {
        let at = y(f64::from(decade));
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{decade}/s</text>",
            WIDTH - 10.0,
            LEFT - 6.0,
            at + 4.0
        );
        decade = decade.saturating_mul(10);
    }
    // One bar per point of width: the busiest of its seconds.
    let columns = (WIDTH - LEFT - 10.0) as usize;
    let per_column = seconds.div_ceil(columns).max(1);
    let mut bars = String::new();
    for (column, chunk) in report.arrivals.chunks(per_column).take(seconds.div_ceil(per_column)).enumerate() {
        let busiest = chunk.iter().max().copied().unwrap_or(0);
        if busiest > 0 {
            let from = x((column * per_column) as f64);
            let _ = write!(bars, "M{from:.1} {base:.1}V{:.1}", y(f64::from(busiest)).min(base - 1.0));
        }
    }
    let thick = (x(per_column as f64) - x(0.0)).max(1.0);
    let _ =
        writeln!(svg, "<path d=\"{bars}\" stroke=\"#3b6ea5\" stroke-width=\"{thick:.2}\" fill=\"none\"/>");
    let capacity = y(f64::from(report.fleet.rate));
    let back = x(report.fleet.outage.as_secs_f64());
    let ideal = x(report.fleet.outage.as_secs_f64() + report.fleet.ideal().as_secs_f64());
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {capacity:.1}H{:.1}\" stroke=\"#c0392b\" stroke-width=\"1.5\"/>\
         <path d=\"M{back:.1} {:.1}V{base:.1}\" stroke=\"#2c8a4b\" stroke-width=\"1.5\"/>\
         <path d=\"M{ideal:.1} {:.1}V{base:.1}\" stroke=\"#2c8a4b\" stroke-width=\"1.5\" stroke-dasharray=\"4 3\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">0 s</text><text x=\"{back:.1}\" y=\"{:.1}\" text-anchor=\"middle\">stamp back</text>\
         <text x=\"{ideal:.1}\" y=\"{:.1}\" text-anchor=\"middle\">ideal</text>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{seconds} s</text>",
        WIDTH - 10.0,
        top + TOP,
        top + TOP,
        LEFT,
        base + 16.0,
        base + 16.0,
        base + 16.0,
        WIDTH - 10.0,
        base + 16.0,
    );
}
