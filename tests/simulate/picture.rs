//! The report as a picture: a real browser draws it, and what a reader would see is looked at.

use super::browser::Browser;
use super::{FOUR_NODES, write};
use mss_scheduler::simulator::virtual_time::{Inputs, POLICIES, RunOptions, run};
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const PLOTS: &str = include_str!("plots.js");
const COLOURS: &str = include_str!("colours.js");

/// Least contrast of texts and of lines with the paper (WCAG 2.2, 1.4.3 and 1.4.11).
const TEXT_CONTRAST: f64 = 4.5;
const LINE_CONTRAST: f64 = 3.0;
/// Pixels of a colour that are seen, at least.
const SEEN: u64 = 20;
/// Half the width of a line, by which it reaches beyond its path.
const LINE: f64 = 1.5;

#[derive(Clone, Copy, Debug, Deserialize, serde::Serialize)]
struct Rect {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Rect {
    fn overlaps(&self, other: &Self) -> bool {
        let (right, bottom) = (self.x + self.width, self.y + self.height);
        self.x < other.x + other.width
            && other.x < right
            && self.y < other.y + other.height
            && other.y < bottom
    }

    /// Lies within, or beyond it by no more than so much.
    fn is_within(&self, other: &Self, beyond: f64) -> bool {
        self.x >= other.x - beyond
            && self.y >= other.y - beyond
            && self.x + self.width <= other.x + other.width + beyond
            && self.y + self.height <= other.y + other.height + beyond
    }
}

#[derive(Debug, Deserialize)]
struct Mark {
    #[serde(rename = "box")]
    rect: Rect,
    colour: String,
    line: bool,
    contrast: f64,
}

#[derive(Debug, Deserialize)]
struct Text {
    text: String,
    #[serde(rename = "box")]
    rect: Rect,
}

#[derive(Debug, Deserialize)]
struct Plot {
    title: String,
    label: String,
    #[serde(rename = "box")]
    rect: Rect,
    area: Option<Rect>,
    key: Vec<String>,
    marks: Vec<Mark>,
    texts: Vec<Text>,
}

#[derive(Debug, Deserialize)]
struct Words {
    text: String,
    contrast: f64,
}

#[derive(Debug, Deserialize)]
struct Page {
    width: f64,
    view: f64,
    canvas: String,
    plots: Vec<Plot>,
    words: Vec<Words>,
}

impl Plot {
    /// What is wrong with where its marks and texts are.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |what: String| faults.push(format!("{}: {what}", self.title));
        if self.label.is_empty() {
            fault("no label for readers who do not see it".into());
        }
        if self.marks.is_empty() {
            fault("nothing is drawn".into());
        }
        let area = self.area.unwrap_or(self.rect);
        for mark in &self.marks {
            let Rect { width, height, .. } = mark.rect;
            if width <= 0.0 && height <= 0.0 || !mark.line && width * height <= 0.0 {
                fault(format!("an empty mark of {}", mark.colour));
            }
            if !mark.rect.is_within(&area, LINE) {
                fault(format!("a mark of {} lies outside of the plotted area", mark.colour));
            }
            if mark.line && mark.contrast < LINE_CONTRAST {
                fault(format!("a line of {} is hardly seen: {:.2}", mark.colour, mark.contrast));
            }
            if mark.line && !self.key.contains(&mark.colour) {
                fault(format!("{} is not in the key", mark.colour));
            }
        }
        if self.area.is_some() && self.texts.len() < 6 {
            fault(format!("axes without labels: {:?}", self.texts));
        }
        for (place, text) in self.texts.iter().enumerate() {
            if !text.rect.is_within(&self.rect, 0.0) {
                fault(format!("{:?} is cut off", text.text));
            }
            if self.area.is_some_and(|area| area.overlaps(&text.rect)) {
                fault(format!("{:?} lies on the plotted area", text.text));
            }
            let others = self.texts[..place].iter().filter(|other| other.rect.overlaps(&text.rect));
            others.for_each(|other| fault(format!("{:?} on {:?}", text.text, other.text)));
        }
        faults
    }

    /// What is drawn and not seen in its picture.
    fn unseen(&self, browser: &mut Browser) -> Vec<String> {
        let picture = browser.picture(&json!(self.area.unwrap_or(self.rect)));
        let counts = browser.value(&format!("{COLOURS}('{picture}')"));
        let counts: BTreeMap<String, u64> = serde_json::from_value(counts).expect("counts");
        let near = |colour: &str| -> u64 {
            let of = channels(colour);
            let distance = |other: &str| {
                of.iter().zip(channels(other)).map(|(a, b)| a.abs_diff(b)).max().unwrap_or(0)
            };
            let alike = counts.iter().filter(|(other, _)| distance(other) <= 32);
            alike.map(|(_, count)| count).sum()
        };
        let colours: BTreeSet<&str> = self.marks.iter().map(|mark| &*mark.colour).collect();
        let unseen = colours.into_iter().filter(|colour| near(colour) < SEEN);
        unseen.map(|colour| format!("{}: {colour} is not seen", self.title)).collect()
    }
}

/// Red, green and blue of `rgb(1, 2, 3)`.
fn channels(colour: &str) -> Vec<u8> {
    let digits = colour.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    digits.take(3).map(|part| part.parse().expect("up to 255")).collect()
}

