//! What to run, from the command line.

use std::path::PathBuf;

/// Who binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binder {
    /// Watches pods and binds each to the next node without thinking: the limit.
    Bare,
    /// The same, writing upstream's `Scheduled` event after each bind.
    BareEvents,
    /// `mss-scheduler run` on pods without annotations.
    Mss,
    /// `mss-scheduler run` on gangs of 8.
    MssGangs,
    /// Upstream's scheduler of the same release as the API server.
    KubeScheduler,
}

impl Binder {
    pub(crate) const ALL: [Binder; 5] =
        [Binder::Bare, Binder::BareEvents, Binder::Mss, Binder::MssGangs, Binder::KubeScheduler];

    pub(crate) fn slug(self) -> &'static str {
        match self {
            Binder::Bare => "bare",
            Binder::BareEvents => "bare-events",
            Binder::Mss => "mss",
            Binder::MssGangs => "mss-gangs",
            Binder::KubeScheduler => "kube-scheduler",
        }
    }

    /// Whether it binds without asking what fits.
    pub(crate) fn binds_blindly(self) -> bool {
        matches!(self, Binder::Bare | Binder::BareEvents)
    }

    /// Whether an event is expected for each bind.
    pub(crate) fn writes_events(self) -> bool {
        self != Binder::Bare
    }
}

/// Which disruption budgets protect those who give room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Budgets {
    /// None: the API server looks for them all the same.
    None,
    /// One for all gangs.
    Queue,
    /// One for each gang.
    Gang,
}

impl Budgets {
    const ALL: [Budgets; 3] = [Budgets::None, Budgets::Queue, Budgets::Gang];

    pub(crate) fn slug(self) -> &'static str {
        match self {
            Budgets::None => "none",
            Budgets::Queue => "queue",
            Budgets::Gang => "gang",
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Many pods that were created before the binder starts.
    Fill,
    /// One gang, from the start of the binder to its last bind.
    Gang,
    /// Pods that never fit: what they cost when nothing changes.
    Rest,
    /// Room that a queue gives back for a large gang of another: members above the minimum.
    Reclaim,
    /// The same where only whole gangs can go.
    ReclaimWhole,
}

impl Scenario {
    pub(crate) const ALL: [Scenario; 5] =
        [Scenario::Fill, Scenario::Gang, Scenario::Rest, Scenario::Reclaim, Scenario::ReclaimWhole];

    /// Whether the binder does here what no other does: a gang is a gang for both forms of this
    /// scheduler, and without binds there are no events to write.
    pub(crate) fn has(self, binder: Binder) -> bool {
        match self {
            Scenario::Fill => true,
            Scenario::Gang => binder != Binder::Mss,
            Scenario::Rest => binder != Binder::BareEvents,
            Scenario::Reclaim | Scenario::ReclaimWhole => {
                matches!(binder, Binder::Bare | Binder::Mss)
            }
        }
    }

    pub(crate) fn slug(self) -> &'static str {
        match self {
            Scenario::Fill => "fill",
            Scenario::Gang => "gang",
            Scenario::Rest => "rest",
            Scenario::Reclaim => "reclaim",
            Scenario::ReclaimWhole => "reclaim-whole",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) binders: Vec<Binder>,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) nodes: usize,
    pub(crate) pods: usize,
    pub(crate) gang: usize,
    pub(crate) rest_pods: usize,
    pub(crate) rest_seconds: u64,
    pub(crate) rounds: usize,
    pub(crate) budgets: Budgets,
    pub(crate) json: Option<PathBuf>,
}

const USAGE: &str = "\
cargo bench --bench end_to_end -- [OPTIONS]
  --binders LIST      of bare,bare-events,mss,mss-gangs,kube-scheduler (all)
  --scenarios LIST    of fill,gang,rest,reclaim,reclaim-whole (all)
  --nodes N           nodes of 8 GPUs (1000)
  --pods N            pods of 1 GPU that fill binds; a multiple of 8 (5000)
  --gang N            members of the gang (512)
  --rest-pods N       pods that never fit; a multiple of 8 (4000)
  --rest-seconds N    how long rest is measured (40)
  --rounds N          rounds, the binders alternating in each (3)
  --budgets WHICH     reclaim: the disruption budgets, none, queue (one for all) or gang (gang)
  --json FILE         writes the results as perf-dash reads them
  --smoke             50 nodes, 200 pods, one round, short rest";

impl Args {
    /// Reads the arguments that follow the program's name; the error is the text to show.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self {
            binders: Binder::ALL.to_vec(),
            scenarios: Scenario::ALL.to_vec(),
            nodes: 1000,
            pods: 5000,
            gang: 512,
            rest_pods: 4000,
            rest_seconds: 40,
            rounds: 3,
            budgets: Budgets::Gang,
            json: None,
        };
        // cargo adds this one to every bench
        let mut arguments = arguments.filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            if name == "--smoke" {
                args.smoke();
                continue;
            }
            let mut value = || arguments.next().ok_or(format!("{name} lacks its value\n{USAGE}"));
            match name.as_str() {
                "--binders" => args.binders = list(&value()?, &Binder::ALL, |b| b.slug())?,
                "--scenarios" => args.scenarios = list(&value()?, &Scenario::ALL, |s| s.slug())?,
                "--budgets" => args.budgets = list(&value()?, &Budgets::ALL, |b| b.slug())?[0],
                "--nodes" => args.nodes = number(&value()?)?,
                "--pods" => args.pods = number(&value()?)?,
                "--gang" => args.gang = number(&value()?)?,
                "--rest-pods" => args.rest_pods = number(&value()?)?,
                "--rest-seconds" => args.rest_seconds = number(&value()?)? as u64,
                "--rounds" => args.rounds = number(&value()?)?,
                "--json" => args.json = Some(value()?.into()),
                _ => return Err(format!("unknown argument {name}\n{USAGE}")),
            }
        }
        let most = args.pods.max(args.gang);
        if most > args.nodes * 8 {
            return Err(format!("{most} pods do not fit on {} nodes of 8 GPUs", args.nodes));
        }
        if !args.pods.is_multiple_of(8) || !args.rest_pods.is_multiple_of(8) {
            return Err("--pods and --rest-pods are in gangs of 8".into());
        }
        Ok(args)
    }

    fn smoke(&mut self) {
        (self.nodes, self.pods, self.gang, self.rest_pods) = (50, 200, 64, 80);
        (self.rest_seconds, self.rounds) = (5, 1);
    }
}

fn number(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=1_000_000).contains(&number) => Ok(number),
        _ => Err(format!("{text:?}: expected a number from 1 to 1000000\n{USAGE}")),
    }
}

fn list<T: Copy>(text: &str, all: &[T], slug: fn(&T) -> &'static str) -> Result<Vec<T>, String> {
    let find = |word: &str| {
        let found = all.iter().find(|item| slug(item) == word);
        found.copied().ok_or(format!("{word:?} is not one of the list\n{USAGE}"))
    };
    text.split(',').map(find).collect()
}
