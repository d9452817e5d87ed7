//! Runs the experiments of the FGD paper.

use crate::simulator::fgd::{
    Inputs, LISTS, POLICIES, PolicyInfo, Published, Row, SEEDS, files, refused_table, run, table,
};
use anyhow::{Context, anyhow, bail};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

/// What to run; what is empty stands for all.
pub(super) struct Plan {
    pub(super) data: PathBuf,
    pub(super) policies: Vec<String>,
    pub(super) lists: Vec<String>,
    pub(super) seeds: Vec<u32>,
    pub(super) order: u32,
    pub(super) out: Option<PathBuf>,
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<PolicyInfo>> {
    if names.is_empty() {
        return Ok(POLICIES.to_vec());
    }
    let known = || POLICIES.map(|policy| policy.name).join(", ");
    let find = |name: &String| POLICIES.into_iter().find(|p| p.name.eq_ignore_ascii_case(name));
    let found = names
        .iter()
        .map(|name| find(name).ok_or_else(|| anyhow!("no policy {name:?}: choose of {}", known())));
    found.collect()
}

pub(super) fn main(plan: Plan) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let policies = chosen(&plan.policies)?;
    let all = || LISTS.iter().map(|list| (*list).to_owned()).collect();
    let lists: Vec<String> = if plan.lists.is_empty() { all() } else { plan.lists };
    let seeds = if plan.seeds.is_empty() { SEEDS.collect() } else { plan.seeds };
    let published = Published::read(&plan.data)?;
    let mut rows = Vec::new();
    for list in &lists {
        let inputs = Inputs::read(&plan.data, list)?;
        for policy in &policies {
            let jobs = Mutex::new(seeds.iter().enumerate());
            let done = Mutex::new(Vec::new());
            let work = || {
                loop {
                    let next = jobs.lock().map(|mut jobs| jobs.next());
                    let Ok(Some((place, seed))) = next else { return };
                    let outcome = run(&inputs, policy, *seed, plan.order);
                    if let Ok(mut done) = done.lock() {
                        done.push((place, outcome));
                    }
                }
            };
            let workers = std::thread::available_parallelism().map_or(1, usize::from);
            std::thread::scope(|scope| {
                (0..workers.min(seeds.len())).for_each(|_| {
                    scope.spawn(work);
                });
            });
            let mut outcomes =
                done.into_inner().map_err(|_| anyhow!("a run broke an invariant"))?;
            if outcomes.len() < seeds.len() {
                bail!("a run of {} on {list} broke an invariant", policy.name);
            }
            outcomes.sort_by_key(|(place, _)| *place);
            let outcomes = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
            rows.push(Row::new(list, *policy, &seeds, outcomes, &published));
            if let (Some(folder), [.., row]) = (&plan.out, &*rows) {
                files(folder, &rows)
                    .with_context(|| format!("writing into {}", folder.display()))?;
                eprintln!("{list} {}: {:.2}", row.policy.name, row.mean());
            }
        }
    }
    print!("{}\n{}", table(&rows), refused_table(&rows));
    if let Some(folder) = &plan.out {
        println!("\nfiles in {}", folder.display());
    }
    let runs = rows.iter().map(|row| row.curves.len()).sum::<usize>();
    println!("\n{runs} runs in {:.1} s", began.elapsed().as_secs_f64());
    let is_reproduced = rows.iter().all(Row::is_reproduced);
    Ok(if is_reproduced { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
