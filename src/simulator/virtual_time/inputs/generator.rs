//! A workload that is drawn from distributions.

use super::philly::shape_of;
use super::workload::{GangSpec, Shape};
use super::{InputError, Place, parse_yaml};
use crate::model::contract::is_object_name;
use crate::simulator::virtual_time::dice::Dice;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most gangs that are drawn.
const GANGS_MAX: usize = 2_000_000;
/// Largest job, in GPUs.
const GPUS_MAX: u32 = 1 << 16;
/// How far the 90th percentile of a normal distribution lies from its middle, in deviations.
const P90: f64 = 1.281_551_565_544_6;
const HOUR_MS: f64 = 3_600_000.0;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    generator: Generator,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Generator {
    duration: String,
    streams: Vec<Stream>,
}

/// Jobs of one kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Stream {
    name: String,
    queue: Option<String>,
    namespace: Option<String>,
    per_hour: f64,
    /// weights of the hours of a day
    hours: Option<Vec<f64>>,
    run: Run,
    /// weights by GPUs of a job
    gpus: BTreeMap<u32, f64>,
    gpus_per_member: Option<u32>,
    min_part: Option<f64>,
    #[serde(default)]
    priority: i32,
    checkpoint: Option<String>,
}

/// Run times: lognormal by two percentiles, or weights of times.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Run {
    median: Option<String>,
    p90: Option<String>,
    values: Option<BTreeMap<String, f64>>,
}

