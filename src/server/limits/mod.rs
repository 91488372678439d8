//! The resource limits of a server: the most that a configuration can need, computed before the
//! first thread starts, and compared with what the system can give.
//!
//! RLIMIT_NPROC is not checked: it counts every thread of the user in all processes, and privileges
//! lift it (setrlimit(2)), so no file tells how much of it is left. Where RLIMIT_NPROC refuses a
//! thread while the server runs, its client waits, and is rejected and counted after 10 s.

pub(super) mod descriptor_table;
mod malloc;
mod processors;
mod system;

use std::fmt;

use super::config::Config;
use super::error::LimitError;
use super::ledger::counted;
pub(super) use malloc::shared_bytes;
pub use malloc::{Malloc, MallocSetting, heap_bytes};
#[cfg(test)]
pub(super) use system::Level;
pub(super) use system::System;

/// The threads of every server beside acceptors and handlers: consumer, reaper, watchdog, logger.
pub(super) const OWN_THREADS: u64 = 4;

/// The listener, its eventfd, the system's table of sockets, which shows the listener's queue, and
/// either one client that is accepted to be rejected or the spare descriptor that is kept for that.
pub(super) const DESCRIPTORS_PER_LISTENER: u64 = 4;

/// The mappings of a thread that std starts: stack and signal stack, each with a guard page. Beyond
/// vm.max_map_count, std panics inside the new thread, after clone(2), and the process aborts
/// (rust-lang/rust#78497). So this limit has to be checked in advance.
const MAPPINGS_PER_THREAD: u64 = 4;
/// Those of a thread without a signal stack ([`System::is_without_signal_stacks`]).
const MAPPINGS_WITHOUT_SIGNAL_STACK: u64 = 2;

/// The stack size of a thread that asks for no other, in bytes.
const DEFAULT_STACK: u64 = 2 << 20;
/// A thread's guard pages and its signal stack in bytes, rounded up: the size of a signal stack
/// depends on the processor.
const BESIDE_STACK: u64 = 64 << 10;
/// Bytes of address space that glibc's malloc reserves at a time for every arena but the first
/// (HEAP_MAX_SIZE). To align them, malloc maps twice as much for a moment. The first arena only
/// grows as it is used.
const ADDRESSES_PER_ARENA: u64 = 64 << 20;

/// Of those, the bytes that malloc makes writable beyond what is used (M_TOP_PAD), rounded up.
const WRITABLE_PER_ARENA: u64 = 256 << 10;

/// Mappings kept free for what the process still maps: the allocator's arenas (glibc: 8 per core,
/// two mappings each), large blocks, libraries that load late.
const SPARE_MAPPINGS: u64 = 256;

/// The kernel hands out no pid below this one a second time (RESERVED_PIDS in kernel/pid.c).
const RESERVED_PIDS: u64 = 300;

/// Resident bytes of a thread, whatever `stack_size` reserves. An idle connection was measured at
/// 9.8 KiB (stack, thread-local storage, signal stack, the state), and a deep frame touches one
/// more page.
const TOUCHED_PER_THREAD: u64 = 16 << 10;

/// Bytes of thread-local variables within [`TOUCHED_PER_THREAD`], rounded up: 272 of the program
/// and 144 of glibc, as measured.
const THREAD_LOCALS_WITHIN: u64 = 512;
/// What a page holds: by pages more variables are touched.
const PAGE: u64 = 4 << 10;

/// Resident bytes of a listener: its thread, its state, its settings, and its rows where the ledger
/// and the list of connections are told. Measured with 500: 29 KiB, 35 over TLS, and 10 more once
/// they were told.
const TOUCHED_PER_LISTENER: u64 = 48 << 10;

/// Bytes of a boxed item's slot in the channel: the pointer and the slot's stamp.
const SLOT_BYTES: u64 = 16;

/// Resident bytes of the process without a connection: code, data and the server's own threads. The
/// code of a program that is built without optimisation is several times as large.
const MEMORY_OF_PROCESS: u64 = if cfg!(debug_assertions) {
    16 << 20
} else {
    8 << 20
};

