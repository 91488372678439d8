//! Read buffers that come back from the sink.

use parking_lot::Mutex;

use super::buffer::{Buffer, MAPPED_FROM, Maps};

/// Buffers of one size, and larger ones for longer messages. The pool keeps buffers that come back,
/// up to a number of bytes, and frees buffers that nobody asked for lately.
#[derive(Debug)]
pub(crate) struct Pool {
    buffer_bytes: usize,
    max_kept: usize,
    maps: Maps,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    free: Vec<Buffer>,
    /// The fewest buffers that were free since the last [`trim`](Pool::trim): so many buffers were
    /// not needed.
    fewest: usize,
    /// Mappings of other sizes. To map and touch a long message's memory anew costs a third of all
    /// work with it.
    large: Vec<Buffer>,
    large_bytes: usize,
    fewest_large: usize,
}

impl Pool {
    /// The most buffers that are mappings of their own, in use or not. Further ones are the
    /// allocator's.
    pub(crate) const MAX_MAPPED: usize = 2048;

    /// How many buffers of a size to keep free at most: as many as the bytes between handlers and
    /// sink can fill, so that in bulk the buffers that come back are those that are asked for next.
    /// A buffer that is not kept costs a page fault for each of its pages, which is a tenth of all
    /// work with 8 connections and a third with 4,096.
    pub(crate) fn worth(buffer_bytes: usize, of_bytes: usize) -> usize {
        (of_bytes / buffer_bytes.max(1)).clamp(16, Self::MAX_MAPPED / 2)
    }

    /// A pool that keeps no buffers and maps none: for one connection.
    pub(crate) fn of_nothing(buffer_bytes: usize) -> Self {
        Pool {
            maps: Maps::new(0),
            ..Pool::new(buffer_bytes, 0)
        }
    }

    pub(crate) fn new(buffer_bytes: usize, max_kept: usize) -> Self {
        let kept = Kept {
            free: Vec::new(),
            fewest: 0,
            large: Vec::new(),
            large_bytes: 0,
            fewest_large: 0,
        };
        Pool {
            buffer_bytes,
            max_kept,
            maps: Maps::new(Self::MAX_MAPPED),
            kept: Mutex::new(kept),
        }
    }

    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// An empty buffer of [`buffer_bytes`](Pool::buffer_bytes).
    pub(crate) fn take(&self) -> Buffer {
        let kept = {
            let mut kept = self.kept.lock();
            let buffer = kept.free.pop();
            kept.fewest = kept.fewest.min(kept.free.len());
            buffer
        };
        kept.unwrap_or_else(|| Buffer::mapped(self.buffer_bytes, &self.maps))
    }

    /// An empty buffer of `capacity` bytes, or of up to half as many more.
    pub(crate) fn take_large(&self, capacity: usize) -> Buffer {
        let kept = {
            let mut kept = self.kept.lock();
            let fits = |buffer: &Buffer| {
                (capacity..=capacity.saturating_add(capacity / 2)).contains(&buffer.capacity())
            };
            let found = kept.large.iter().rposition(fits);
            let buffer = found.map(|index| kept.large.remove(index));
            kept.large_bytes -= buffer.as_ref().map_or(0, Buffer::capacity);
            kept.fewest_large = kept.fewest_large.min(kept.large.len());
            buffer
        };
        kept.unwrap_or_else(|| Buffer::with_capacity(capacity))
    }

    /// Takes a buffer back, if it is of a size that the pool keeps.
    pub(crate) fn put(&self, mut buffer: Buffer) {
        let (capacity, max_bytes) = (buffer.capacity(), self.max_kept * self.buffer_bytes);
        if capacity != self.buffer_bytes && capacity < MAPPED_FROM {
            return;
        }
        buffer.clear();
        let mut kept = self.kept.lock();
        if kept.free.len() * self.buffer_bytes + kept.large_bytes + capacity > max_bytes {
            return;
        }
        if capacity == self.buffer_bytes {
            kept.free.push(buffer);
        } else {
            kept.large.push(buffer);
            kept.large_bytes += capacity;
        }
    }

