//! The bound against the operating system: what a configuration can need at most, computed before the
//! first thread starts, and held against what the system can give.
//!
//! RLIMIT_NPROC is not among the limits: it counts every thread of the user, in all processes, and
//! privileges lift it (setrlimit(2)), so that no file says how much of it is left. A thread that it
//! refuses is a client rejected and counted while the server runs.

mod system;

use std::fmt;

use super::config::Config;
pub(super) use system::System;

/// Threads that every server has beside its acceptors and handlers: consumer, reaper, watchdog, journal.
const OWN_THREADS: u64 = 4;

/// The listener, its eventfd, and one client above the connections: it is accepted to be turned away,
/// while the gate is shut or during a drain, or waits for that as a spare descriptor.
const DESCRIPTORS_PER_LISTENER: u64 = 3;

/// What std maps for a thread: its stack and its signal stack, each with a guard page, which is a
/// mapping of its own. Beyond vm.max_map_count std panics inside the new thread, after clone(2), and
/// the process aborts (rust-lang/rust#78497): this limit has to be met here or not at all.
const MAPPINGS_PER_THREAD: u64 = 4;

/// Kept free for what the process still maps: the allocator's arenas (glibc: 8 per core, two mappings
/// each), large buffers, libraries that load late.
const SPARE_MAPPINGS: u64 = 256;

/// The kernel hands out no pid below this one a second time (RESERVED_PIDS in kernel/pid.c).
const RESERVED_PIDS: u64 = 300;

/// Pages of a thread that get touched, whatever `stack_size` reserves: 9.8 KiB were measured with an
/// idle connection (stack, thread-local storage, signal stack, the record), a deep frame takes one more.
const TOUCHED_PER_THREAD: u64 = 16 << 10;

/// A boxed item's slot in the channel: the pointer and the slot's stamp.
const SLOT_BYTES: u64 = 16;

/// The process without a connection: code and data that get touched, the server's own threads.
const MEMORY_OF_PROCESS: u64 = 8 << 20;

/// What a server needs at most, of the whole process: computed at start, before the first thread.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bound {
    /// Connections served at once.
    pub max_connections: usize,
    /// Threads: one per connection and per listener, the server's own, and those that the process had
    /// when the bound was computed.
    pub threads: u64,
    /// Descriptors: one per connection, three per listener, and those that the process had open.
    pub descriptors: u64,
    /// Resident memory in bytes: a handler's stack and [`handler_bytes`](Config::handler_bytes) per
    /// connection, the buffer with its slots, and 8 MiB for the process. Stacks count what gets
    /// touched, not what is reserved. What an embedder holds elsewhere is not in it.
    pub memory_bytes: u64,
    /// Memory in bytes that the kernel may hold for the sockets on top, if every peer fills every
    /// buffer: the last values of net.ipv4.tcp_rmem and tcp_wmem (tcp(7)) per connection. 0 if the
    /// system does not tell.
    pub kernel_memory_bytes: u64,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at most {} connections, {} threads, {} descriptors, {} of memory",
            self.max_connections,
            self.threads,
            self.descriptors,
            Bytes(self.memory_bytes)
        )?;
        match self.kernel_memory_bytes {
            0 => Ok(()),
            bytes => write!(f, " (and up to {} of kernel socket buffers)", Bytes(bytes)),
        }
    }
}

/// A `max_connections` that the system cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitError {
    /// The limit that does not hold it, by the name under which an operator finds it. If several do
    /// not, the one that holds the fewest connections.
    pub limit: String,
    /// What it limits: `"descriptors"`, `"threads"`, `"mappings"`.
    pub unit: &'static str,
    /// What it allows, in all.
    pub allows: u64,
    /// What would be needed, with what is in use already.
    pub needed: u64,
    /// The connections that would need it: what was asked for, or 1 if nothing was.
    pub max_connections: usize,
    /// The largest `max_connections` that every limit holds; 0 if there is none.
    pub fits: usize,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "max_connections = {}: {} allows {} {} and {} are needed; ",
            self.max_connections, self.limit, self.allows, self.unit, self.needed
        )?;
        match self.fits {
            0 => f.write_str("not even one connection would fit"),
            fits => write!(f, "up to {fits} would fit"),
        }
    }
}