const WITHOUT_PROC: &str = "without /proc the descriptors, threads, mappings and addresses that the process has already \
    are not known, and not in the limits";

/// The most that the whole process can need while the server runs: computed at start, before the
/// first thread.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResourceLimits {
    /// Connections served at once.
    pub max_connections: usize,
    /// Threads: one per connection and per listener, the server's own, and those that the process
    /// had when the limits were computed.
    pub threads: u64,
    /// Descriptors: one per connection, four per listener (six with `on_overload` refuse), and
    /// those that the process had open.
    pub descriptors: u64,
    /// Resident memory in bytes: a handler's stack and [`handler_bytes`](Config::handler_bytes) per
    /// connection, over TLS some 140 KiB more for each, the certificates and lists of TLS, twice
    /// and with room for a reload, the lists of peers, the buffer with its slots, the read buffers
    /// that an ingest keeps, 8 MiB for the process, and what
    /// [`Builder::reserve_memory`](super::Builder::reserve_memory) adds. Stacks are counted by what
    /// gets touched, not by what is reserved: with the thread-local variables of the program and
    /// of the libraries that are loaded then. What an embedder holds elsewhere is not included.
    pub memory_bytes: u64,
    /// Memory in bytes that glibc's malloc may keep on top, free and not returned to the system:
    /// `buffer_bytes` for every arena but the first ([`Malloc::arenas_max`]), if threads of that
    /// arena alone once filled the buffer and something that lives long lies at its top. 0 with
    /// MALLOC_ARENA_MAX=1 in the environment, and where malloc is not glibc's. A program's own
    /// allocator is not detected.
    pub arena_memory_bytes: u64,
    /// Memory in bytes that glibc's malloc may keep in the caches of threads on top
    /// ([`Malloc::thread_cache_bytes`]): by default 235 KiB for each thread. 0 with
    /// `GLIBC_TUNABLES=glibc.malloc.tcache_count=0` in the environment, and where malloc is not
    /// glibc's.
    pub thread_cache_memory_bytes: u64,
    /// Memory in bytes that the kernel may hold for the sockets on top, if every peer fills every
    /// buffer: the last values of net.ipv4.tcp_rmem and tcp_wmem (tcp(7)) per connection. 0 if the
    /// system does not tell.
    pub kernel_memory_bytes: u64,
}

impl ResourceLimits {
    /// Resident memory in bytes, including all that malloc may keep.
    pub fn memory_with_malloc_bytes(&self) -> u64 {
        sum([
            self.memory_bytes,
            self.arena_memory_bytes,
            self.thread_cache_memory_bytes,
        ])
    }
}

impl fmt::Display for ResourceLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at most {}, {}, {}, {} of memory",
            counted(self.max_connections as u64, "connection"),
            counted(self.threads, "thread"),
            counted(self.descriptors, "descriptor"),
            Bytes(self.memory_bytes)
        )?;
        let on_top = [
            (
                self.arena_memory_bytes,
                "in malloc's arenas unless MALLOC_ARENA_MAX is 1",
            ),
            (
                self.thread_cache_memory_bytes,
                "in malloc's caches of threads unless GLIBC_TUNABLES has glibc.malloc.tcache_count=0",
            ),
        ];
        let on_top = on_top.into_iter().filter(|(bytes, _)| *bytes > 0);
        let on_top: Vec<String> = on_top
            .map(|(bytes, what)| format!("up to {} {what}", Bytes(bytes)))
            .collect();
        match on_top.is_empty() {
            true => Ok(()),
            false => write!(f, " (and {})", on_top.join(", ")),
        }
    }
}