/// The gangs of all streams. Each stream is drawn by itself, so that one more changes no other.
pub(super) fn gangs(path: &str, text: &str, seed: u64) -> Result<Vec<GangSpec>, InputError> {
    let file: File = parse_yaml(path, text)?;
    let generator = &file.generator;
    let place = Place { path, entry: "generator" };
    let duration_ms = place.time("duration", &generator.duration)?;
    let mut gangs = Vec::new();
    for (index, stream) in generator.streams.iter().enumerate() {
        let entry = format!("generator.streams[{index}] ({})", stream.name);
        let place = Place { path, entry: &entry };
        let twice = generator.streams[..index].iter().any(|other| other.name == stream.name);
        if twice || !is_object_name(&stream.name) {
            let expected = "a name of lower-case letters, digits and '-' that no other stream has";
            return Err(place.wrong("name", &stream.name, expected));
        }
        let purpose = stream.name.bytes().fold(0x5eed_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let dice = Dice::new(seed, purpose);
        stream.draw(place, dice, duration_ms, &mut gangs)?;
    }
    Ok(gangs)
}

impl Stream {
    fn draw(
        &self,
        place: Place<'_>,
        mut dice: Dice,
        duration_ms: i64,
        gangs: &mut Vec<GangSpec>,
    ) -> Result<(), InputError> {
        let like = self.like(place)?;
        let (hours, most) = self.hours(place)?;
        let run = self.run.read(place)?;
        let each = self.gpus_per_member.unwrap_or(8);
        let sizes: Vec<u32> = self.gpus.keys().copied().collect();
        if each == 0 || sizes.iter().any(|size| *size == 0 || *size > GPUS_MAX) {
            return Err(place.wrong("gpus", format!("{sizes:?}"), "sizes from 1 to 65536 GPUs"));
        }
        let weights = weights(place, "gpus", self.gpus.values())?;
        let part = self.min_part.unwrap_or(1.0);
        if !(part > 0.0 && part <= 1.0) {
            return Err(place.wrong("min-part", part, "a number above 0 and at most 1"));
        }
        let mut shapes: BTreeMap<u32, Arc<Shape>> = BTreeMap::new();
        let mut shape = |gpus: u32| shapes.entry(gpus).or_insert_with(|| shape_of(gpus)).clone();
        let mean = HOUR_MS / (self.per_hour * most);
        let mut now = 0.0;
        let mut number = 0;
        loop {
            now += dice.exponential(mean);
            if now >= duration_ms as f64 {
                return Ok(());
            }
            // thinning (Lewis and Shedler, 1979): of the busiest hour's arrivals, the hour's part
            let hour = (now / HOUR_MS) as usize % hours.len();
            if dice.unit() * most >= hours[hour] {
                continue;
            }
            if gangs.len() >= GANGS_MAX {
                let expected = format!("so few that there are at most {GANGS_MAX} gangs in all");
                return Err(place.wrong("per-hour", self.per_hour, expected));
            }
            let gpus = sizes[dice.among(&weights)];
            let members = gpus.div_ceil(each);
            let min_member = ((f64::from(members) * part).ceil() as u32).clamp(1, members);
            gangs.push(GangSpec {
                name: format!("{}-{number}", self.name).into(),
                arrival_ms: now as i64,
                run_ms: run.draw(&mut dice),
                members,
                min_member,
                max_member: members,
                shape: shape(gpus.min(each)),
                last: shape(gpus - (members - 1) * each),
                ..like.clone()
            });
            number += 1;
        }
    }

    /// What all its gangs have in common.
    fn like(&self, place: Place<'_>) -> Result<GangSpec, InputError> {
        let namespace = self.namespace.as_deref().or(self.queue.as_deref()).unwrap_or("default");
        for (field, name) in [("namespace", Some(namespace)), ("queue", self.queue.as_deref())] {
            if let Some(name) = name.filter(|name| !is_object_name(name)) {
                let expected = "a name of lower-case letters, digits, '-' and '.'";
                return Err(place.wrong(field, name, expected));
            }
        }
        let checkpoint = self.checkpoint.as_deref();
        let every = checkpoint.map(|text| place.time("checkpoint", text)).transpose()?;
        Ok(GangSpec {
            namespace: namespace.into(),
            queue: self.queue.as_deref().map(Into::into),
            priority: self.priority,
            checkpoint_ms: every.map(|every| every.max(1)),
            ..GangSpec::default()
        })
    }

    /// For each hour of a day how busy it is, the mean being 1; and the busiest.
    fn hours(&self, place: Place<'_>) -> Result<(Vec<f64>, f64), InputError> {
        if !(self.per_hour > 0.0 && self.per_hour <= 1e6) {
            return Err(place.wrong(
                "per-hour",
                self.per_hour,
                "a number above 0, at most 1000000",
            ));
        }
        let Some(hours) = &self.hours else { return Ok((vec![1.0], 1.0)) };
        if hours.len() != 24 {
            return Err(place.wrong("hours", hours.len(), "24 weights, from midnight"));
        }
        let hours = weights(place, "hours", hours.iter())?;
        let mean = hours.iter().sum::<f64>() / 24.0;
        let hours: Vec<f64> = hours.iter().map(|hour| hour / mean).collect();
        let most = hours.iter().copied().fold(0.0, f64::max);
        Ok((hours, most))
    }
}

fn weights<'a>(
    place: Place<'_>,
    field: &str,
    weights: impl Iterator<Item = &'a f64>,
) -> Result<Vec<f64>, InputError> {
    let weights: Vec<f64> = weights.copied().collect();
    let fine = weights.iter().all(|weight| (0.0..=1e12).contains(weight));
    if fine && weights.iter().any(|weight| *weight > 0.0) {
        return Ok(weights);
    }
    let expected = "weights not below 0, and one of them above";
    Err(place.wrong(field, format!("{weights:?}"), expected))
}

/// A distribution of run times, in milliseconds.
enum Times {
    Lognormal { median: f64, deviation: f64 },
    Values { times: Vec<i64>, weights: Vec<f64> },
}

