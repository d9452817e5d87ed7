//! Binding on a real API server: the bare loop, this scheduler and upstream's, alternating.
//!
//! `cargo bench --bench end_to_end -- --smoke` takes about a minute; an unknown argument prints
//! the others. The figures of one run compare with each other, not with another machine's.

mod args;
mod bare_loop;
mod binders;
mod observer;
mod reclaim;
mod report;
mod scenarios;
#[path = "../../tests/support/mod.rs"]
mod support;

use args::Args;
use std::path::Path;
use std::process::ExitCode;
use support::control_plane::{ControlPlane, Options};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().ok();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, kubeconfig, name, rest @ ..] = arguments.as_slice()
        && mode == "--bare-loop"
    {
        bare_loop::run(Path::new(kubeconfig), name, !rest.is_empty());
    }
    if let [mode, kubeconfig, orders] = arguments.as_slice()
        && mode == "--bare-room"
    {
        reclaim::blindly::run(Path::new(kubeconfig), Path::new(orders));
    }
    let args = match Args::parse(arguments.into_iter()) {
        Ok(args) => args,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    runtime.block_on(run(args));
    ExitCode::SUCCESS
}

async fn run(args: Args) {
    let options = Options {
        unsafe_no_fsync: true,
        api_server_flags: vec!["--enable-priority-and-fairness=false".into()],
        ..Options::default()
    };
    // says so itself where the servers cannot be had
    let Some(servers) = ControlPlane::start_with(options).await else { return };
    let mut bench = scenarios::Bench::start(args.clone(), servers).await;
    let mut samples = report::Samples::new();
    for round in 0..args.rounds {
        for scenario in &args.scenarios {
            for binder in args.binders.iter().filter(|binder| scenario.has(**binder)) {
                let sample = bench.measure(*scenario, *binder).await;
                eprintln!("round {round} {} {}: {sample:?}", scenario.slug(), binder.slug());
                samples.push((round, *scenario, *binder, sample));
            }
        }
    }
    report::print(&samples, &args);
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report::perf_dash(&samples, &args));
        let text = text.expect("a JSON value can be written");
        std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
