//! Thread-local variables of the program: glibc gives them to every thread, and the limits count
//! them.

use std::cell::RefCell;
use std::hint::black_box;
use std::io::Write;

use super::builder;
use crate::common::client;
use crate::common::embedded::{self, Embedded};
use crate::common::idle;
use crate::common::wait::DEADLINE;

const BYTES: usize = 32 << 10;

thread_local! {
    static LARGE: RefCell<[u8; BYTES]> = const { RefCell::new([0; BYTES]) };
}

#[test]
fn child_entry() {
    match embedded::role().as_deref() {
        Some("idle") => {
            // Else a linker would leave them out.
            LARGE.with_borrow_mut(|bytes| bytes[0] = 1);
            idle::serve();
        }
        Some("deep") => deep(),
        Some(other) => panic!("no such role: {other}"),
        None => {}
    }
}

#[test]
fn those_of_the_program_are_in_the_memory_of_each_connection_and_in_the_limits() {
    let (peak, limit) = idle::measure("thread_locals::child_entry");
    assert!(peak > 1_000 * BYTES as u64, "they take {peak} bytes");
    assert!(peak <= limit, "{peak} of {limit} bytes");
}

/// In the child: a handler that needs most of the least stack. Without optimisation the array is
/// there twice.
fn deep() {
    LARGE.with_borrow_mut(|bytes| bytes[0] = 1);
    let server = builder::<Vec<u8>>(|config| config.stack_size = Some(64 << 10))
        .start_each(
            |conn, _| {
                let deep = black_box([1_u8; 20 << 10]);
                conn.write_all(&deep[..3])?;
                Ok(())
            },
            |_| Ok(()),
        )
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    let (answer, _) = client::read_to_end(&mut client);
    server.shutdown(DEADLINE);
    embedded::tell(&format!("answer {answer:?}"));
}

/// glibc takes their room from the stack that is asked for.
#[test]
fn they_take_nothing_from_the_stack_that_was_asked_for() {
    let mut child = Embedded::start("thread_locals::child_entry", "deep", &[]);
    assert_eq!(child.wait_line("answer "), "[1, 1, 1]");
    assert_eq!(child.end(), Some(0), "{}", child.told());
}
