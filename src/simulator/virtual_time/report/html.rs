//! One page that shows a study, without anything from outside.

use super::legend::{Legend, key};
use super::map;
use super::plot::{colour, lines, stacked, waits};
use super::table::{row, time};
use crate::simulator::virtual_time::gpus::gpus;
use crate::simulator::virtual_time::outcome::seconds;
use crate::simulator::virtual_time::{Inputs, Outcome, POLICIES, Sample};
use std::fmt::Write as _;

const STYLE: &str = "
  :root { color-scheme: light dark; --paper: #fff; --ink: #222; --pale: #5a5a5a; --rule: #ddd;
          --free: #e4e4e4; --axis: #888; }
  @media (prefers-color-scheme: dark) {
    :root { --paper: #161616; --ink: #e4e4e4; --pale: #a8a8a8; --rule: #3a3a3a; --free: #363636; }
  }
  body { font: 14px/1.45 system-ui, sans-serif; max-width: 900px; margin: 2em auto;
         padding: 0 1em; color: var(--ink); background: var(--paper); }
  h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
  .wide, figure { overflow-x: auto; margin: 0; }
  table { border-collapse: collapse; font-size: 13px; }
  th, td { padding: .25em .7em; text-align: right; border-bottom: 1px solid var(--rule);
           white-space: nowrap; }
  th:first-child, td:first-child { text-align: left; }
  svg { display: block; width: 100%; min-width: 640px; height: auto; }
  svg text { font: 12px system-ui, sans-serif; fill: var(--pale); }
  .area { fill: none; } .free { fill: var(--free); }
  .grid { stroke: var(--rule); } .axis { stroke: var(--axis); }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
  .key span { display: inline-block; margin-right: 1.2em; overflow-wrap: anywhere; }
  .key i { display: inline-block; width: .8em; height: .8em; margin-right: .35em; }
  .note { color: var(--pale); }
";

/// Titles of the figures of [`row`] after the name of the policy.
const FIGURES: [&str; 20] = [
    "Gangs done",
    "Wait: mean",
    "Wait: median",
    "Wait: 95th percentile",
    "Wait: 99th percentile",
    "JCT: mean",
    "JCT: median",
    "JCT: 95th percentile",
    "JCT: 99th percentile",
    "UTIL",
    "GPU ALLOC",
    "FRAGM",
    "UNFAIR",
    "Pods evicted",
    "Gangs restarted",
    "GPU-hours lost",
    "Nodes lost",
    "Pods lost with them",
    "Makespan",
    "Decisions",
];

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
    figures(&mut page, outcomes);
    page += "<p class='note'>Wait: from arrival until the minimum of the gang runs. JCT: from \
             arrival to end. Until the last end, over the GPUs there are: UTIL, GPUs that do work; \
             GPU ALLOC, GPUs held; FRAGM, free GPUs where a pod of the workload does not fit, in \
             the mean; UNFAIR, how far the queues that wait are from what they deserve.\n<ul>";
    for policy in POLICIES.iter().filter(|p| outcomes.iter().any(|o| o.policy == p.name)) {
        let _ = write!(page, "<li><b>{}</b>: {}", policy.name, policy.about);
    }
    page += "</ul>\n";
    let policies = outcomes.iter().map(|outcome| outcome.policy).enumerate();
    let policies = key(policies.map(|(place, name)| (colour(place), name)));
    let about = "The part of all gangs that had started after a wait";
    figure(&mut page, ("How long gangs wait", about), &policies, &waits_plot(inputs, outcomes));
    let (about, top) = ("GPUs of bound pods", Some(inputs.gpus() as f64));
    let plot = over_time(about, outcomes, ("GPUs", top), |sample| gpus(sample.held_milli()));
    figure(&mut page, ("Allocation over time", about), &policies, &plot);
    let about = "Pods that wait";
    let plot = over_time(about, outcomes, ("pods", None), |sample| sample.waiting as f64);
    figure(&mut page, ("Queue length over time", about), &policies, &plot);
    let legend = Legend::new(inputs, outcomes);
    for outcome in outcomes {
        let title = format!("GPUs by queue over time: {}", outcome.policy);
        let about = "GPUs of bound pods, the queues upon each other";
        let plot = shares_plot(about, inputs, &legend, outcome);
        figure(&mut page, (&title, about), &legend.key(), &plot);
    }
    for outcome in outcomes {
        for map in &outcome.maps {
            let (policy, at) = (outcome.policy, time(seconds(map.at_ms)));
            let title = format!("Nodes after {at}: {policy}");
            let about = "A column is a node, a square is a GPU; grey ones are free";
            let plot = map::drawn(about, inputs, &legend, map);
            figure(&mut page, (&title, about), &legend.key(), &plot);
        }
    }
    page += "\n<h2>By queue</h2>\n";
    queues(&mut page, inputs, outcomes);
    page + "</html>\n"
}

/// The figures of all policies beside each other.
fn figures(page: &mut String, outcomes: &[Outcome]) {
    let columns: Vec<Vec<String>> = outcomes.iter().map(row).collect();
    let titles: Vec<&str> =
        std::iter::once("").chain(outcomes.iter().map(|outcome| outcome.policy)).collect();
    let line = |(place, title): (usize, &&str)| {
        let figures = columns.iter().map(|column| column[place + 1].clone());
        std::iter::once((*title).to_owned()).chain(figures).collect()
    };
    rows(page, &titles, FIGURES.iter().enumerate().map(line));
}

/// A plot with its title, what it shows and its key.
fn figure(page: &mut String, (title, about): (&str, &str), key: &str, plot: &str) {
    let title = escaped(title);
    let _ =
        write!(page, "\n<h2>{title}</h2>\n<p class='note'>{about}.\n{key}<figure>{plot}</figure>");
}

/// The text in a page.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn rows(page: &mut String, header: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    *page += "<div class='wide'><table><tr>";
    header.iter().for_each(|title| *page += &format!("<th>{title}"));
    for row in rows {
        *page += "\n<tr>";
        row.iter().for_each(|cell| *page += &format!("<td>{}", escaped(cell)));
    }
    *page += "</table></div>\n";
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
    waits("How long gangs wait", &lines, inputs.gangs.len())
}

/// A figure of all policies over time.
fn over_time(
    about: &str,
    outcomes: &[Outcome],
    upwards: (&str, Option<f64>),
    figure: fn(&Sample) -> f64,
) -> String {
    let line = |outcome: &Outcome| {
        let points = outcome.samples.all();
        points.map(|(at, sample)| (seconds(at), figure(sample))).collect()
    };
    let all: Vec<Vec<(f64, f64)>> = outcomes.iter().map(line).collect();
    lines(about, &all, upwards)
}

fn shares_plot(about: &str, inputs: &Inputs, legend: &Legend, outcome: &Outcome) -> String {
    let times: Vec<f64> = outcome.samples.iter().map(|(at, _)| seconds(at)).collect();
    let mut series: Vec<(String, Vec<f64>)> =
        (0..legend.len()).map(|place| (legend.colour(place), vec![0.0; times.len()])).collect();
    for (time, (_, shares)) in outcome.samples.iter().enumerate() {
        for (tenant, share) in shares.iter().enumerate() {
            series[legend.place(tenant)].1[time] += gpus(share.allocated_milli);
        }
    }
    stacked(about, &times, &series, inputs.gpus() as f64)
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