/// What the limits depend on beside the configuration and the system.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Requirements {
    /// Listeners, those that were handed in included.
    pub(super) listeners: usize,
    /// Threads that the process will still start beside the server's. Those that run are in
    /// [`System`].
    pub(super) other_threads: u64,
    /// Descriptors that the process will still open beside the server's. Those that are open are in
    /// [`System`].
    pub(super) other_descriptors: u64,
    /// What outputs need of their own.
    pub(super) outputs: OutputNeeds,
    /// Handlers' threads are made by code that may give each a signal stack of its own.
    pub(super) has_spawner: bool,
    /// Bytes of the lists that listeners have of their own.
    pub(super) own_list_bytes: u64,
    /// Bytes that the names and addresses of listeners take in what is told about them.
    pub(super) told_bytes: u64,
    /// Bytes that the process holds for itself beside [`MEMORY_OF_PROCESS`].
    pub(super) other_bytes: u64,
    /// The most bytes of heap that a connection holds before its handler runs, and no longer then.
    pub(super) opening_bytes: u64,
    /// The memory of read buffers that the ingest keeps.
    pub(super) memory: BufferMemory,
    /// The memory of sessions.
    pub(super) tls: TlsMemory,
    /// What the program's users call its settings.
    pub(super) names: SettingNames,
}

/// What outputs will still take beside what a server takes without.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OutputNeeds {
    pub(crate) threads: u64,
    pub(crate) descriptors: u64,
    pub(crate) memory_bytes: u64,
}

/// The memory that TLS takes beside what a connection takes without.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TlsMemory {
    /// The most that one takes, in bytes.
    pub(super) bytes: u64,
    /// The most connections that have one, within `max_connections`.
    pub(super) connections: u64,
    /// What is loaded for all of them takes at most, in bytes.
    pub(super) loaded_bytes: u64,
}

/// What a program's users call a setting, given its field's name: a flag, for example.
#[derive(Clone, Copy)]
pub(super) struct SettingNames(pub(super) fn(&str) -> String);

impl Default for SettingNames {
    fn default() -> Self {
        SettingNames(str::to_owned)
    }
}

impl SettingNames {
    pub(super) fn of(self, setting: &str) -> String {
        (self.0)(setting)
    }
}

impl fmt::Debug for SettingNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SettingNames({})", self.of("max_connections"))
    }
}

/// The memory of read buffers beside what handlers and the buffer hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BufferMemory {
    /// The setting that decides how much a handler holds.
    pub(crate) setting: &'static str,
    /// Bytes of buffers that are kept ready.
    pub(crate) kept_bytes: u64,
    /// The most mappings that buffers take beside those of connections.
    pub(crate) mappings: u64,
    /// The most mappings that a connection takes beside its thread's.
    pub(crate) mappings_per_connection: u64,
}

impl Default for BufferMemory {
    fn default() -> Self {
        BufferMemory {
            setting: "handler_bytes",
            kept_bytes: 0,
            mappings: 0,
            mappings_per_connection: 0,
        }
    }
}

/// Limits that the system can meet, and what the operator should know about them.
#[derive(Clone, Debug)]
pub(super) struct FittedLimits {
    pub(super) limits: ResourceLimits,
    /// One line per note: a default that shrank, or memory that may not suffice.
    pub(super) notes: Vec<String>,
    /// The stack to ask for, in bytes: [`Config::stack_size`], and the room of thread-local
    /// variables, which glibc takes from what is asked for.
    pub(super) stack_size: Option<usize>,
    /// Bytes of address space that a connection's thread reserves.
    pub(super) addresses_per_thread: u64,
    /// Memory mappings of each thread.
    pub(super) mappings_per_thread: u64,
}

