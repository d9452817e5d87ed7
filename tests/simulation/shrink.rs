//! From a history that fails to a short one that fails alike.

use crate::history::{FAULTS, History};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs that shrinking may take.
const RUNS: usize = 400;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Turns a panic, as of a broken invariant, into its message.
pub(crate) fn guarded<T>(action: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    QUIET.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(action));
    QUIET.set(false);
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without a message").to_owned()
    })
}

/// What a failure is called: the numbers of invariants, or the first words.
pub(crate) fn name(failure: &str) -> &str {
    let failure = failure.strip_prefix("assertion `left == right` failed: ").unwrap_or(failure);
    failure.split(':').next().unwrap_or_default()
}

/// Leaves out steps, in ever smaller pieces, then kinds of faults, as long as it fails alike.
pub(crate) fn shrink(
    mut history: History,
    failure: String,
    run: impl Fn(&History) -> Option<String>,
) -> (History, String) {
    let mut failure = failure;
    let mut runs = 0;
    let mut still_fails = |candidate: &History, failure: &mut String| {
        runs += 1;
        let found = run(candidate).filter(|found| runs <= RUNS && name(found) == name(failure));
        found.map(|found| *failure = found).is_some()
    };
    let mut piece = history.steps.len() / 2;
    while piece > 0 {
        // the last steps are the likeliest to be in vain
        let mut end = history.steps.len();
        while end > 0 {
            let start = end.saturating_sub(piece);
            let mut fewer = history.clone();
            fewer.steps.drain(start..end);
            if still_fails(&fewer, &mut failure) {
                history = fewer;
            }
            end = start;
        }
        piece /= 2;
    }
    for fault in FAULTS {
        let mut without = history.clone();
        without.without.push(fault);
        if still_fails(&without, &mut failure) {
            history = without;
        }
    }
    (history, failure)
}
