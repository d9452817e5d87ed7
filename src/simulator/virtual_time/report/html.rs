//! One page that shows a study, without anything from outside.

use super::map;
use super::plot::{colour, lines, stacked, waits};
use super::table::{header, row, time};
use crate::simulator::virtual_time::outcome::seconds;
use crate::simulator::virtual_time::{Inputs, Outcome, POLICIES, Sample};
use std::fmt::Write as _;

const STYLE: &str = "
  body { font: 14px/1.45 system-ui, sans-serif; max-width: 900px; margin: 2em auto; color: #222;
         padding: 0 1em; }
  h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
  table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
  th, td { padding: .25em .7em; text-align: right; border-bottom: 1px solid #ddd;
           white-space: nowrap; }
  th:first-child, td:first-child { text-align: left; }
  svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: #555; }
  .grid { stroke: #e4e4e4; } .axis { stroke: #999; } .line { fill: none; stroke-width: 2; }
  .key span { display: inline-block; margin-right: 1.2em; white-space: nowrap; }
  .key i { display: inline-block; width: .8em; height: .8em; margin-right: .35em; }
  .note { color: #666; }
";

/// The page.
pub(super) fn page(inputs: &Inputs, outcomes: &[Outcome], seed: u64) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang='en'><meta charset='utf-8'>\
         <meta name='viewport' content='width=device-width'>\
         <title>Simulated scheduling</title><style>{STYLE}</style>\n\
         <h1>Simulated scheduling</h1>\n\
         <p>{} gangs in {} queues on {} nodes with {} GPUs; the last arrives after {}; seed {seed}.\n",
        inputs.gangs.len(),
        inputs.tenants.len(),
        inputs.cluster.nodes.len(),
        inputs.gpus(),
        time(seconds(inputs.last_arrival_ms())),
    );
    rows(&mut page, header(), outcomes.iter().map(row));
    page += "<p class='note'>Wait: from arrival until the minimum of the gang runs. JCT: from \
             arrival to end. Until the last end, over the GPUs there are: UTIL, GPUs that do work; \
             GPU ALLOC, GPUs held; FRAGM, free GPUs where a pod of the workload does not fit, in \
             the mean; UNFAIR, how far the queues that wait are from what they deserve.\n<ul>";
    for policy in POLICIES.iter().filter(|p| outcomes.iter().any(|o| o.policy == p.name)) {
        let _ = write!(page, "<li><b>{}</b>: {}", policy.name, policy.about);
    }
    page += "</ul>\n<h2>How long gangs wait</h2>\n\
             <p class='note'>The part of all gangs that had started after a wait.\n";
    key(&mut page, outcomes.iter().map(|outcome| outcome.policy));
    page += &waits_plot(inputs, outcomes);
    page += "\n<h2>Allocation over time</h2>\n<p class='note'>GPUs of bound pods.\n";
    key(&mut page, outcomes.iter().map(|outcome| outcome.policy));
    page += &over_time(outcomes, Some(inputs.gpus() as f64), |sample| sample.held() as f64);
    page += "\n<h2>Queue length over time</h2>\n<p class='note'>Pods that wait.\n";
    key(&mut page, outcomes.iter().map(|outcome| outcome.policy));
    page += &over_time(outcomes, None, |sample| sample.waiting as f64);
    for outcome in outcomes {
        let _ = write!(page, "\n<h2>GPUs by queue over time: {}</h2>\n", outcome.policy);
        key(&mut page, inputs.tenants.iter().map(|name| &**name));
        page += &shares_plot(inputs, outcome);
    }
    for outcome in outcomes {
        for map in &outcome.maps {
            let (policy, at) = (outcome.policy, time(seconds(map.at_ms)));
            let _ = write!(page, "\n<h2>Nodes after {at}: {policy}</h2>\n");
            page += "<p class='note'>A column is a node, a square is a GPU; grey ones are free.\n";
            key(&mut page, inputs.tenants.iter().map(|name| &**name));
            page += &map::drawn(inputs, map);
        }
    }
    page += "\n<h2>By queue</h2>\n";
    queues(&mut page, inputs, outcomes);
    page + "</html>\n"
}

/// The text in a page.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn rows(page: &mut String, header: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    *page += "<table><tr>";
    header.iter().for_each(|title| *page += &format!("<th>{title}"));
    for row in rows {
        *page += "\n<tr>";
        row.iter().for_each(|cell| *page += &format!("<td>{}", escaped(cell)));
    }
    *page += "</table>\n";
}

fn key<'a>(page: &mut String, names: impl Iterator<Item = &'a str>) {
    *page += "<p class='key'>";
    for (index, name) in names.enumerate() {
        let (colour, name) = (colour(index), escaped(name));
        let _ = write!(page, "<span><i style='background:{colour}'></i>{name}</span>");
    }
    page.push('\n');
}

fn waits_plot(inputs: &Inputs, outcomes: &[Outcome]) -> String {
    let line = |outcome: &Outcome| {
        let gangs = outcome.gangs.iter();
        let wait = gangs.filter_map(|gang| {
            Some(seconds(gang.started_ms? - inputs.gangs[gang.gang].arrival_ms))
        });
        let mut waits: Vec<f64> = wait.collect();
        waits.sort_by(f64::total_cmp);
        waits
    };
    let lines: Vec<Vec<f64>> = outcomes.iter().map(line).collect();
    waits(&lines, inputs.gangs.len())
}

/// A figure of all policies over time.
fn over_time(outcomes: &[Outcome], top: Option<f64>, figure: fn(&Sample) -> f64) -> String {
    let line = |outcome: &Outcome| {
        let points = outcome.samples.all();
        points.map(|(at, sample)| (seconds(at), figure(sample))).collect()
    };
    let all: Vec<Vec<(f64, f64)>> = outcomes.iter().map(line).collect();
    lines(&all, top)
}

fn shares_plot(inputs: &Inputs, outcome: &Outcome) -> String {
    let times: Vec<f64> = outcome.samples.iter().map(|(at, _)| seconds(at)).collect();
    let series =
        |queue: usize| outcome.samples.iter().map(|(_, row)| row[queue].allocated as f64).collect();
    let series: Vec<Vec<f64>> = (0..inputs.tenants.len()).map(series).collect();
    stacked(&times, &series, inputs.gpus() as f64)
}

/// Mean and 95th percentile of the wait of each queue, a pair of columns for each policy.
fn queues(page: &mut String, inputs: &Inputs, outcomes: &[Outcome]) {
    let mut titles = vec!["QUEUE".to_owned(), "GANGS".to_owned()];
    for outcome in outcomes {
        let policy = outcome.policy;
        titles.extend([format!("DONE, {policy}"), "MEAN WAIT".into(), "P95".into()]);
    }
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let line = |(place, name): (usize, &str)| {
        let of = |outcome: &Outcome| outcome.summary.queues[place].clone();
        let gangs = outcomes.first().map_or(0, |outcome| of(outcome).gangs);
        let mut cells = vec![name.to_string(), gangs.to_string()];
        for queue in outcomes.iter().map(of) {
            let done = queue.done.to_string();
            cells.extend([done, time(queue.wait_mean_s), time(queue.wait_p95_s)]);
        }
        cells
    };
    rows(page, &titles, inputs.tenants.iter().map(|name| &**name).enumerate().map(line));
}
