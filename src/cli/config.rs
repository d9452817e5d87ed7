//! Prints, checks and explains the configuration.

use crate::config::{Configuration, explain};
use anyhow::Context as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Options of the subcommand.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print a file with every field, its default and what it means.
    Default,
    /// Check a file and report everything that is wrong with it; exit 0 if nothing is.
    Validate {
        /// The file; "-" reads standard input.
        file: PathBuf,
    },
    /// Explain a field or a section.
    Explain {
        /// Path such as "limits.bindsInFlight" or "NodeResourcesFitArgs"; none: the whole file.
        #[arg(default_value = "")]
        path: String,
    },
}

pub(super) fn main(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Default => print(&explain::default_file()),
        Command::Validate { file } => validate(&file),
        Command::Explain { path } => match explain::explain(&path) {
            Ok(text) => print(&text),
            Err(message) => anyhow::bail!(message),
        },
    }
}

fn validate(file: &Path) -> anyhow::Result<ExitCode> {
    let outcome = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("read standard input")?;
        Configuration::parse(&text, "stdin")
    } else {
        Configuration::load(file)
    };
    match outcome {
        Ok(_) => print(&format!("{} is valid\n", file.display())),
        Err(problems) => {
            // one plain line per problem, so that editors and scripts can read them
            eprintln!("{problems}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Writes to standard output; a reader that has gone away (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
