//! Read buffers that come back from the sink.

use parking_lot::Mutex;

/// Buffers of one size. Keeps a few; what comes on top is freed.
#[derive(Debug)]
pub(super) struct Pool {
    buffer_bytes: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    /// Buffers kept while nobody uses them: enough for a burst of reads to find one each, little enough to
    /// be left out of the memory bound's small print.
    pub(super) const MOST: usize = 16;

    pub(super) fn new(buffer_bytes: usize) -> Self {
        Pool {
            buffer_bytes,
            free: Mutex::new(Vec::with_capacity(Self::MOST)),
        }
    }

    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// An empty buffer with room for [`buffer_bytes`](Pool::buffer_bytes).
    pub(super) fn take(&self) -> Vec<u8> {
        let kept = self.free.lock().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(self.buffer_bytes))
    }

    /// Takes a buffer back, if it is one of these.
    pub(super) fn put(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() != self.buffer_bytes {
            return;
        }
        buffer.clear();
        let mut free = self.free.lock();
        if free.len() < Self::MOST {
            free.push(buffer);
        }
    }

    /// What `buffer` holds, in memory of its own size; the buffer comes back.
    pub(super) fn right_sized(&self, buffer: Vec<u8>) -> Vec<u8> {
        let right_sized = Vec::from(&buffer[..]);
        self.put(buffer);
        right_sized
    }
}
