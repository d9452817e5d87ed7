//! The command line, one file a subcommand.

mod api_server;
mod config;
mod demo;
mod fgd;
mod load;
mod node_topology;
mod queue;
mod queue_import;
mod run;
mod simulate;
mod snapshot;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A secondary Kubernetes scheduler for GPU clusters shared by many teams.
#[derive(Debug, Parser)]
#[command(name = "mss-scheduler", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Schedule the pods of a cluster.
    Run(run::Args),
    /// Show the scheduler at work on an embedded cluster.
    Demo(demo::Args),
    /// Serve an embedded Kubernetes API with fake nodes.
    ApiServer(api_server::Args),
    /// Load published traces into a cluster.
    Load(load::Args),
    /// Run a workload in simulated time, under several policies.
    Simulate(Box<simulate::Args>),
    /// Write a live cluster into a file, for `simulate --snapshot`. Nothing is changed.
    Snapshot(snapshot::Args),
    /// Print, check and explain the configuration file.
    Config(config::Args),
    /// Preview changes of the queues.
    Queue(queue::Args),
    /// Find out how the GPUs of a node are joined, and write it on the node.
    NodeTopology(node_topology::Args),
}

/// Parses the command line and runs the subcommand; errors are printed with their causes.
pub fn main() -> ExitCode {
    // kube and hyper are built without a default crypto provider
    rustls::crypto::ring::default_provider().install_default().ok();
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::main(args),
        Command::Demo(args) => demo::main(args),
        Command::ApiServer(args) => api_server::main(args),
        Command::Load(args) => load::main(args),
        Command::Simulate(args) => simulate::main(*args),
        Command::Snapshot(args) => snapshot::main(args),
        Command::Config(args) => config::main(args),
        Command::Queue(args) => queue::main(args),
        Command::NodeTopology(args) => node_topology::main(args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
