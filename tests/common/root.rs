//! What only root can do for a test.

use rustix::process::geteuid;

/// Whether this process is root's. If not, says what of a test is left out, since it takes root to
/// do this.
pub fn is_root(to_do: &str) -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        eprintln!("left out: only root can {to_do}");
    }
    is_root
}
