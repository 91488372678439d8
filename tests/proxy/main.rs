//! Behind a balancer: the head of the PROXY protocol is read whole or not at all, its client is the
//! peer that limits, lists and the log see, and nothing is lost or counted twice because of it.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../heads/mod.rs"]
mod heads;

mod head;
