//! Plots as SVG, drawn here so that the page needs nothing from anywhere.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
/// Around the plotted area: left, right, top, bottom.
const MARGIN: [f64; 4] = [56.0, 14.0, 12.0, 34.0];

/// Colours of series, from light to dark alternately so that neighbours differ; after the last they
/// begin again.
pub(super) const COLOURS: [&str; 12] = [
    "#4e79a7", "#f28e2b", "#76b7b2", "#e15759", "#59a14f", "#edc948", "#b07aa1", "#9c755f",
    "#ff9da7", "#86bcb6", "#bab0ac", "#d37295",
];

/// The colour of a series.
pub(super) fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// Where values lie on the paper.
struct Frame {
    x_max: f64,
    y_max: f64,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        MARGIN[0] + value / self.x_max.max(1e-9) * (WIDTH - MARGIN[0] - MARGIN[1])
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - MARGIN[3] - value / self.y_max.max(1e-9) * (HEIGHT - MARGIN[2] - MARGIN[3])
    }

    /// Grid lines with their labels.
    fn grid(&self, x_ticks: &[(f64, String)], y_ticks: &[(f64, String)], to: &mut String) {
        let (bottom, right) = (self.y(0.0), self.x(self.x_max));
        for (value, label) in y_ticks {
            let y = self.y(*value);
            let _ = write!(
                to,
                "<line x1='{:.0}' x2='{right:.0}' y1='{y:.1}' y2='{y:.1}' class='grid'/>\
                 <text x='{:.0}' y='{:.1}' text-anchor='end'>{label}</text>",
                MARGIN[0],
                MARGIN[0] - 6.0,
                y + 4.0
            );
        }
        for (value, label) in x_ticks {
            let x = self.x(*value);
            let _ = write!(
                to,
                "<line x1='{x:.1}' x2='{x:.1}' y1='{bottom:.1}' y2='{:.1}' class='axis'/>\
                 <text x='{x:.1}' y='{:.1}' text-anchor='middle'>{label}</text>",
                bottom + 4.0,
                bottom + 18.0
            );
        }
    }
}

impl Frame {
    /// Grid lines of seconds from 0, in hours or days, and of round values.
    fn grid_of_time(&self, to: &mut String) {
        let last = self.x_max;
        let (unit, unit_name) = if last > 2.0 * 86_400.0 { (86_400.0, "d") } else { (3600.0, "h") };
        let x_ticks = ticks(last / unit).into_iter();
        let x_ticks: Vec<_> =
            x_ticks.map(|t| (t * unit, format!("{} {unit_name}", number(t)))).collect();
        let y_ticks: Vec<_> =
            ticks(self.y_max).into_iter().map(|value| (value, number(value))).collect();
        self.grid(&x_ticks, &y_ticks, to);
    }
}

fn open() -> String {
    format!("<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img'>")
}

/// About five round numbers from 0 to a maximum.
fn ticks(max: f64) -> Vec<f64> {
    let rough = (max / 5.0).max(1e-9);
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    let step = steps.iter().map(|step| step * power).find(|step| *step >= rough);
    let step = step.unwrap_or(power * 10.0);
    (0..).map(|count| f64::from(count) * step).take_while(|value| *value <= max * 1.0001).collect()
}

fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Series stacked upon each other. `times`: in seconds, ascending; each series has a value for each
/// of them, which holds until the next. `top`: what all series together can be at most.
pub(super) fn stacked(times: &[f64], series: &[Vec<f64>], top: f64) -> String {
    let last = times.last().copied().unwrap_or(1.0);
    let frame = Frame { x_max: last, y_max: top };
    let mut svg = open();
    frame.grid_of_time(&mut svg);
    let mut below = vec![0.0; times.len()];
    for (index, values) in series.iter().enumerate() {
        let above: Vec<f64> =
            below.iter().zip(values).map(|(below, value)| below + value).collect();
        if values.iter().any(|value| *value > 0.0) {
            let mut path = String::new();
            steps(&frame, times, &above, false, &mut path);
            steps(&frame, times, &below, true, &mut path);
            let _ = write!(svg, "<path d='{path}Z' fill='{}'/>", colour(index));
        }
        below = above;
    }
    svg + "</svg>"
}

