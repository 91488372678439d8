//! Programs of others, which tests run against ours where they are installed.

use std::process::Command;

/// Whether a program is installed. Where it is not, the test says so and leaves its part out; under
/// `DRAINLINE_REQUIRE_CLIENTS`, as in CI, that is a failure.
#[track_caller]
pub fn is_installed(program: &str) -> bool {
    if Command::new(program).arg("--version").output().is_ok() {
        return true;
    }
    assert!(
        std::env::var_os("DRAINLINE_REQUIRE_CLIENTS").is_none(),
        "{program} is required and not installed"
    );
    eprintln!("left out: {program} is not installed");
    false
}