    /// Copies what `buffer` holds into memory of just that size, and takes the buffer back.
    pub(crate) fn right_sized(&self, buffer: Buffer) -> Buffer {
        let right_sized = Buffer::from(&buffer[..]);
        self.put(buffer);
        right_sized
    }

    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.kept.lock().free.len()
    }

    /// Frees the buffers that nobody has asked for since the last time. Called now and then, by the
    /// one thread that most of them come back from.
    pub(crate) fn trim(&self) {
        let surplus = {
            let mut kept = self.kept.lock();
            // The lowest buffers go first: the ones above were in use last.
            let surplus = kept.fewest.min(kept.free.len());
            let mut surplus: Vec<Buffer> = kept.free.drain(..surplus).collect();
            kept.fewest = kept.free.len();
            let surplus_large = kept.fewest_large.min(kept.large.len());
            surplus.extend(kept.large.drain(..surplus_large));
            kept.large_bytes = kept.large.iter().map(Buffer::capacity).sum();
            kept.fewest_large = kept.large.len();
            surplus
        };
        // Freed outside the lock, since munmap(2) takes its time.
        drop(surplus);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::ingest::{Ingest, Output, sink};
    use crate::server::Config;

    fn hold(pool: &Pool, buffers: usize) {
        let held: Vec<_> = (0..buffers).map(|_| pool.take()).collect();
        held.into_iter().for_each(|buffer| pool.put(buffer));
    }

    #[test]
    fn what_is_in_use_stays_and_the_rest_goes_after_two_looks() {
        let pool = Pool::new(64, 20);
        hold(&pool, 10);
        pool.trim();
        assert_eq!(pool.free(), 10, "they have just been in use");
        hold(&pool, 3);
        pool.trim();
        assert_eq!(pool.free(), 3, "seven were free all the time");
        pool.trim();
        assert_eq!(pool.free(), 0);
        pool.trim();
    }

    #[test]
    fn no_more_are_kept_than_the_limits_count_and_none_of_another_size() {
        let pool = Pool::new(64, 20);
        hold(&pool, 21);
        assert_eq!(pool.free(), 20);
        let pool = Pool::new(64, 20);
        pool.put(Buffer::with_capacity(65));
        pool.put(Buffer::default());
        assert_eq!(pool.free(), 0);
    }

    #[test]
    fn long_messages_buffers_are_kept_within_the_same_bytes() {
        const LARGE: usize = MAPPED_FROM;
        let pool = Pool::new(LARGE / 2, 5);
        let held: Vec<_> = (0..3).map(|_| pool.take_large(LARGE)).collect();
        held.into_iter().for_each(|buffer| pool.put(buffer));
        hold(&pool, 2);
        let bytes = |pool: &Pool| {
            let kept = pool.kept.lock();
            kept.free.len() * LARGE / 2 + kept.large_bytes
        };
        assert_eq!((bytes(&pool), pool.free()), (LARGE / 2 * 5, 1));
        // A buffer of that size is taken, one that is much larger than asked for is not.
        assert!(pool.take_large(LARGE / 2).capacity() < LARGE);
        assert_eq!(pool.take_large(LARGE - 1).capacity(), LARGE);
        assert_eq!(bytes(&pool), LARGE / 2 * 3);
        pool.trim();
        pool.trim();
        assert_eq!(bytes(&pool), 0);
    }

    #[test]
    fn a_server_where_nothing_flows_frees_them() {
        let builder = Ingest::builder().listen((Ipv4Addr::LOCALHOST, 0).into());
        let builder = builder.output(Output::new("null", sink::Null));
        let config = Config::default();
        let shared = Arc::new(builder.shared(&config));
        let _server = builder.start_with(config, Arc::clone(&shared)).unwrap();
        let pool = &shared.pool;
        hold(pool, 10);
        let end = Instant::now() + Duration::from_secs(60);
        while pool.free() > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(pool.free(), 0);
    }
}
