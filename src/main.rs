//! The program.

#[allow(dead_code, unused_imports)]
mod cli;

fn main() {}