/// Computes the limits of `config`, and lowers a default `max_connections` to what the system can
/// meet. Must be called before listeners are bound, or their descriptors would be counted twice.
///
/// # Errors
/// The tightest limit of the system, if it does not allow the `max_connections` that was asked for,
/// or not even one connection. Memory never is an error: most loads touch far less than the limit,
/// so a lack of memory is only a note.
pub(super) fn fit(
    config: &Config,
    requirements: &Requirements,
    system: &System,
) -> Result<FittedLimits, LimitError> {
    let tightest = system_limits(config, requirements, system)
        .into_iter()
        .min_by_key(SystemLimit::fits);
    let mut notes = Vec::new();
    let max_connections = match tightest {
        None => default_or(config.max_connections),
        Some(limit) => {
            let (asked, fits) = (default_or(config.max_connections), limit.fits());
            if fits == 0 || (config.max_connections.is_some() && asked > fits) {
                return Err(limit.error(config.max_connections.unwrap_or(1)));
            }
            if asked > fits {
                notes.push(limit.note(&requirements.names.of("max_connections")));
            }
            asked.min(fits)
        }
    };
    if system.is_without_proc {
        notes.push(WITHOUT_PROC.to_owned());
    }
    let limits = limits(max_connections, config, requirements, system);
    let memory_bytes = limits.memory_with_malloc_bytes();
    if let Some(level) = &system.memory
        && memory_bytes > level.max
    {
        let without_malloc = match limits.memory_bytes <= level.max {
            true => "set MALLOC_ARENA_MAX=1 and GLIBC_TUNABLES=glibc.malloc.tcache_count=0, or ",
            false => "",
        };
        let lower = [
            "max_connections",
            "buffer_bytes",
            requirements.memory.setting,
        ];
        let lower = lower.map(|setting| requirements.names.of(setting));
        notes.push(format!(
            "up to {} of memory may be needed, but {} is {}: {without_malloc}lower {}, {} or {}",
            Bytes(memory_bytes),
            level.limit,
            Bytes(level.max),
            lower[0],
            lower[1],
            lower[2]
        ));
    }
    Ok(FittedLimits {
        limits,
        notes,
        stack_size: stack_bytes(config, system),
        addresses_per_thread: addresses_per_thread(config, system),
        mappings_per_thread: mappings_per_thread(requirements, system),
    })
}

fn default_or(asked: Option<usize>) -> usize {
    asked.unwrap_or(Config::DEFAULT_MAX_CONNECTIONS)
}

fn limits(
    max_connections: usize,
    config: &Config,
    requirements: &Requirements,
    system: &System,
) -> ResourceLimits {
    let connections = max_connections as u64;
    let per_connection = TOUCHED_PER_THREAD.saturating_add(handler_bytes(config, requirements));
    let slots = SLOT_BYTES.saturating_mul(config.buffer_messages as u64);
    let sockets = system
        .receive_buffer_max
        .saturating_add(system.send_buffer_max);
    let threads = sum([system.own_threads, new_threads(requirements), connections]);
    let arenas = threads.min(system.arenas_max);
    ResourceLimits {
        max_connections,
        threads,
        descriptors: sum([descriptors_without(requirements, system), connections]),
        memory_bytes: sum([
            connections.saturating_mul(per_connection),
            (requirements.tls.connections.min(connections)).saturating_mul(requirements.tls.bytes),
            requirements.tls.loaded_bytes,
            TOUCHED_PER_LISTENER.saturating_mul(requirements.listeners as u64),
            config.buffer_bytes as u64,
            slots,
            requirements.memory.kept_bytes,
            requirements.outputs.memory_bytes,
            TOUCHED_PER_THREAD.saturating_mul(requirements.outputs.threads),
            sum([new_threads(requirements), connections])
                .saturating_mul(touched_of_thread_locals(system)),
            list_bytes(config),
            requirements.own_list_bytes,
            requirements.told_bytes,
            requirements.other_bytes,
            MEMORY_OF_PROCESS,
        ]),
        arena_memory_bytes: beside_the_first(arenas).saturating_mul(config.buffer_bytes as u64),
        thread_cache_memory_bytes: threads.saturating_mul(system.thread_cache_bytes),
        kernel_memory_bytes: connections.saturating_mul(sockets),
    }
}

/// What each thread touches beside [`TOUCHED_PER_THREAD`], because the program or a library of its
/// has many thread-local variables. librdkafka has 15 KiB of buffers for what it prints, and its
/// build has no option against that (rdposix.h, rdaddr.c). By what the process has and not by a
/// feature: a program that embeds the library may have as many of its own.
fn touched_of_thread_locals(system: &System) -> u64 {
    let more = system
        .thread_local_bytes
        .saturating_sub(THREAD_LOCALS_WITHIN);
    more.checked_next_multiple_of(PAGE).unwrap_or(more)
}

/// Bytes of the lists that listeners have in common.
fn list_bytes(config: &Config) -> u64 {
    sum([
        shared_bytes(&config.per_ip_exempt),
        shared_bytes(&config.allow),
        shared_bytes(&config.proxy_from),
    ])
}

