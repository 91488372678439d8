//! A TCP message server that cannot leak.

pub mod model;
pub mod server;
