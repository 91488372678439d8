//! The kernel's table of the process's descriptors.

use std::fs::File;

use rustix::io::fcntl_dupfd_cloexec;

/// Gives the table its size for so many descriptors, before the first client comes.
///
/// The kernel doubles the table when it is full, and in a process of several threads whoever opens
/// the next descriptor then waits until every processor has passed through the scheduler: 10 to 20
/// ms each time (`expand_fdtable` in the kernel's fs/file.c, synchronize_rcu), in which thousands
/// of clients come and overflow the kernel's queue. The table takes 8 bytes for each descriptor and
/// never shrinks. Where it cannot grow now, it grows later.
pub(in crate::server) fn grow(descriptors: u64) {
    let highest = i32::try_from(descriptors.saturating_sub(1));
    if let (Ok(highest), Ok(any)) = (highest, File::open("/dev/null")) {
        let _ = fcntl_dupfd_cloexec(&any, highest);
    }
}