/// A line for each series of times in seconds, ascending, and values, each of which holds until the
/// next. `top`: the most a value can be; `None`: the largest there is.
pub(super) fn lines(series: &[Vec<(f64, f64)>], top: Option<f64>) -> String {
    let points = || series.iter().flatten();
    let last = points().map(|(time, _)| *time).fold(1.0, f64::max);
    let top = top.unwrap_or_else(|| points().map(|(_, value)| *value).fold(1.0, f64::max));
    let frame = Frame { x_max: last, y_max: top };
    let mut svg = open();
    frame.grid_of_time(&mut svg);
    for (index, line) in series.iter().enumerate() {
        let (times, values): (Vec<f64>, Vec<f64>) = line.iter().copied().unzip();
        let mut path = String::new();
        steps(&frame, &times, &values, false, &mut path);
        let _ = write!(svg, "<path d='{path}' class='line' stroke='{}'/>", colour(index));
    }
    svg + "</svg>"
}

/// A staircase, forwards from a new start, or backwards on.
fn steps(frame: &Frame, times: &[f64], values: &[f64], back: bool, path: &mut String) {
    let mut points: Vec<(f64, f64)> = Vec::with_capacity(values.len() * 2);
    for (index, (time, value)) in times.iter().zip(values).enumerate() {
        let same = index > 0 && (values[index - 1] - value).abs() < 1e-9;
        if index > 0 && !same {
            points.push((*time, values[index - 1]));
        }
        if !same || index + 1 == values.len() {
            points.push((*time, *value));
        }
    }
    if back {
        points.reverse();
    }
    for (index, (time, value)) in points.iter().enumerate() {
        let command = if index == 0 && !back { 'M' } else { 'L' };
        let _ = write!(path, "{command}{:.1} {:.1}", frame.x(*time), frame.y(*value));
    }
}

/// The times of the logarithmic axis.
const WAITS: [(f64, &str); 8] = [
    (1.0, "1 s"),
    (10.0, "10 s"),
    (60.0, "1 m"),
    (600.0, "10 m"),
    (3600.0, "1 h"),
    (6.0 * 3600.0, "6 h"),
    (86_400.0, "1 d"),
    (10.0 * 86_400.0, "10 d"),
];

/// Parts of `count` gangs that waited no longer than a time, over the logarithm of the time; each
/// line from its sorted waits in seconds.
pub(super) fn waits(lines: &[Vec<f64>], count: usize) -> String {
    let longest = lines.iter().filter_map(|waits| waits.last()).fold(10.0, |a: f64, b| a.max(*b));
    let place = |seconds: f64| seconds.max(1.0).ln();
    let frame = Frame { x_max: place(longest), y_max: 1.0 };
    let mut svg = open();
    let within = WAITS.iter().filter(|(seconds, _)| *seconds <= longest);
    let x_ticks: Vec<_> = within.map(|(s, label)| (place(*s), (*label).to_owned())).collect();
    let y_ticks: Vec<_> = (0..=4).map(|q| (f64::from(q) / 4.0, format!("{} %", q * 25))).collect();
    frame.grid(&x_ticks, &y_ticks, &mut svg);
    for (index, waits) in lines.iter().enumerate() {
        let mut path = String::new();
        let mut shown = (f64::MIN, f64::MIN);
        for (rank, seconds) in waits.iter().enumerate() {
            let point = (frame.x(place(*seconds)), frame.y((rank + 1) as f64 / count as f64));
            let moved = (point.0 - shown.0).abs() + (point.1 - shown.1).abs();
            if moved >= 1.0 || rank + 1 == waits.len() {
                let command = if path.is_empty() { 'M' } else { 'L' };
                let _ = write!(path, "{command}{:.1} {:.1}", point.0, point.1);
                shown = point;
            }
        }
        let _ = write!(svg, "<path d='{path}' class='line' stroke='{}'/>", colour(index));
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(640.0), [0.0, 200.0, 400.0, 600.0]);
        assert_eq!(ticks(1.0), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        for max in [0.001, 3.0, 17.0, 99.0, 12_345.0] {
            assert!((3..=7).contains(&ticks(max).len()), "{max}");
        }
        assert_eq!(["2.5", "10", "0"], [2.5, 10.0, 0.0].map(number).each_ref().map(|t| &**t));
    }

    #[test]
    fn plots_of_nothing_are_plots() {
        assert!(stacked(&[], &[], 0.0).ends_with("</svg>"));
        assert!(waits(&[vec![]], 1).contains("d=''"));
        assert!(lines(&[vec![]], None).contains("d=''"));
    }

    #[test]
    fn a_line_is_a_staircase() {
        let drawn = lines(&[vec![(0.0, 0.0), (10.0, 4.0), (20.0, 4.0)]], Some(4.0));
        let (left, right, top, bottom) = ("56.0", "846.0", "12.0", "266.0");
        let path = format!("M{left} {bottom}L451.0 {bottom}L451.0 {top}L{right} {top}");
        assert!(drawn.contains(&path), "{drawn}");
    }
}
