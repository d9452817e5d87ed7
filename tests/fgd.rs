//! The experiments of the FGD paper against what its artifact publishes.

#[path = "support/data.rs"]
mod data;

use data::data_file;
use mss_scheduler::simulator::fgd::{Inputs, LISTS, POLICIES, Published, Row, SEEDS, run, table};

fn reproduce(lists: &[&str], seeds: &[u32]) {
    let Some(nodes) = data_file("openb/openb_node_list_gpu_node.csv") else { return };
    let folder = nodes.parent().expect("it is in a folder");
    let published = Published::read(folder).expect("the published file is well-formed");
    let mut rows = Vec::new();
    for list in lists {
        let inputs = Inputs::read(folder, list).expect("the published files are well-formed");
        for policy in &POLICIES {
            let outcomes = seeds.iter().map(|seed| run(&inputs, policy, *seed, 0)).collect();
            let row = Row::new(list, *policy, seeds, outcomes, &published);
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

/// A part of the table; all lists and seeds, which takes minutes, with `MSS_FGD=all`.
#[test]
fn policies_land_where_they_were_published() {
    let whole = std::env::var("MSS_FGD").is_ok_and(|what| what == "all");
    let (lists, seeds) = if whole { (&LISTS[..], SEEDS) } else { (&["default"][..], 42..=43) };
    reproduce(lists, &seeds.collect::<Vec<u32>>());
}
