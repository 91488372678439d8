//! The memory of idle connections, in a program of whoever asks: its thread-local variables are
//! each thread's.

use std::io::Read;

use drainline::{Config, Server};

use super::client;
use super::embedded::{self, Embedded};
use super::handlers::anywhere;
use super::proc;
use super::wait::{DEADLINE, wait_until};

const CONNECTIONS: usize = 1_000;

/// In the child: a server whose handlers hold nothing, so that its limits are those of threads.
pub fn serve() {
    let mut config = Config::default();
    config.max_connections = Some(CONNECTIONS);
    config.buffer_bytes = 4 << 10;
    config.buffer_messages = 8;
    config.handler_bytes = 0;
    let server = Server::builder()
        .config(config)
        .listen(anywhere())
        .serve(|conn| {
            while conn.read(&mut [0; 64])? > 0 {}
            Ok(())
        })
        .unwrap();
    embedded::tell(&format!("limit {}", server.limits().memory_bytes));
    embedded::tell(&format!("addr {}", server.local_addrs()[0]));
    while embedded::hear().is_some() {}
    server.shutdown(DEADLINE);
}

/// Holds resident memory against the limits of [`serve`], which `child_entry` runs as `"idle"`,
/// and returns both in bytes. malloc is as the program has it: one arena, and no caches.
#[track_caller]
pub fn measure(child_entry: &str) -> (u64, u64) {
    let malloc = [
        ("MALLOC_ARENA_MAX", "1"),
        ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0"),
    ];
    let mut child = Embedded::start(child_entry, "idle", &malloc);
    let addr = child.wait_line("addr ").parse().unwrap();
    let clients = client::connect_many(addr, CONNECTIONS);
    wait_until("a thread for each that waits", DEADLINE, || {
        proc::threads(child.pid()) > CONNECTIONS as u64 && proc::is_asleep(child.pid())
    });
    let peak = proc::peak_rss_bytes(child.pid());
    drop(clients);
    let limit = child.wait_line("limit ").parse().unwrap();
    assert_eq!(child.end(), Some(0), "{}", child.told());
    eprintln!("{peak} of {limit} bytes");
    (peak, limit)
}
