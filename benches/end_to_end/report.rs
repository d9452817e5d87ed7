//! A table for people and a file for perf-dash.

use crate::args::{Args, Binder, Scenario};
use crate::scenarios::Sample;
use serde_json::{Value, json};

/// All samples in the order they were taken.
pub(crate) type Samples = Vec<(usize, Scenario, Binder, Sample)>;

struct Column {
    title: &'static str,
    unit: &'static str,
    read: fn(&Sample) -> Option<f64>,
    digits: usize,
}

const fn column(
    title: &'static str,
    unit: &'static str,
    digits: usize,
    read: fn(&Sample) -> Option<f64>,
) -> Column {
    Column { title, unit, read, digits }
}

const COLUMNS: [Column; 12] = [
    column("pods/s", "pods/s", 0, |s| s.pods_per_s),
    column("first bind s", "s", 2, |s| s.first_bind_s),
    column("last bind s", "s", 2, |s| s.last_bind_s),
    column("events", "events", 0, |s| s.events),
    column("events after s", "s", 1, |s| s.events_after_s),
    column("CPU-ms/pod", "ms", 2, |s| s.cpu_ms_per_pod),
    column("server ms/pod", "ms", 2, |s| s.server_ms_per_pod),
    column("peak MB", "MB", 0, |s| s.peak_mb),
    column("evicted", "pods", 0, |s| s.evicted),
    column("rest CPU-s", "s", 2, |s| s.rest_cpu_s),
    column("rest server CPU-s", "s", 2, |s| s.rest_server_cpu_s),
    column("rest writes", "writes", 0, |s| s.rest_writes),
];

/// The columns that say how good a scenario is, and how they compare with the bare loop's.
fn compared(scenario: Scenario) -> Option<fn(&Sample) -> Option<f64>> {
    match scenario {
        Scenario::Fill => Some(|sample| sample.pods_per_s),
        Scenario::Gang | Scenario::Reclaim | Scenario::ReclaimWhole => {
            Some(|sample| sample.last_bind_s)
        }
        Scenario::Rest => None,
    }
}

/// Prints medians over the rounds, the range of the first figure, and the median of the ratios to
/// the bare loop in the same round.
pub(crate) fn print(samples: &Samples, args: &Args) {
    for scenario in &args.scenarios {
        let what = match scenario {
            Scenario::Fill => format!("fill: {} pods of 1 GPU, created before", args.pods),
            Scenario::Gang => format!("gang: one of {}, created before", args.gang),
            Scenario::Rest => {
                format!("rest: {} pods that never fit, {} s", args.rest_pods, args.rest_seconds)
            }
            Scenario::Reclaim => {
                "reclaim: all GPUs held by gangs of 16 that need 4, 32 % wanted by one gang of whole \
                 nodes, CPU per victim"
                    .to_owned()
            }
            Scenario::ReclaimWhole => {
                "reclaim-whole: the same, the gangs need all 16, so the fewest are ended".to_owned()
            }
        };
        println!("\n{what}; {} nodes x 8 GPUs, median of {}", args.nodes, args.rounds);
        let used: Vec<&Column> = COLUMNS
            .iter()
            .filter(|column| values(samples, *scenario, None, column.read).next().is_some())
            .collect();
        print!("{:16}", "");
        used.iter().for_each(|column| print!("{:>18}", column.title));
        match compared(*scenario) {
            Some(_) => println!("{:>18}{:>20}", "x bare loop", "range"),
            None => println!(),
        }
        for binder in args.binders.iter().filter(|binder| scenario.has(**binder)) {
            print!("{:16}", binder.slug());
            for column in &used {
                let median = median(values(samples, *scenario, Some(*binder), column.read));
                match median {
                    Some(median) => print!("{:>18.*}", column.digits, median),
                    None => print!("{:>18}", "-"),
                }
            }
            println!("{}", comparison(samples, *scenario, *binder));
        }
    }
}

fn comparison(samples: &Samples, scenario: Scenario, binder: Binder) -> String {
    let Some(read) = compared(scenario) else { return String::new() };
    let ratios = samples.iter().filter(|(_, s, b, _)| (*s, *b) == (scenario, binder));
    let ratios = ratios.filter_map(|(round, _, _, sample)| {
        let bare =
            samples.iter().find(|(r, s, b, _)| (*r, *s, *b) == (*round, scenario, Binder::Bare))?;
        Some(read(sample)? / read(&bare.3)?)
    });
    let ratio = median(ratios).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    let all: Vec<f64> = values(samples, scenario, Some(binder), read).collect();
    let least = all.iter().copied().fold(f64::INFINITY, f64::min);
    let most = all.iter().copied().fold(0.0, f64::max);
    let digits = if scenario == Scenario::Fill { 0 } else { 2 };
    let range = format!("{least:.digits$} to {most:.digits$}");
    format!("{ratio:>18}{range:>20}")
}

fn values(
    samples: &Samples,
    scenario: Scenario,
    binder: Option<Binder>,
    read: fn(&Sample) -> Option<f64>,
) -> impl Iterator<Item = f64> {
    samples
        .iter()
        .filter(move |(_, s, b, _)| *s == scenario && binder.is_none_or(|binder| *b == binder))
        .filter_map(move |(_, _, _, sample)| read(sample))
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The format of upstream's scheduler_perf.
pub(crate) fn perf_dash(samples: &Samples, args: &Args) -> Value {
    let mut items = Vec::new();
    for scenario in &args.scenarios {
        for binder in &args.binders {
            for column in &COLUMNS {
                let all: Vec<f64> =
                    values(samples, *scenario, Some(*binder), column.read).collect();
                let Some(median) = median(all.iter().copied()) else { continue };
                let average = all.iter().sum::<f64>() / all.len() as f64;
                items.push(json!({
                    "data": {"Average": average, "Perc50": median},
                    "unit": column.unit,
                    "labels": {
                        "Metric": column.title,
                        "Name": format!("{}/{}Nodes", scenario.slug(), args.nodes),
                        "Binder": binder.slug(),
                    },
                }));
            }
        }
    }
    json!({"version": "v1", "dataItems": items})
}