impl std::error::Error for LimitError {}

/// What is known about the process beside the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needs {
    /// Listeners, those that were handed in included.
    pub(super) listeners: usize,
    /// Threads that the process will still start beside the server's. Those that run are in [`System`].
    pub(super) other_threads: u64,
    /// Descriptors that the process will still open beside the server's. Those that are open are in
    /// [`System`].
    pub(super) other_descriptors: u64,
}

/// A bound that the system holds, and what its operator should know about it.
#[derive(Clone, Debug)]
pub(super) struct Fit {
    pub(super) bound: Bound,
    /// One line each: a default that shrank, memory that may not suffice.
    pub(super) notes: Vec<String>,
}

/// The largest bound that `config` asks for and `system` holds. Call it before listeners are bound: the
/// descriptors of those that are open already would be counted twice.
///
/// # Errors
/// The tightest limit, if it does not hold the `max_connections` that was asked for, or not even one
/// connection. Memory is no such limit: the bound is far above what most loads touch, so it only warns.
pub(super) fn fit(config: &Config, needs: &Needs, system: &System) -> Result<Fit, LimitError> {
    let tightest = ceilings(needs, system)
        .into_iter()
        .min_by_key(Ceiling::fits);
    let mut notes = Vec::new();
    let max_connections = match tightest {
        None => default_or(config.max_connections),
        Some(ceiling) => {
            let (asked, fits) = (default_or(config.max_connections), ceiling.fits());
            if fits == 0 || (config.max_connections.is_some() && asked > fits) {
                return Err(ceiling.error(config.max_connections.unwrap_or(1)));
            }
            if asked > fits {
                notes.push(ceiling.note());
            }
            asked.min(fits)
        }
    };
    let bound = bound(max_connections, config, needs, system);
    if let Some(level) = &system.memory
        && bound.memory_bytes > level.max
    {
        notes.push(format!(
            "{} allows {} and up to {} may be needed: a smaller max_connections, buffer_bytes or \
             handler_bytes would fit",
            level.limit,
            Bytes(level.max),
            Bytes(bound.memory_bytes)
        ));
    }
    Ok(Fit { bound, notes })
}

fn default_or(asked: Option<usize>) -> usize {
    asked.unwrap_or(Config::DEFAULT_MAX_CONNECTIONS)
}

fn bound(max_connections: usize, config: &Config, needs: &Needs, system: &System) -> Bound {
    let connections = max_connections as u64;
    let per_connection = TOUCHED_PER_THREAD.saturating_add(config.handler_bytes as u64);
    let slots = SLOT_BYTES.saturating_mul(config.buffer_messages as u64);
    let sockets = system
        .receive_buffer_max
        .saturating_add(system.send_buffer_max);
    Bound {
        max_connections,
        threads: sum([system.own_threads, new_threads(needs), connections]),
        descriptors: sum([descriptors_without(needs, system), connections]),
        memory_bytes: sum([
            connections.saturating_mul(per_connection),
            config.buffer_bytes as u64,
            slots,
            MEMORY_OF_PROCESS,
        ]),
        kernel_memory_bytes: connections.saturating_mul(sockets),
    }
}

/// Threads that will start, without the handlers.
fn new_threads(needs: &Needs) -> u64 {
    sum([needs.listeners as u64, OWN_THREADS, needs.other_threads])
}

/// Descriptors of the whole process, without the connections.
fn descriptors_without(needs: &Needs, system: &System) -> u64 {
    let of_listeners = DESCRIPTORS_PER_LISTENER.saturating_mul(needs.listeners as u64);
    sum([
        system.open_descriptors,
        of_listeners,
        needs.other_descriptors,
    ])
}