fn beside_the_first(arenas: u64) -> u64 {
    arenas.saturating_sub(1)
}

/// The number of threads that will start, without the handlers'.
pub(super) fn new_threads(requirements: &Requirements) -> u64 {
    sum([
        requirements.listeners as u64,
        OWN_THREADS,
        requirements.other_threads,
        requirements.outputs.threads,
    ])
}

fn mappings_per_thread(requirements: &Requirements, system: &System) -> u64 {
    match system.is_without_signal_stacks && !requirements.has_spawner {
        true => MAPPINGS_WITHOUT_SIGNAL_STACK,
        false => MAPPINGS_PER_THREAD,
    }
}

/// The number of descriptors of the whole process, without the connections'.
pub(super) fn descriptors_without(requirements: &Requirements, system: &System) -> u64 {
    let of_listeners = DESCRIPTORS_PER_LISTENER.saturating_mul(requirements.listeners as u64);
    sum([
        system.open_descriptors,
        of_listeners,
        requirements.other_descriptors,
        requirements.outputs.descriptors,
    ])
}

/// One limit of the system, and what the process needs of it for a number of connections.
#[derive(Debug)]
struct SystemLimit {
    limit: String,
    unit: &'static str,
    allows: u64,
    /// Needed without any connection, including what is in use already.
    fixed: u64,
    per_connection: u64,
    /// Needed for each connection on top, until that adds up to the second number.
    at_first: (u64, u64),
}

impl SystemLimit {
    fn fits(&self) -> usize {
        let (each, most) = self.at_first;
        let fits = |fixed: u64, per_connection: u64| {
            let left = self.allows.saturating_sub(fixed);
            usize::try_from(left / per_connection.max(1)).unwrap_or(usize::MAX)
        };
        let beyond = fits(self.fixed.saturating_add(most), self.per_connection);
        beyond.max(fits(self.fixed, self.per_connection.saturating_add(each)))
    }

