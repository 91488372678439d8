//! Every limit of the system is hit, and named in the error or note.

#![allow(clippy::unwrap_used)]

use super::system::Level;
use super::*;

const NEEDS: Requirements = Requirements {
    listeners: 1,
    other_threads: 1,
    other_descriptors: 2,
    outputs: OutputNeeds {
        threads: 0,
        descriptors: 0,
        memory_bytes: 0,
    },
    has_spawner: false,
    own_list_bytes: 0,
    told_bytes: 0,
    other_bytes: 0,
    opening_bytes: 0,
    memory: BufferMemory {
        setting: "handler_bytes",
        kept_bytes: 1 << 20,
        mappings: 30,
        mappings_per_connection: 0,
    },
    tls: TlsMemory {
        bytes: 0,
        connections: 0,
        loaded_bytes: 0,
    },
    names: SettingNames(str::to_owned),
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

/// `system` allows `fits` connections and no more: so many can be asked for, one more is refused
/// because of `limit`, and the default shrinks to `fits`.
#[track_caller]
fn holds_exactly(system: &System, limit: &str, allows: u64, fits: usize) {
    let granted = fit(&asking(fits), &NEEDS, system).unwrap();
    assert_eq!(granted.limits.max_connections, fits);
    assert_eq!(granted.notes, [""; 0]);

    let error = fit(&asking(fits + 1), &NEEDS, system).unwrap_err();
    assert_eq!(
        (&*error.limit, error.allows, error.fits),
        (limit, allows, fits)
    );
    assert_eq!(error.max_connections, fits + 1);
    assert!(error.needed > allows, "{error}");

    let shrunk = fit(&Config::default(), &NEEDS, system).unwrap();
    assert_eq!(shrunk.limits.max_connections, fits);
    assert_eq!(shrunk.notes.len(), 1);
    let start = format!("max_connections is {fits} instead of the default 1024, which needs ");
    assert!(shrunk.notes[0].starts_with(&start), "{}", shrunk.notes[0]);
    let end = format!(", but {limit} is {allows}");
    assert!(shrunk.notes[0].ends_with(&end), "{}", shrunk.notes[0]);
    assert!(!shrunk.notes[0].contains('\n'));
}

#[test]
fn without_limits_the_default_stands_and_the_bound_adds_up() {
    let mut system = free();
    (system.receive_buffer_max, system.send_buffer_max) = (6 << 20, 4 << 20);
    let FittedLimits { limits, notes, .. } = fit(&Config::default(), &NEEDS, &system).unwrap();
    assert_eq!(notes, [""; 0]);
    assert_eq!(
        limits,
        ResourceLimits {
            max_connections: 1024,
            threads: 1 + 1 + 4 + 1 + 1024,
            descriptors: 5 + 4 + 2 + 1024,
            memory_bytes: 1024 * (80 << 10)
                + (48 << 10)
                + (64 << 20)
                + 1_600_000
                + (1 << 20)
                + MEMORY_OF_PROCESS,
            arena_memory_bytes: 0,
            thread_cache_memory_bytes: 0,
            kernel_memory_bytes: 1024 * (10 << 20),
        }
    );
    assert_eq!(
        limits.to_string(),
        format!(
            "at most 1024 connections, 1031 threads, 1035 descriptors, {} of memory",
            Bytes(limits.memory_bytes)
        )
    );
}

#[test]
fn unknown_socket_buffers_are_not_claimed_to_be_free() {
    let text = fit(&asking(10), &NEEDS, &free())
        .unwrap()
        .limits
        .to_string();
    assert!(text.ends_with("of memory"), "{text}");
}

#[test]
fn descriptors() {
    let mut system = free();
    system.descriptors_max = Some(256);
    holds_exactly(&system, "RLIMIT_NOFILE (ulimit -n)", 256, 245);
    let error = fit(&asking(5000), &NEEDS, &system).unwrap_err();
    assert_eq!(
        error.to_string(),
        "max_connections 5000 needs 5011 descriptors, but RLIMIT_NOFILE (ulimit -n) is 256; the most \
         that fits is 245"
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
    system.mappings_max = Some(40 + 256 + 30 + 4 * (6 + 500) + 3);
    holds_exactly(&system, "vm.max_map_count", 2353, 500);
}

#[test]
fn the_default_mappings_hold_15000_threads_with_and_31000_without_signal_stacks() {
    let mut system = free();
    system.mappings_max = Some(65_530);
    let requirements = Requirements {
        memory: BufferMemory {
            mappings: 2048,
            ..NEEDS.memory
        },
        ..NEEDS
    };
    let error = fit(&asking(20_000), &requirements, &system).unwrap_err();
    assert_eq!((&*error.limit, error.fits), ("vm.max_map_count", 15_790));
    system.is_without_signal_stacks = true;
    let error = fit(&asking(40_000), &requirements, &system).unwrap_err();
    assert_eq!((&*error.limit, error.fits), ("vm.max_map_count", 31_587));
}

/// What an embedder's spawner does beside starting a thread is not known.
#[test]
fn threads_without_a_signal_stack_take_half_of_the_mappings_unless_a_spawner_makes_them() {
    let mut system = free();
    system.is_without_signal_stacks = true;
    system.mappings_max = Some(40 + 256 + 30 + 2 * (6 + 500) + 1);
    holds_exactly(&system, "vm.max_map_count", 1339, 500);
    let spawned = Requirements {
        has_spawner: true,
        ..NEEDS
    };
    let error = fit(&asking(500), &spawned, &system).unwrap_err();
    assert_eq!((&*error.limit, error.fits), ("vm.max_map_count", 247));
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
        "max_connections 1 needs 12 descriptors, but RLIMIT_NOFILE (ulimit -n) is 10; not even one \
         connection fits"
    );
}

/// Counts all of malloc's arenas, or only a few where few connections fit beside all of them.
#[test]
fn address_space_is_counted_with_whole_stacks_and_arenas() {
    let mut system = free();
    system.arenas_max = 16;
    let config = asking(1);
    // What the process has and holds without a connection, seven threads, and space to align an
    // arena.
    let own = limits(0, &config, &NEEDS, &system);
    let fixed = own.memory_bytes + 6 * (DEFAULT_STACK + BESIDE_STACK) + ADDRESSES_PER_ARENA;
    let connection = DEFAULT_STACK + BESIDE_STACK + config.handler_bytes as u64;
    let arena = ADDRESSES_PER_ARENA + config.buffer_bytes as u64;
    let limit = "RLIMIT_AS (ulimit -v)";
    let all = fixed + 15 * arena;
    system.address_space_max = Some(all + 500 * connection + connection - 1);
    holds_exactly(&system, limit, all + 501 * connection - 1, 500);
    let few = fixed + (own.threads - 1) * arena;
    let with_arena = connection + arena;
    system.address_space_max = Some(few + 3 * with_arena);
    holds_exactly(&system, limit, few + 3 * with_arena, 3);
    system.address_space_max = Some(few + with_arena - 1);
    let error = fit(&config, &NEEDS, &system).unwrap_err();
    assert_eq!((error.fits, error.unit), (0, "bytes of address space"));
}

/// Stacks count whole, but not what an arena has reserved.
#[test]
fn data_is_counted_with_whole_stacks_and_what_arenas_may_keep() {
    let mut system = free();
    (system.arenas_max, system.data) = (2, 1 << 20);
    let config = asking(1);
    let own = limits(0, &config, &NEEDS, &system);
    let arena = WRITABLE_PER_ARENA + config.buffer_bytes as u64;
    let stacks = 6 * (DEFAULT_STACK + BESIDE_STACK);
    let fixed = (1 << 20) + own.memory_bytes + stacks + arena;
    let connection = DEFAULT_STACK + BESIDE_STACK + config.handler_bytes as u64;
    let allows = fixed + 100 * connection;
    system.data_max = Some(allows);
    holds_exactly(&system, "RLIMIT_DATA (ulimit -d)", allows, 100);
}

/// malloc's first arena grows as it is used: nothing is reserved for it.
#[test]
fn address_space_with_one_arena_is_that_of_memory_and_stacks() {
    let mut system = free();
    system.arenas_max = 1;
    system.thread_cache_bytes = 100_000;
    let config = asking(1);
    let own = limits(0, &config, &NEEDS, &system);
    let caches = own.threads * system.thread_cache_bytes;
    let fixed = own.memory_bytes + caches + 6 * (DEFAULT_STACK + BESIDE_STACK);
    let connection = DEFAULT_STACK + BESIDE_STACK + config.handler_bytes as u64 + 100_000;
    let allows = fixed + 100 * connection;
    system.address_space_max = Some(allows);
    holds_exactly(&system, "RLIMIT_AS (ulimit -v)", allows, 100);
}

/// There are as many arenas as malloc makes, or as there are threads.
#[test]
fn arenas_beside_the_first_may_each_keep_a_buffer_and_the_text_says_what_ends_that() {
    let mut system = free();
    system.arenas_max = 16;
    let of =
        |connections, system: &System| fit(&asking(connections), &NEEDS, system).unwrap().limits;
    assert_eq!(of(100, &system).arena_memory_bytes, 15 * (64 << 20));
    assert_eq!(of(2, &system).arena_memory_bytes, (7 + 2 - 1) * (64 << 20));
    let text = of(100, &system).to_string();
    let said = "of memory (and up to 960.0 MiB in malloc's arenas unless MALLOC_ARENA_MAX is 1)";
    assert!(text.ends_with(said), "{text}");
    system.receive_buffer_max = 1 << 20;
    let text = of(100, &system).to_string();
    assert!(text.ends_with(said), "{text}");
    system.arenas_max = 1;
    assert_eq!(of(100, &system).arena_memory_bytes, 0);
}

/// Each thread has a cache; there are seven threads beside those of connections.
#[test]
fn caches_of_threads_are_counted_for_each_and_the_text_says_what_ends_them() {
    let mut system = free();
    system.thread_cache_bytes = 1 << 20;
    let limits = fit(&asking(100), &NEEDS, &system).unwrap().limits;
    assert_eq!(limits.threads, 107);
    assert_eq!(limits.thread_cache_memory_bytes, 107 << 20);
    let text = limits.to_string();
    let said = "(and up to 107.0 MiB in malloc's caches of threads unless GLIBC_TUNABLES has \
        glibc.malloc.tcache_count=0)";
    assert!(text.ends_with(said), "{text}");
    assert_eq!(
        limits.memory_with_malloc_bytes(),
        limits.memory_bytes + (107 << 20)
    );
}

#[test]
fn what_is_not_known_without_proc_is_said() {
    let mut system = free();
    system.is_without_proc = true;
    let notes = fit(&asking(10), &NEEDS, &system).unwrap().notes;
    assert_eq!(notes, [WITHOUT_PROC]);
}

#[test]
fn memory_that_only_malloc_keeps_is_warned_of_with_what_ends_it() {
    let mut system = free();
    system.arenas_max = 16;
    system.memory = level("memory.max of /sys/fs/cgroup/foo", 512 << 20, 0);
    let FittedLimits { limits, notes, .. } = fit(&asking(10), &NEEDS, &system).unwrap();
    let all = Bytes(limits.memory_with_malloc_bytes());
    assert_eq!(notes.len(), 1);
    let said = format!(
        "up to {all} of memory may be needed, but memory.max of /sys/fs/cgroup/foo is 512.0 MiB: set \
         MALLOC_ARENA_MAX=1 and GLIBC_TUNABLES=glibc.malloc.tcache_count=0, or lower max_connections"
    );
    assert!(notes[0].contains(&said), "{}", notes[0]);
    system.arenas_max = 1;
    assert_eq!(fit(&asking(10), &NEEDS, &system).unwrap().notes, [""; 0]);
}

#[test]
fn memory_only_warns() {
    let mut system = free();
    system.memory = level("memory.max of /sys/fs/cgroup/foo", 128 << 20, 0);
    for config in [Config::default(), asking(1024)] {
        let FittedLimits { limits, notes, .. } = fit(&config, &NEEDS, &system).unwrap();
        assert_eq!(limits.max_connections, 1024);
        assert_eq!(
            notes,
            [format!(
                "up to {} of memory may be needed, but memory.max of /sys/fs/cgroup/foo is 128.0 MiB: \
                 lower max_connections, buffer_bytes or handler_bytes",
                Bytes(limits.memory_bytes)
            )]
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
        is_without_proc: false,
        descriptors_max: Some(most),
        open_descriptors: most,
        own_threads: most,
        all_threads: most,
        threads_max: Some(most),
        pid_max: Some(0),
        pids: level("p", 0, most),
        mappings_max: Some(most),
        mappings: most,
        is_without_signal_stacks: false,
        memory: level("m", 0, most),
        address_space_max: Some(most),
        address_space: most,
        data_max: Some(most),
        data: most,
        arenas_max: most,
        thread_cache_bytes: most,
        thread_local_bytes: most,
        receive_buffer_max: most,
        send_buffer_max: most,
    };
    let requirements = Requirements {
        listeners: usize::MAX,
        other_threads: most,
        other_descriptors: most,
        memory: BufferMemory {
            setting: "handler_bytes",
            kept_bytes: most,
            mappings: most,
            mappings_per_connection: most,
        },
        ..NEEDS
    };
    let mut config = asking(usize::MAX);
    (config.handler_bytes, config.buffer_bytes) = (usize::MAX, usize::MAX);
    assert_eq!(fit(&config, &requirements, &system).unwrap_err().fits, 0);
    let unlimited = System {
        pids: None,
        pid_max: None,
        threads_max: None,
        mappings_max: None,
        descriptors_max: None,
        address_space_max: None,
        data_max: None,
        ..system
    };
    let fit = fit(&config, &requirements, &unlimited).unwrap();
    assert_eq!(fit.limits.memory_bytes, most);
    assert_eq!(fit.notes.len(), 1);
}

/// What a connection holds before its handler runs is gone by then: the larger of the two counts.
#[test]
fn the_head_of_a_connection_is_counted_where_its_handler_takes_less() {
    let requirements = Requirements {
        opening_bytes: 8 << 10,
        ..NEEDS
    };
    let memory = |requirements, handler_bytes| {
        let mut config = asking(100);
        config.handler_bytes = handler_bytes;
        let fit = fit(&config, requirements, &free()).unwrap();
        fit.limits.memory_bytes
    };
    for (handler_bytes, more) in [(0, 8 << 10), (8 << 10, 0), (64 << 10, 0)] {
        let without = memory(&NEEDS, handler_bytes);
        let with = memory(&requirements, handler_bytes);
        assert_eq!(with, without + 100 * more, "{handler_bytes}");
    }
}

/// By whole pages, for each thread of the server: with one listener 6 beside the connections'.
#[test]
fn thread_local_variables_beside_the_usual_ones_count_for_each_thread() {
    let config = Config {
        stack_size: Some(100_000),
        ..asking(100)
    };
    let fitted = |thread_local_bytes| {
        let system = System {
            thread_local_bytes,
            ..free()
        };
        fit(&config, &NEEDS, &system).unwrap()
    };
    let without = fitted(0);
    for (bytes, pages) in [(416, 0), (512, 0), (513, 1), (512 + 4_096, 1), (16_072, 4)] {
        let fitted = fitted(bytes);
        let touched = pages * 4_096;
        assert_eq!(
            fitted.limits.memory_bytes,
            without.limits.memory_bytes + 106 * touched,
            "{bytes}"
        );
        assert_eq!(fitted.stack_size, Some(100_000 + touched as usize));
        let addresses = without.addresses_per_thread + touched;
        assert_eq!(fitted.addresses_per_thread, addresses);
    }
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

#[test]
fn sessions_count_for_the_connections_that_can_have_one_and_what_is_loaded_once() {
    let memory = |tls| {
        let requirements = Requirements { tls, ..NEEDS };
        let fitted = fit(&asking(100), &requirements, &free()).unwrap();
        fitted.limits.memory_bytes
    };
    let none = memory(TlsMemory::default());
    for (connections, counted) in [(0, 0), (1, 1), (100, 100), (u64::MAX, 100)] {
        let bytes = 1000;
        let loaded_bytes = 77;
        let tls = TlsMemory {
            bytes,
            connections,
            loaded_bytes,
        };
        assert_eq!(memory(tls), none + counted * 1000 + 77, "{connections}");
    }
}

/// A name of control characters takes six bytes for each in JSON, and is there in copies.
#[test]
fn what_is_told_of_a_listener_is_in_the_memory_limit() {
    use crate::server::listener::Listener;
    let any = || Listener::on("127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap());
    let (plain, named) = (
        any().told_bytes(),
        any().named("\u{1}".repeat(255)).told_bytes(),
    );
    assert!(named - plain >= 4 * 6 * 255);
    let memory_of = |told_bytes| {
        let requirements = Requirements {
            told_bytes,
            ..NEEDS
        };
        let fit = fit(&asking(1), &requirements, &free()).unwrap();
        fit.limits.memory_bytes
    };
    assert_eq!(memory_of(named), memory_of(0) + named);
}
