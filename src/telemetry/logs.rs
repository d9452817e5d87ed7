//! Where log lines go and what they look like.
//!
//! `ERROR` means that a person must act. Lines go to standard error, one per event.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Flags of every subcommand that logs.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "logs")]
pub struct Args {
    /// What to log: a level, or directives such as "info,kube=warn".
    #[arg(long, env = "MSS_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Form of log lines.
    #[arg(long, env = "MSS_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: Format,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is malformed; the user gives another.
    #[error("parse log level {level:?}: {source}; use error, warn, info, debug or trace")]
    Level {
        /// As given.
        level: String,
        /// What is wrong.
        source: tracing_subscriber::filter::ParseError,
    },
}

/// Starts logging for the whole process; a second call changes nothing.
///
/// # Errors
/// [`Error::Level`] if the level is malformed.
pub fn init(args: &Args) -> Result<(), Error> {
    let filter = filter(&args.log_level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let started = match args.log_format {
        Format::Json => builder.json().flatten_event(true).finish().try_init(),
        Format::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr())
                && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colour).finish().try_init()
        }
    };
    drop(started); // already started: tests do so
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, Error> {
    EnvFilter::try_new(level).map_err(|source| Error::Level { level: level.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_level_is_told() {
        assert!(filter("info,kube=warn").is_ok());
        let error = filter("info,kube=loud").unwrap_err().to_string();
        assert!(error.starts_with("parse log level \"info,kube=loud\""), "{error}");
    }
}
