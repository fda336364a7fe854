//! What the tests need of the world around them.

pub mod fleet;
pub mod netns;
pub mod program;
pub mod simulated;
pub mod sshd;

use std::path::{Path, PathBuf};

/// The repository, or what is at `path` in it.
pub fn repository(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("runtime is in the repository");
    root.join(path)
}