/// Opens a page as a reader of such a screen does, and tells what is wrong with it.
fn look(browser: &mut Browser, path: &Path, width: u32, scheme: &str) -> (Page, Vec<String>) {
    let screen = json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
    browser.ask("Emulation.setDeviceMetricsOverride", &screen);
    let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
    browser.ask("Emulation.setEmulatedMedia", &media);
    browser.open(path);
    let page: Page = serde_json::from_value(browser.value(PLOTS)).expect("as plots.js tells");
    let mut faults: Vec<String> = page.plots.iter().flat_map(Plot::faults).collect();
    if page.width > page.view {
        faults.push(format!("the page is {} wide on a screen of {}", page.width, page.view));
    }
    for words in page.words.iter().filter(|words| words.contrast < TEXT_CONTRAST) {
        faults.push(format!("{:?} is hard to read: {:.2}", words.text, words.contrast));
    }
    // what is wider than the screen is scrolled, so not all of it is seen at once
    for plot in page.plots.iter().filter(|plot| plot.rect.x + plot.rect.width <= page.view) {
        faults.extend(plot.unseen(browser));
    }
    faults.extend(browser.complaints());
    (page, faults)
}

const QUEUES: &str = "
apiVersion: mss-scheduler.io/v1alpha1
kind: Queue
metadata: {name: nlp}
spec: {weight: 2, namespaces: [nlp], quota: {nvidia.com/gpu: 16}}
---
apiVersion: mss-scheduler.io/v1alpha1
kind: Queue
metadata: {name: vision}
spec: {weight: 1, namespaces: [vision], quota: {nvidia.com/gpu: 8}}
---
apiVersion: mss-scheduler.io/v1alpha1
kind: Queue
metadata: {name: speech}
spec: {weight: 1, namespaces: [speech], quota: {nvidia.com/gpu: 8}}
";

const WORKLOAD: &str = "
gangs:
- {name: a, queue: nlp, run: 40m, requests: {nvidia.com/gpu: 1}, count: 60, every: 2m}
- {name: b, queue: vision, arrival: 20m, run: 1h, requests: {nvidia.com/gpu: 4}, count: 12}
- {name: c, queue: speech, arrival: 1h, run: 30m, members: 2, requests: {nvidia.com/gpu: 8}}
- {name: d, queue: speech, arrival: 90m, run: 9m, requests: {nvidia.com/gpu: 2}, count: 30}
";

/// The report of all policies on a small world.
fn report(folder: &Path) -> PathBuf {
    let mut inputs = Inputs::from_texts(FOUR_NODES, WORKLOAD, Some(QUEUES)).expect("well-formed");
    inputs.map_at_ms = vec![4_500_000];
    let options = RunOptions { seed: 1, check: false };
    let outcomes: Vec<_> =
        POLICIES.iter().map(|policy| run(&inputs, policy, options, |_| {})).collect();
    write(folder, &inputs, &outcomes, 1).expect("it can be written");
    folder.join("report.html")
}

#[test]
fn every_plot_of_the_report_is_seen_by_day_and_by_night() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = report(folder.path());
    let mut canvases = BTreeSet::new();
    for (width, scheme) in [(1000, "light"), (1000, "dark"), (400, "light"), (1600, "dark")] {
        let (page, faults) = look(&mut browser, &path, width, scheme);
        assert_eq!(faults, [""; 0], "{scheme}, {width} wide");
        let titles: Vec<&str> = page.plots.iter().map(|plot| &*plot.title).collect();
        assert_eq!(titles.len(), 3 + 2 * POLICIES.len(), "{titles:?}");
        let keys = page.plots.iter().map(|plot| plot.key.len());
        assert!(keys.clone().all(|named| named == 3), "three policies, three queues");
        for plot in page.plots.iter().filter(|plot| plot.title.contains("by queue")) {
            let drawn: BTreeSet<&str> = plot.marks.iter().map(|mark| &*mark.colour).collect();
            assert_eq!(drawn, plot.key.iter().map(|colour| &**colour).collect(), "{}", plot.title);
        }
        canvases.insert(page.canvas);
    }
    assert_eq!(canvases.len(), 2, "dark mode is dark: {canvases:?}");
}

/// What is done to a page that is right, and what must be said of it then.
const SPOILED: [(&str, &str, &str); 11] = [
    ("<path d='M", "<path d='' data-was='", "an empty mark"),
    ("text-anchor='end'", "text-anchor='start'", "lies on the plotted area"),
    ("text-anchor='end'>0 %", "text-anchor='end' dy='-56'>0 %", "\"25 %\" on \"0 %\""),
    ("text-anchor='middle'>", "text-anchor='middle' dy='40'>", "is cut off"),
    ("stroke='#0072b2'", "stroke='#dddddd'", "is hardly seen"),
    ("background:#0072b2", "background:#0072b3", "is not in the key"),
    ("--ink: #222;", "--ink: #ccc;", "is hard to read"),
    ("</style>", "path { opacity: 0 }</style>", "is not seen"),
    ("<h2>", "<p><img src='outside.png'><h2>", "asks for"),
    ("<h2>", "<script>console.error('broken')</script><h2>", "logs"),
    ("<h2>", "<script>broken()</script><h2>", "throws"),
];

#[test]
fn a_page_that_is_spoiled_is_found_out() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = report(folder.path());
    let right = std::fs::read_to_string(&path).expect("written");
    let mut spoil = |from: &str, to: &str| {
        assert!(right.contains(from), "there is no {from}");
        std::fs::write(&path, right.replacen(from, to, 1)).expect("writable");
        look(&mut browser, &path, 1000, "light").1
    };
    for (from, to, expected) in SPOILED {
        let faults = spoil(from, to);
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{to}: {faults:?}");
    }
    let wide = spoil("<h2>", "<div style='width: 2000px'>-</div><h2>");
    assert!(wide.iter().any(|fault| fault.contains("wide on a screen of")), "{wide:?}");
}
