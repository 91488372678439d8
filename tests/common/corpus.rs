//! The committed inputs of a fuzz target.

use std::fs;
use std::path::Path;

/// All of them, at least one. The published package holds neither them nor the target: then there
/// are none, and a line says so.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    if !fuzz.exists() {
        eprintln!("left out: the corpus is in the repository, and this is the package");
        return Vec::new();
    }
    let files = fs::read_dir(fuzz.join("corpus").join(target)).unwrap();
    let inputs: Vec<_> = files
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(!inputs.is_empty(), "no corpus for {target}");
    inputs
}