/// One limit against a need that grows with the connections.
#[derive(Debug)]
struct Ceiling {
    limit: String,
    unit: &'static str,
    allows: u64,
    /// Needed without a single connection, with what is in use already.
    fixed: u64,
    per_connection: u64,
}

impl Ceiling {
    fn fits(&self) -> usize {
        let left = self.allows.saturating_sub(self.fixed);
        usize::try_from(left / self.per_connection.max(1)).unwrap_or(usize::MAX)
    }

    fn needed(&self, connections: usize) -> u64 {
        let for_them = self.per_connection.saturating_mul(connections as u64);
        self.fixed.saturating_add(for_them)
    }

    fn error(self, max_connections: usize) -> LimitError {
        LimitError {
            needed: self.needed(max_connections),
            fits: self.fits(),
            limit: self.limit,
            unit: self.unit,
            allows: self.allows,
            max_connections,
        }
    }

    fn note(&self) -> String {
        let default = Config::DEFAULT_MAX_CONNECTIONS;
        format!(
            "max_connections is {} instead of the default {default}: {} allows {} {} and {} would be needed",
            self.fits(),
            self.limit,
            self.allows,
            self.unit,
            self.needed(default)
        )
    }
}

/// Every limit that exists.
fn ceilings(needs: &Needs, system: &System) -> Vec<Ceiling> {
    let threads = |limit: &str, allows: Option<u64>, taken: u64| {
        allows.map(|allows| Ceiling {
            limit: limit.to_owned(),
            unit: "threads",
            allows,
            fixed: taken.saturating_add(new_threads(needs)),
            per_connection: 1,
        })
    };
    // A container may see less of the system than of itself.
    let running = system.all_threads.max(system.own_threads);
    let descriptors = system.descriptors_max.map(|allows| Ceiling {
        limit: "RLIMIT_NOFILE (ulimit -n)".to_owned(),
        unit: "descriptors",
        allows,
        fixed: descriptors_without(needs, system),
        per_connection: 1,
    });
    let mappings = system.mappings_max.map(|allows| Ceiling {
        limit: "vm.max_map_count".to_owned(),
        unit: "mappings",
        allows,
        fixed: sum([
            system.mappings,
            SPARE_MAPPINGS,
            MAPPINGS_PER_THREAD.saturating_mul(new_threads(needs)),
        ]),
        per_connection: MAPPINGS_PER_THREAD,
    });
    let in_cgroup = system.pids.as_ref();
    [
        descriptors,
        threads("kernel.threads-max", system.threads_max, running),
        threads(
            "kernel.pid_max",
            system.pid_max,
            running.saturating_add(RESERVED_PIDS),
        ),
        in_cgroup.and_then(|level| threads(&level.limit, Some(level.max), level.used)),
        mappings,
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn sum<const N: usize>(terms: [u64; N]) -> u64 {
    terms.into_iter().fold(0, u64::saturating_add)
}

/// A size as people write it, with one decimal.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = ["KiB", "MiB", "GiB", "TiB"];
        let mut size = self.0 as f64 / 1024.0;
        let mut step = 0;
        // What would be rounded to 1024.0 is written in the next unit.
        while size >= 1023.95 && step + 1 < unit.len() {
            size /= 1024.0;
            step += 1;
        }
        write!(f, "{size:.1} {}", unit[step])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::system::Level;
    use super::*;

    const NEEDS: Needs = Needs {
        listeners: 1,
        other_threads: 1,
        other_descriptors: 2,
    };

    /// No limit at all; 5 descriptors, 1 thread and 40 mappings in use, 100 threads on the machine.
    fn free() -> System {
        System {
            open_descriptors: 5,
            own_threads: 1,
            all_threads: 100,
            mappings: 40,
            ..System::default()
        }
    }

    fn asking(max_connections: usize) -> Config {
        Config {
            max_connections: Some(max_connections),
            ..Config::default()
        }
    }

    fn level(limit: &str, max: u64, used: u64) -> Option<Level> {
        let limit = limit.to_owned();
        Some(Level { limit, max, used })
    }

    /// `system` holds `fits` connections and no more: asked for, that many are granted and one more is
    /// refused by `limit`; not asked for, the default shrinks to it.
    #[track_caller]
    fn holds_exactly(system: &System, limit: &str, allows: u64, fits: usize) {
        let granted = fit(&asking(fits), &NEEDS, system).unwrap();
        assert_eq!(granted.bound.max_connections, fits);
        assert_eq!(granted.notes, [""; 0]);

        let error = fit(&asking(fits + 1), &NEEDS, system).unwrap_err();
        assert_eq!(
            (&*error.limit, error.allows, error.fits),
            (limit, allows, fits)
        );
        assert_eq!(error.max_connections, fits + 1);
        assert!(error.needed > allows, "{error}");

        let shrunk = fit(&Config::default(), &NEEDS, system).unwrap();
        assert_eq!(shrunk.bound.max_connections, fits);
        assert_eq!(shrunk.notes.len(), 1);
        let start =
            format!("max_connections is {fits} instead of the default 1024: {limit} allows");
        assert!(shrunk.notes[0].starts_with(&start), "{}", shrunk.notes[0]);
        assert!(!shrunk.notes[0].contains('\n'));
    }

    #[test]
    fn without_limits_the_default_stands_and_the_bound_adds_up() {
        let mut system = free();
        (system.receive_buffer_max, system.send_buffer_max) = (6 << 20, 4 << 20);
        let Fit { bound, notes } = fit(&Config::default(), &NEEDS, &system).unwrap();
        assert_eq!(notes, [""; 0]);
        assert_eq!(
            bound,
            Bound {
                max_connections: 1024,
                threads: 1 + 1 + 4 + 1 + 1024,
                descriptors: 5 + 3 + 2 + 1024,
                memory_bytes: 1024 * (80 << 10) + (64 << 20) + 1_600_000 + (8 << 20),
                kernel_memory_bytes: 1024 * (10 << 20),
            }
        );
        assert_eq!(
            bound.to_string(),
            "at most 1024 connections, 1031 threads, 1034 descriptors, 153.5 MiB of memory (and up to \
             10.0 GiB of kernel socket buffers)"
        );
    }

    #[test]
    fn unknown_socket_buffers_are_not_claimed_to_be_free() {
        let text = fit(&asking(10), &NEEDS, &free()).unwrap().bound.to_string();
        assert!(text.ends_with("of memory"), "{text}");
    }

    #[test]
    fn descriptors() {
        let mut system = free();
        system.descriptors_max = Some(256);
        holds_exactly(&system, "RLIMIT_NOFILE (ulimit -n)", 256, 246);
        let error = fit(&asking(5000), &NEEDS, &system).unwrap_err();
        assert_eq!(
            error.to_string(),
            "max_connections = 5000: RLIMIT_NOFILE (ulimit -n) allows 256 descriptors and 5010 are \
             needed; up to 246 would fit"
        );
    }

    #[test]
    fn threads_of_the_machine() {
        let mut system = free();
        system.threads_max = Some(1000);
        holds_exactly(&system, "kernel.threads-max", 1000, 1000 - 100 - 6);
    }

    #[test]
    fn pids_of_the_machine() {
        let mut system = free();
        system.pid_max = Some(1000);
        holds_exactly(&system, "kernel.pid_max", 1000, 1000 - 100 - 300 - 6);
    }

    #[test]
    fn a_container_that_hides_the_machine_still_counts_its_own_threads() {
        let mut system = free();
        (system.threads_max, system.all_threads, system.own_threads) = (Some(500), 0, 50);
        holds_exactly(&system, "kernel.threads-max", 500, 500 - 50 - 6);
    }

    #[test]
    fn pids_of_a_cgroup() {
        let mut system = free();
        system.pids = level("pids.max of /sys/fs/cgroup/pids/foo", 120, 14);
        holds_exactly(&system, "pids.max of /sys/fs/cgroup/pids/foo", 120, 100);
    }

    #[test]
    fn mappings() {
        let mut system = free();
        system.mappings_max = Some(40 + 256 + 4 * (6 + 500) + 3);
        holds_exactly(&system, "vm.max_map_count", 2323, 500);
    }

    #[test]
    fn the_default_mappings_hold_about_16300_threads() {
        let mut system = free();
        system.mappings_max = Some(65_530);
        let error = fit(&asking(20_000), &NEEDS, &system).unwrap_err();
        assert_eq!((&*error.limit, error.fits), ("vm.max_map_count", 16_302));
    }

    #[test]
    fn of_several_limits_the_tightest_is_named() {
        let mut system = free();
        system.descriptors_max = Some(400);
        system.pid_max = Some(500);
        system.threads_max = Some(900);
        holds_exactly(&system, "kernel.pid_max", 500, 94);
    }

    #[test]
    fn a_system_that_holds_no_connection_refuses_the_default_too() {
        let mut system = free();
        system.descriptors_max = Some(10);
        let error = fit(&Config::default(), &NEEDS, &system).unwrap_err();
        assert_eq!((error.max_connections, error.fits), (1, 0));
        assert_eq!(
            error.to_string(),
            "max_connections = 1: RLIMIT_NOFILE (ulimit -n) allows 10 descriptors and 11 are needed; \
             not even one connection would fit"
        );
    }

    #[test]
    fn memory_only_warns() {
        let mut system = free();
        system.memory = level("memory.max of /sys/fs/cgroup/foo", 128 << 20, 0);
        for config in [Config::default(), asking(1024)] {
            let Fit { bound, notes } = fit(&config, &NEEDS, &system).unwrap();
            assert_eq!(bound.max_connections, 1024);
            assert_eq!(
                notes,
                [
                    "memory.max of /sys/fs/cgroup/foo allows 128.0 MiB and up to 153.5 MiB may be needed: \
                  a smaller max_connections, buffer_bytes or handler_bytes would fit"
                ]
            );
        }
        system.memory = level("memory.max of /sys/fs/cgroup/foo", 1 << 30, 0);
        assert_eq!(
            fit(&Config::default(), &NEEDS, &system)
                .unwrap()
                .notes
                .len(),
            0
        );
    }

    #[test]
    fn no_number_overflows() {
        let most = u64::MAX;
        let system = System {
            descriptors_max: Some(most),
            open_descriptors: most,
            own_threads: most,
            all_threads: most,
            threads_max: Some(most),
            pid_max: Some(0),
            pids: level("p", 0, most),
            mappings_max: Some(most),
            mappings: most,
            memory: level("m", 0, most),
            receive_buffer_max: most,
            send_buffer_max: most,
        };
        let needs = Needs {
            listeners: usize::MAX,
            other_threads: most,
            other_descriptors: most,
        };
        let mut config = asking(usize::MAX);
        (config.handler_bytes, config.buffer_bytes) = (usize::MAX, usize::MAX);
        assert_eq!(fit(&config, &needs, &system).unwrap_err().fits, 0);
        let unlimited = System {
            pids: None,
            pid_max: None,
            threads_max: None,
            mappings_max: None,
            descriptors_max: None,
            ..system
        };
        let fit = fit(&config, &needs, &unlimited).unwrap();
        assert_eq!(fit.bound.memory_bytes, most);
        assert_eq!(fit.notes.len(), 1);
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        let text = |bytes| Bytes(bytes).to_string();
        assert_eq!(text(0), "0.0 KiB");
        assert_eq!(text(1536), "1.5 KiB");
        assert_eq!(text((1 << 20) - 1), "1.0 MiB");
        assert_eq!(text(12 << 30), "12.0 GiB");
        assert_eq!(text(u64::MAX), "16777216.0 TiB");
    }
}
