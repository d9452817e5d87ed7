//! What came out, beside what was published: a table, files, and a plot like figure 9(a).

use super::refusals::{CSV_HEAD, KINDS, Refusals, by_kind, csv_lines, together};
use super::{Curve, FGD, LOOKED_AT, OURS, Outcome, PolicyInfo, Published};
use serde_json::json;
use std::fmt::Write as _;
use std::path::Path;

/// One list under one policy.
#[derive(Clone, Debug)]
pub struct Row {
    /// The list of pods.
    pub list: String,
    /// The policy.
    pub policy: PolicyInfo,
    /// The mean that is published, in percent of all GPUs.
    pub published: Option<f64>,
    /// A curve per seed.
    pub curves: Vec<Curve>,
    /// Who was refused, over all seeds.
    pub refusals: Refusals,
    /// Of our own policy: by how much each seed is above what is published of FGD, in percentage
    /// points, at [`LOOKED_AT`].
    pub margins: Vec<[f64; 2]>,
}

impl Row {
    /// What came out for a list, beside what is published for it.
    #[must_use]
    pub fn new(
        list: &str,
        policy: PolicyInfo,
        seeds: &[u32],
        outcomes: Vec<Outcome>,
        published: &Published,
    ) -> Self {
        let refusals = together(outcomes.iter().map(|outcome| &outcome.refusals));
        let curves: Vec<Curve> = outcomes.into_iter().map(|outcome| outcome.curve).collect();
        let margin = |(seed, curve): (&u32, &Curve)| {
            let known = published.of(list, FGD, *seed)?;
            let [end, full] = LOOKED_AT.map(|percent| curve.get(percent).copied().flatten());
            Some([end? - known[0], full? - known[1]])
        };
        let compared = seeds.iter().zip(&curves).filter(|_| policy.name == OURS);
        let margins = compared.filter_map(margin).collect();
        let published = published.mean(list, policy.published, seeds);
        Self { list: list.to_owned(), policy, published, curves, refusals, margins }
    }

    /// How our own policy stands beside FGD: mean and least margin at each of [`LOOKED_AT`].
    fn beside_fgd(&self) -> Option<[(f64, f64); 2]> {
        let count = self.margins.len() as f64;
        let at = |place: usize| {
            let margins = || self.margins.iter().map(|margin| margin[place]);
            (margins().sum::<f64>() / count, margins().fold(f64::INFINITY, f64::min))
        };
        (!self.margins.is_empty()).then(|| [at(0), at(1)])
    }

    /// The mean over the seeds when all pods have arrived, in percent of all GPUs.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let ends = self.curves.iter().filter_map(|curve| curve.last().copied().flatten());
        ends.sum::<f64>() / self.curves.len().max(1) as f64
    }

    /// How far it is from what is published, in percentage points.
    #[must_use]
    pub fn difference(&self) -> Option<f64> {
        self.published.map(|published| self.mean() - published)
    }

    /// Whether that is within the tolerance; what is not published is not compared.
    #[must_use]
    pub fn is_reproduced(&self) -> bool {
        let most = f64::from(self.policy.tolerance) / 100.0;
        self.difference().is_none_or(|difference| difference.abs() <= most)
    }
}

/// A line per list and policy.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from("list         policy      published  reproduced  difference\n");
    for row in rows {
        let published = row.published.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let difference = row.difference().map_or("-".to_owned(), |value| format!("{value:+.2}"));
        let note = if row.is_reproduced() { "" } else { "  beyond tolerance" };
        let beside = row.beside_fgd().map(|[end, full]| {
            format!(
                "  above published FGD by {:+.2}, least of a seed {:+.2}; at 100 % {:+.2}, {:+.2}",
                end.0, end.1, full.0, full.1
            )
        });
        let note = beside.as_deref().unwrap_or(note);
        let (list, policy, mean) = (&row.list, row.policy.name, row.mean());
        let _ = writeln!(
            text,
            "{list:12} {policy:11} {published:>9} {mean:>11.2} {difference:>11}{note}"
        );
    }
    text
}

fn percent(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.1}"))
}

/// Percent of the pods of each kind that were refused, a line per list and policy.
#[must_use]
pub fn refused_table(rows: &[Row]) -> String {
    let head = KINDS.map(|kind| format!(" {kind:>7}")).concat();
    let mut text = format!("refused, %   policy     {head}\n");
    for row in rows {
        let kinds = by_kind(&row.refusals).map(|kind| format!(" {:>7}", percent(kind.percent())));
        let (list, policy) = (&row.list, row.policy.name);
        let _ = writeln!(text, "{list:12} {policy:11}{}", kinds.concat());
    }
    text
}

