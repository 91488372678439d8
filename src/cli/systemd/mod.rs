//! systemd, or another service manager that speaks its protocols: the sockets that it passes
//! (sd_listen_fds(3)), and what it is told (sd_notify(3)).
//!
//! Both come by the environment, which an execution of this program keeps, with the process's
//! number. Both are taken before the first thread starts, since the environment is changed.

mod manager;
mod notifier;
mod passed;

pub(super) use manager::Manager;
pub(super) use notifier::{DESCRIPTORS, Notifier, THREADS, Teller};
pub(super) use passed::Passed;