    fn needed(&self, connections: usize) -> u64 {
        let (each, most) = self.at_first;
        let connections = connections as u64;
        sum([
            self.fixed,
            self.per_connection.saturating_mul(connections),
            each.saturating_mul(connections).min(most),
        ])
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

    fn note(&self, max_connections: &str) -> String {
        let default = Config::DEFAULT_MAX_CONNECTIONS;
        format!(
            "{max_connections} is {} instead of the default {default}, which needs {} {}, but {} is {}",
            self.fits(),
            self.needed(default),
            self.unit,
            self.limit,
            self.allows
        )
    }
}

/// Every limit of the system that applies.
fn system_limits(
    config: &Config,
    requirements: &Requirements,
    system: &System,
) -> Vec<SystemLimit> {
    let threads = |limit: &str, allows: Option<u64>, taken: u64| {
        allows.map(|allows| SystemLimit {
            limit: limit.to_owned(),
            unit: "threads",
            allows,
            fixed: taken.saturating_add(new_threads(requirements)),
            per_connection: 1,
            at_first: (0, 0),
        })
    };
    // A container may be shown fewer threads of the machine than it has itself.
    let running = system.all_threads.max(system.own_threads);
    let descriptors = system.descriptors_max.map(|allows| SystemLimit {
        limit: "RLIMIT_NOFILE (ulimit -n)".to_owned(),
        unit: "descriptors",
        allows,
        fixed: descriptors_without(requirements, system),
        per_connection: 1,
        at_first: (0, 0),
    });
    let per_thread = mappings_per_thread(requirements, system);
    let mappings = system.mappings_max.map(|allows| SystemLimit {
        limit: "vm.max_map_count".to_owned(),
        unit: "memory mappings",
        allows,
        fixed: sum([
            system.mappings,
            SPARE_MAPPINGS,
            per_thread.saturating_mul(new_threads(requirements)),
            requirements.memory.mappings,
        ]),
        per_connection: per_thread.saturating_add(requirements.memory.mappings_per_connection),
        at_first: (0, 0),
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
        address_space(config, requirements, system),
        data(config, requirements, system),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// RLIMIT_AS counts what is reserved, touched or not: whole stacks, and malloc's arenas.
fn address_space(
    config: &Config,
    requirements: &Requirements,
    system: &System,
) -> Option<SystemLimit> {
    let to_align = match system.arenas_max {
        0 | 1 => 0,
        _ => ADDRESSES_PER_ARENA,
    };
    let reserved = Reserved {
        limit: "RLIMIT_AS (ulimit -v)",
        unit: "bytes of address space",
        allows: system.address_space_max?,
        taken: system.address_space.saturating_add(to_align),
        per_arena: ADDRESSES_PER_ARENA,
    };
    Some(reserved.of(config, requirements, system))
}

/// RLIMIT_DATA counts what only this process may write, touched or not: whole stacks, too, but of
/// an arena only what malloc has made writable.
fn data(config: &Config, requirements: &Requirements, system: &System) -> Option<SystemLimit> {
    let reserved = Reserved {
        limit: "RLIMIT_DATA (ulimit -d)",
        unit: "bytes of data",
        allows: system.data_max?,
        taken: system.data,
        per_arena: WRITABLE_PER_ARENA,
    };
    Some(reserved.of(config, requirements, system))
}

/// A limit of memory that counts what is not touched yet.
struct Reserved {
    limit: &'static str,
    unit: &'static str,
    allows: u64,
    taken: u64,
    /// What an arena has and has not used yet.
    per_arena: u64,
}

impl Reserved {
    /// Each thread gets an arena until there are as many as malloc makes, so a few connections may
    /// fit where all arenas do not.
    fn of(self, config: &Config, requirements: &Requirements, system: &System) -> SystemLimit {
        let limits = limits(0, config, requirements, system);
        // Threads without a connection get an arena first, then those of connections.
        let arenas = limits.threads.min(system.arenas_max);
        let arenas_left = system.arenas_max - arenas;
        // What it keeps is as much as the buffer at most.
        let per_arena = self.per_arena.saturating_add(config.buffer_bytes as u64);
        SystemLimit {
            limit: self.limit.to_owned(),
            unit: self.unit,
            allows: self.allows,
            fixed: sum([
                self.taken,
                limits.memory_bytes,
                limits.thread_cache_memory_bytes,
                new_threads(requirements).saturating_mul(DEFAULT_STACK + BESIDE_STACK),
                per_arena.saturating_mul(beside_the_first(arenas)),
            ]),
            per_connection: sum([
                addresses_per_thread(config, system),
                handler_bytes(config, requirements),
                system.thread_cache_bytes,
            ]),
            at_first: (per_arena, per_arena.saturating_mul(arenas_left)),
        }
    }
}

/// The most bytes of heap that a connection takes.
fn handler_bytes(config: &Config, requirements: &Requirements) -> u64 {
    requirements.opening_bytes.max(config.handler_bytes as u64)
}

fn stack_bytes(config: &Config, system: &System) -> Option<usize> {
    let beside = usize::try_from(touched_of_thread_locals(system)).unwrap_or(usize::MAX);
    Some(config.stack_size?.saturating_add(beside))
}

fn addresses_per_thread(config: &Config, system: &System) -> u64 {
    let stack = stack_bytes(config, system).map_or(DEFAULT_STACK, |bytes| bytes as u64);
    stack.saturating_add(BESIDE_STACK)
}

fn sum<const N: usize>(terms: [u64; N]) -> u64 {
    terms.into_iter().fold(0, u64::saturating_add)
}

/// A number of bytes with a unit and one decimal, rounded up.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = ["KiB", "MiB", "GiB", "TiB"];
        let mut size = self.0 as f64 / 1024.0;
        let mut step = 0;
        // A size that would be rounded to 1024.0 is written in the next unit.
        while size >= 1023.95 && step + 1 < unit.len() {
            size /= 1024.0;
            step += 1;
        }
        let size = (size * 10.0).ceil() / 10.0;
        write!(f, "{size:.1} {}", unit[step])
    }
}

#[cfg(test)]
mod tests;