/// Writes `fgd.csv`, `refused.csv`, `fgd.json` and `fgd.html` into a folder, which is made if need
/// be.
///
/// # Errors
/// The first file that cannot be written.
pub fn files(folder: &Path, rows: &[Row]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut csv = String::from(
        "list,policy,published,reproduced,difference,above_fgd,least_above_fgd,above_fgd_at_100,\
         least_above_fgd_at_100\n",
    );
    let mut all = Vec::new();
    for row in rows {
        let number = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.4}"));
        let (published, difference) = (number(row.published), number(row.difference()));
        let (list, policy, mean) = (&row.list, row.policy.name, row.mean());
        let beside = row.beside_fgd().map(|[a, b]| [a.0, a.1, b.0, b.1].map(Some));
        let beside = beside.unwrap_or_default().map(number).join(",");
        let _ = writeln!(csv, "{list},{policy},{published},{mean:.4},{difference},{beside}");
        all.push(json!({
            "list": list, "policy": policy, "published": row.published, "reproduced": mean,
            "difference": row.difference(), "above_fgd": row.margins, "curves": row.curves,
        }));
    }
    std::fs::write(folder.join("fgd.csv"), csv)?;
    let lines = rows.iter().map(|row| csv_lines(&row.list, row.policy.name, &row.refusals));
    std::fs::write(folder.join("refused.csv"), CSV_HEAD.to_owned() + &lines.collect::<String>())?;
    std::fs::write(folder.join("fgd.json"), serde_json::Value::from(all).to_string())?;
    std::fs::write(folder.join("fgd.html"), page(rows))
}

const COLOURS: [&str; 7] =
    ["#9c755f", "#f28e2b", "#76b7b2", "#59a14f", "#4e79a7", "#e15759", "#000000"];

/// A plot per list: the median over the seeds and, as a band, the middle half of them.
fn page(rows: &[Row]) -> String {
    let mut lists: Vec<&str> = rows.iter().map(|row| &*row.list).collect();
    lists.dedup();
    let mut html = String::from(
        "<!doctype html><meta charset='utf-8'><title>FGD protocol</title>\
         <style>body{font-family:sans-serif;max-width:900px;margin:auto}text{font-size:11px}\
         </style><h1>Allocated GPUs by arrived demand</h1>",
    );
    for list in lists {
        let _ = write!(html, "<h2>{list}</h2><svg viewBox='0 0 700 330' role='img'>");
        grid(&mut html);
        let of_list = || rows.iter().filter(|row| row.list == list);
        for (place, row) in of_list().enumerate() {
            curves(&mut html, row, place);
        }
        html += "</svg>";
        refused(&mut html, of_list());
    }
    html
}

fn refused<'a>(html: &mut String, rows: impl Iterator<Item = &'a Row>) {
    let head = KINDS.map(|kind| format!("<th>{kind}</th>")).concat();
    let _ = write!(html, "<table><tr><th>Refused, %</th>{head}</tr>");
    for row in rows {
        let kinds =
            by_kind(&row.refusals).map(|kind| format!("<td>{}</td>", percent(kind.percent())));
        let _ = write!(html, "<tr><td>{}</td>{}</tr>", row.policy.name, kinds.concat());
    }
    *html += "</table>";
}

fn x(percent: usize) -> f64 {
    40.0 + percent as f64 * 4.0
}

fn y(percent: f64) -> f64 {
    300.0 - percent * 2.8
}

fn grid(html: &mut String) {
    for percent in (0..=130).step_by(10) {
        let _ = write!(html, "<text x='{:.0}' y='316'>{percent}</text>", x(percent) - 6.0);
    }
    for percent in [0, 20, 40, 60, 80, 100] {
        let at = y(f64::from(percent));
        let _ = write!(
            html,
            "<line x1='40' x2='560' y1='{at:.0}' y2='{at:.0}' stroke='#ddd'/>\
             <text x='10' y='{at:.0}'>{percent}</text>"
        );
    }
}

fn curves(html: &mut String, row: &Row, place: usize) {
    let slots = row.curves.first().map_or(0, Vec::len);
    let (mut middle, mut upper, mut lower) = (String::new(), String::new(), Vec::new());
    for slot in 0..slots {
        let mut values: Vec<f64> = row.curves.iter().filter_map(|curve| curve[slot]).collect();
        values.sort_by(f64::total_cmp);
        let Some(last) = values.len().checked_sub(1) else { continue };
        let part = |quarters: usize| {
            let (at, rest) = (last * quarters / 4, (last * quarters % 4) as f64 / 4.0);
            values[at] + (values[(at + 1).min(last)] - values[at]) * rest
        };
        let at = x(slot);
        let _ = write!(middle, "{at:.1},{:.2} ", y(part(2)));
        let _ = write!(upper, "{at:.1},{:.2} ", y(part(3)));
        lower.push(format!("{at:.1},{:.2} ", y(part(1))));
    }
    lower.reverse();
    let colour = COLOURS[place % COLOURS.len()];
    let (name, below) = (row.policy.name, lower.concat());
    let _ = write!(
        html,
        "<polygon points='{upper}{below}' fill='{colour}' opacity='0.25'/>\
         <polyline points='{middle}' fill='none' stroke='{colour}' stroke-width='1.5'/>\
         <text x='580' y='{}' fill='{colour}'>{name}</text>",
        30 + 18 * place
    );
}
