//! Plots as SVG, drawn here so that the page needs nothing from anywhere.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
/// Around the plotted area: left, right, top, bottom; room for the labels of the axes.
const MARGIN: [f64; 4] = [56.0, 24.0, 28.0, 46.0];

/// Colours of series that colour-blind people tell apart (Okabe and Ito, "Color Universal Design",
/// 2008, but for yellow, which is pale on paper), and more for many queues. The first four differ
/// from white and from black by 3:1 at least, as lines must (WCAG 2.2, 1.4.11).
const COLOURS: [&str; 12] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7b4fa3",
    "#a8b820", "#20a5ad", "#b03a5b", "#5b7a4a",
];

/// Colours before they begin again: each twice, the second time lighter.
pub(super) const COLOURS_COUNT: usize = 2 * COLOURS.len();

/// The colour of a series.
pub(super) fn colour(index: usize) -> String {
    let plain = COLOURS[index % COLOURS.len()];
    if index % COLOURS_COUNT < COLOURS.len() {
        return plain.to_owned();
    }
    let part = |at: usize| u32::from_str_radix(&plain[at..at + 2], 16).expect("two hex digits");
    let light = [1, 3, 5].map(|at| u32::midpoint(part(at), 255));
    format!("#{:02x}{:02x}{:02x}", light[0], light[1], light[2])
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

    /// The plotted area, grid lines with their labels, and what the axes are.
    fn grid(&self, ticks: [&[(f64, String)]; 2], titles: [&str; 2], to: &mut String) {
        let (left, top) = (MARGIN[0], MARGIN[2]);
        let (bottom, right) = (HEIGHT - MARGIN[3], WIDTH - MARGIN[1]);
        let _ = write!(
            to,
            "<rect class='area' x='{left}' y='{top}' width='{:.0}' height='{:.0}'/>",
            right - left,
            bottom - top
        );
        for (value, label) in ticks[1] {
            let y = self.y(*value);
            let _ = write!(
                to,
                "<line x1='{left:.0}' x2='{right:.0}' y1='{y:.1}' y2='{y:.1}' class='grid'/>\
                 <text x='{:.0}' y='{:.1}' text-anchor='end'>{label}</text>",
                left - 6.0,
                y + 4.0
            );
        }
        for (value, label) in ticks[0] {
            let x = self.x(*value);
            let _ = write!(
                to,
                "<line x1='{x:.1}' x2='{x:.1}' y1='{bottom:.1}' y2='{:.1}' class='axis'/>\
                 <text x='{x:.1}' y='{:.1}' text-anchor='middle'>{label}</text>",
                bottom + 4.0,
                bottom + 20.0
            );
        }
        let [across, upwards] = titles;
        let _ = write!(
            to,
            "<text x='{:.0}' y='{:.0}' text-anchor='middle'>{across}</text>\
             <text x='4' y='14'>{upwards}</text>",
            (left + right) / 2.0,
            HEIGHT - 8.0
        );
    }

    /// Grid lines of seconds from 0, in minutes, hours or days, and of round values.
    fn grid_of_time(&self, upwards: &str, to: &mut String) {
        let last = self.x_max;
        let (unit, unit_name) = match last {
            s if s > 2.0 * 86_400.0 => (86_400.0, "d"),
            s if s > 2.0 * 3600.0 => (3600.0, "h"),
            _ => (60.0, "m"),
        };
        let x_ticks = ticks(last / unit).into_iter();
        let x_ticks: Vec<_> =
            x_ticks.map(|t| (t * unit, format!("{} {unit_name}", number(t)))).collect();
        let whole = |value: &f64| value.fract() < 1e-9;
        let y_ticks = ticks(self.y_max).into_iter().filter(whole);
        let y_ticks: Vec<_> = y_ticks.map(|value| (value, number(value))).collect();
        self.grid([&x_ticks, &y_ticks], ["time from the start", upwards], to);
    }
}

fn open(about: &str) -> String {
    format!("<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{about}'>")
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

/// Series stacked upon each other, each with its colour. `times`: in seconds, ascending; a series
/// has a value for each of them, which holds until the next. `top`: what all series together can be
/// at most.
pub(super) fn stacked(
    about: &str,
    times: &[f64],
    series: &[(String, Vec<f64>)],
    top: f64,
) -> String {
    let last = times.last().copied().unwrap_or(1.0);
    let frame = Frame { x_max: last, y_max: top };
    let mut svg = open(about);
    frame.grid_of_time("GPUs", &mut svg);
    let mut below = vec![0.0; times.len()];
    for (colour, values) in series {
        let above: Vec<f64> =
            below.iter().zip(values).map(|(below, value)| below + value).collect();
        if values.iter().any(|value| *value > 0.0) {
            let mut path = String::new();
            steps(&frame, times, &above, false, &mut path);
            steps(&frame, times, &below, true, &mut path);
            let _ = write!(svg, "<path d='{path}Z' fill='{colour}'/>");
        }
        below = above;
    }
    svg + "</svg>"
}

/// A line for each series of times in seconds, ascending, and values, each of which holds until the
/// next. `upwards`: what the values are. `top`: the most a value can be; `None`: the largest there
/// is.
pub(super) fn lines(
    about: &str,
    series: &[Vec<(f64, f64)>],
    (upwards, top): (&str, Option<f64>),
) -> String {
    let points = || series.iter().flatten();
    let last = points().map(|(time, _)| *time).fold(1.0, f64::max);
    let top = top.unwrap_or_else(|| points().map(|(_, value)| *value).fold(1.0, f64::max));
    let frame = Frame { x_max: last, y_max: top };
    let mut svg = open(about);
    frame.grid_of_time(upwards, &mut svg);
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
pub(super) fn waits(about: &str, lines: &[Vec<f64>], count: usize) -> String {
    let longest = lines.iter().filter_map(|waits| waits.last()).fold(10.0, |a: f64, b| a.max(*b));
    let place = |seconds: f64| seconds.max(1.0).ln();
    let frame = Frame { x_max: place(longest), y_max: 1.0 };
    let mut svg = open(about);
    let within = WAITS.iter().filter(|(seconds, _)| *seconds <= longest);
    let x_ticks: Vec<_> = within.map(|(s, label)| (place(*s), (*label).to_owned())).collect();
    let y_ticks: Vec<_> = (0..=4).map(|q| (f64::from(q) / 4.0, format!("{} %", q * 25))).collect();
    let titles = ["wait, on a logarithmic scale", "gangs that had started"];
    frame.grid([&x_ticks, &y_ticks], titles, &mut svg);
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
        assert!(stacked("a", &[], &[], 0.0).ends_with("</svg>"));
        assert!(waits("a", &[vec![]], 1).contains("d=''"));
        assert!(lines("a", &[vec![]], ("b", None)).contains("d=''"));
    }

    #[test]
    fn a_line_is_a_staircase() {
        let points = vec![(0.0, 0.0), (10.0, 4.0), (20.0, 4.0)];
        let drawn = lines("a", &[points], ("b", Some(4.0)));
        let (left, right, top, bottom) = ("56.0", "836.0", "28.0", "254.0");
        let path = format!("M{left} {bottom}L446.0 {bottom}L446.0 {top}L{right} {top}");
        assert!(drawn.contains(&path), "{drawn}");
    }
}
