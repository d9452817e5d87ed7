//! Where the published traces are.

use std::path::{Path, PathBuf};

/// `relative` in the data folder: that of the environment variable `MSS_DATA`, or `shared/data`
/// beside the folder of this crate. Where it is absent this says what is skipped and returns
/// `None`; with `CI=true` that is a panic.
pub(crate) fn data_file(relative: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("MSS_DATA").map_or_else(beside, PathBuf::from);
    let file = folder.join(relative);
    if file.exists() {
        return Some(file);
    }
    let reason = format!("{} is absent; MSS_DATA names the folder of the traces", file.display());
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "tests on real traces must not be skipped with CI=true: {reason}");
    eprintln!("SKIPPED a test on real traces: {reason}");
    None
}
