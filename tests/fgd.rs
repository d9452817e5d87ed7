//! The experiments of the FGD paper against what its artifact publishes.

#[path = "support/data.rs"]
mod data;

use data::data_file;
use mss_scheduler::simulator::fgd::{Inputs, POLICIES, Published, Row, SEEDS, run, table};

fn reproduce(lists: &[&str], policies: &[&str], seeds: &[u32]) {
    let Some(nodes) = data_file("openb/openb_node_list_gpu_node.csv") else { return };
    let folder = nodes.parent().expect("it is in a folder");
    let published = Published::read(folder).expect("the published file is well-formed");
    let mut rows = Vec::new();
    for list in lists {
        let inputs = Inputs::read(folder, list).expect("the published files are well-formed");
        for policy in POLICIES.iter().filter(|policy| policies.contains(&policy.name)) {
            let curves = seeds.iter().map(|seed| run(&inputs, policy, *seed, 0)).collect();
            let row = Row::new(list, *policy, seeds, curves, &published);
            let compared = row.published.is_some() || row.margins.len() == seeds.len();
            assert!(compared, "{list} is published");
            rows.push(row);
        }
    }
    let table = table(&rows);
    assert!(rows.iter().all(Row::is_reproduced), "\n{table}");
    let margins = rows.iter().flat_map(|row| &row.margins);
    assert!(margins.flatten().all(|margin| *margin > 0.0), "ours is below FGD:\n{table}");
    eprintln!("{table}");
}

#[test]
fn policies_land_where_they_were_published() {
    let policies = POLICIES.map(|policy| policy.name);
    reproduce(&["default"], &policies, &[42, 43]);
}

/// All lists, policies and seeds, which takes minutes: with `MSS_FGD=all`.
#[test]
fn the_whole_table_is_reproduced() {
    if std::env::var("MSS_FGD").is_ok_and(|what| what == "all") {
        let seeds: Vec<u32> = SEEDS.collect();
        let policies = POLICIES.map(|policy| policy.name);
        reproduce(&mss_scheduler::simulator::fgd::LISTS, &policies, &seeds);
    } else {
        eprintln!("the whole table takes minutes: MSS_FGD=all runs it");
    }
}