impl Run {
    fn read(&self, place: Place<'_>) -> Result<Times, InputError> {
        match (&self.median, &self.p90, &self.values) {
            (Some(median), Some(p90), None) => {
                let (low, high) = (place.time("run.median", median)?, place.time("run.p90", p90)?);
                if low < 1 || high < low {
                    return Err(place.wrong("run.p90", p90, "a time not below the median"));
                }
                let median = low as f64;
                Ok(Times::Lognormal { median, deviation: (high as f64 / median).ln() / P90 })
            }
            (None, None, Some(values)) => {
                let times = values.keys().map(|text| place.time("run.values", text));
                let times = times.collect::<Result<_, _>>()?;
                let weights = weights(place, "run.values", values.values())?;
                Ok(Times::Values { times, weights })
            }
            _ => {
                let expected = "either median and p90 of a lognormal distribution, or values with \
                                their weights";
                Err(place.wrong("run", "something else", expected))
            }
        }
    }
}

impl Times {
    fn draw(&self, dice: &mut Dice) -> i64 {
        match self {
            Self::Lognormal { median, deviation } => {
                let drawn = median * (deviation * dice.normal()).exp();
                (drawn.min(super::TIME_MAX_MS as f64) as i64).max(1)
            }
            Self::Values { times, weights } => times[dice.among(weights)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "
generator:
  duration: 100h
  streams:
  - {name: train, queue: nlp, per-hour: 50, run: {median: 20m, p90: 3h}, gpus: {1: 3, 16: 1},
     min-part: 0.5}
  - {name: notebook, per-hour: 20, run: {values: {30m: 1, 1h: 1}}, gpus: {1: 1},
     hours: [0,0,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1,0,0,0,0,0,0]}
";

    #[test]
    fn gangs_follow_the_distributions() {
        let all = gangs("w.yaml", TWO, 1).expect("well-formed");
        let of = |name: &'static str| -> Vec<&GangSpec> {
            all.iter().filter(|gang| gang.name.starts_with(name)).collect()
        };
        let train = of("train");
        assert!((4_800..5_200).contains(&train.len()), "5000 are expected: {}", train.len());
        let large = train.iter().filter(|gang| gang.members == 2).count() as f64;
        assert!((large / train.len() as f64 - 0.25).abs() < 0.03, "{large}");
        assert!(train.iter().all(|gang| gang.min_member == 1 && gang.gpus().whole <= 16));
        let mut runs: Vec<i64> = train.iter().map(|gang| gang.run_ms / 60_000).collect();
        runs.sort_unstable();
        let (median, p90) = (runs[runs.len() / 2], runs[runs.len() * 9 / 10]);
        assert!((18..22).contains(&median) && (155..205).contains(&p90), "{median} {p90}");
        for gang in of("notebook") {
            let hour = gang.arrival_ms / 3_600_000 % 24;
            assert!((9..18).contains(&hour), "nobody works at {hour}");
            assert!([1_800_000, 3_600_000].contains(&gang.run_ms));
        }
        let count = of("notebook").len();
        assert!((1_500..2_600).contains(&count), "20 an hour over whole days: {count}");
        let names = |seed| gangs("w.yaml", TWO, seed).expect("well-formed").len();
        assert_eq!(names(1), names(1));
        assert_ne!(names(1), names(2));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let cases = [
            ("per-hour: 50", "per-hour: 0", "streams[0] (train).per-hour is \"0\""),
            ("p90: 3h", "p90: 3m", "run.p90 is \"3m\": expected a time not below the median"),
            ("{median: 20m, p90: 3h}", "{median: 20m}", "run is"),
            ("{1: 3, 16: 1}", "{1: 0}", "gpus is \"[0.0]\""),
            ("{1: 3, 16: 1}", "{0: 1}", "gpus is \"[0]\""),
            ("min-part: 0.5", "min-part: 2", "min-part is \"2\""),
            ("name: notebook", "name: train", "streams[1] (train).name"),
            ("hours: [0,", "hours: [", "hours is \"23\""),
            ("duration: 100h", "duration: long", "generator.duration is \"long\""),
        ];
        for (from, to, expected) in cases {
            let error = gangs("w.yaml", &TWO.replacen(from, to, 1), 1).expect_err("it is wrong");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
