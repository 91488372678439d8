//! Bytes that were read, and the memory that they are in.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::MmapMut;

use crate::ingest::framing::OutputFraming;
use crate::server::heap_bytes;

/// From this size on a buffer is a mapping of its own. glibc maps such allocations, too, but raises
/// its threshold to the largest that was freed (mallopt(3), M_MMAP_THRESHOLD), and from then on
/// keeps such buffers among small ones.
pub(crate) const MAPPED_FROM: usize = 128 << 10;
pub(crate) const PAGE: usize = 4096;

/// What a message of `max_message` bytes takes of the buffer beside its own bytes, at most: its
/// delimiter, the batch around it, and what the allocator or the last page adds. `max_message` and
/// this overhead together must fit into `buffer_bytes`; where a listener has TLS, 320 bytes more,
/// for what the peer's certificate calls it.
pub fn message_overhead_bytes(max_message: usize) -> usize {
    match max_message {
        0..LARGE_MESSAGE => 256,
        _ => 256 + PAGE,
    }
}

/// From this size on a message's buffer may be a mapping, of whole pages.
const LARGE_MESSAGE: usize = MAPPED_FROM - 256;

/// Bytes in memory of a fixed size, which is replaced by larger memory when they outgrow it. All of
/// the memory is initialised, so that a read may go into any part.
pub(crate) struct Buffer {
    memory: Memory,
    len: usize,
}

/// A large buffer that is freed on another thread than the one that allocated it leaves a hole in
/// that thread's arena, between small things that live long: the allocator cannot give it back to
/// the system. A mapping of its own goes back as a whole, whoever frees it.
enum Memory {
    Heap(Box<[u8]>),
    Map(MmapMut),
    /// A mapping that counts among the [`Maps`].
    Counted(Mapping),
}

/// How many mappings may still be made: the system allows a process so many (vm.max_map_count).
#[derive(Clone, Debug)]
pub(crate) struct Maps {
    left: Arc<AtomicUsize>,
}

/// A mapping that counts while it exists.
struct Mapping {
    bytes: MmapMut,
    /// Dropped after the mapping, which counts until it is gone.
    _counted: Counted,
}

struct Counted(Maps);

impl Maps {
    pub(crate) fn new(max: usize) -> Self {
        Maps {
            left: Arc::new(AtomicUsize::new(max)),
        }
    }

    /// `None` if there are as many mappings as may be, or the system refuses one.
    fn map(&self, len: usize) -> Option<Mapping> {
        let less_one = |left: usize| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less_one)
            .ok()?;
        let _counted = Counted(self.clone());
        let bytes = MmapMut::map_anon(len).ok()?;
        Some(Mapping { bytes, _counted })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.left.fetch_add(1, Ordering::Relaxed);
    }
}

impl Buffer {
    /// An empty buffer of `capacity` bytes: in memory of the allocator, or, if it is large, in a
    /// mapping.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let mapping = (capacity >= MAPPED_FROM).then(|| MmapMut::map_anon(capacity));
        let memory = match mapping {
            Some(Ok(mapping)) => Memory::Map(mapping),
            // The limits count every such mapping, so there is one to be had, unless other code of
            // the process took more.
            _ => Memory::Heap(vec![0; capacity].into_boxed_slice()),
        };
        Buffer { memory, len: 0 }
    }

    /// What the memory takes: the allocator's share, or whole pages.
    pub(crate) fn weight(&self) -> usize {
        match &self.memory {
            Memory::Heap(bytes) => heap_bytes(bytes.len()),
            Memory::Map(_) | Memory::Counted(_) => self.capacity().next_multiple_of(PAGE),
        }
    }

    /// An empty buffer of `capacity` bytes in a mapping. Where no mapping is to be had, the
    /// allocator's memory has to do.
    pub(crate) fn mapped(capacity: usize, maps: &Maps) -> Self {
        match maps.map(capacity) {
            Some(mapping) => Buffer {
                memory: Memory::Counted(mapping),
                len: 0,
            },
            None => Buffer::with_capacity(capacity),
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.memory().len()
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Removes the first `len` bytes.
    pub(crate) fn remove_front(&mut self, len: usize) {
        let end = self.len;
        self.memory_mut().copy_within(len..end, 0);
        self.len = end - len;
    }

    /// Reserves capacity for `more` bytes, and not much more.
    pub(crate) fn reserve_exact(&mut self, more: usize) {
        if self.capacity() - self.len < more {
            let mut larger = Buffer::with_capacity(self.len.saturating_add(more));
            larger.append(self);
            *self = larger;
        }
    }

    /// Reserves capacity for `more` bytes. A buffer that has to grow at least doubles, so that each
    /// byte is copied a few times at most.
    #[inline]
    pub(crate) fn reserve(&mut self, more: usize) {
        if self.capacity() - self.len < more {
            self.reserve_exact(more.max(self.len));
        }
    }

    /// Appends `bytes`; capacity grows as in [`reserve`](Buffer::reserve).
    #[inline]
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let end = self.len + bytes.len();
        let at = self.len..end;
        self.memory_mut()[at].copy_from_slice(bytes);
        self.len = end;
    }

    /// Appends a message with its framing.
    pub(crate) fn append_framed(&mut self, message: &[u8], framing: OutputFraming) {
        self.reserve(message.len() + OutputFraming::MAX_BYTES);
        let mut space = [0; OutputFraming::MAX_BYTES];
        let header = framing.header(message.len(), &mut space);
        if !header.is_empty() {
            self.append(header);
        }
        self.append(message);
        if let Some(delimiter) = framing.delimiter() {
            self.append(&[delimiter]);
        }
    }

    /// Lets `read` write into the free capacity, and keeps as many bytes as it says.
    pub(crate) fn fill<E>(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Result<Option<usize>, E>,
    ) -> Result<Option<usize>, E> {
        let free = self.len..self.capacity();
        let got = read(&mut self.memory_mut()[free])?;
        self.len = self.capacity().min(self.len + got.unwrap_or(0));
        Ok(got)
    }

    fn memory(&self) -> &[u8] {
        match &self.memory {
            Memory::Heap(bytes) => bytes,
            Memory::Map(mapping) => mapping,
            Memory::Counted(mapping) => &mapping.bytes,
        }
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Heap(bytes) => bytes,
            Memory::Map(mapping) => mapping,
            Memory::Counted(mapping) => &mut mapping.bytes,
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory()[..self.len]
    }
}

/// An empty buffer without memory.
impl Default for Buffer {
    fn default() -> Self {
        Buffer::from(&[][..])
    }
}

/// A buffer in memory of just this size.
impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Self {
        if bytes.len() < MAPPED_FROM {
            return Buffer {
                len: bytes.len(),
                memory: Memory::Heap(bytes.into()),
            };
        }
        let mut buffer = Buffer::with_capacity(bytes.len());
        buffer.append(bytes);
        buffer
    }
}

/// A buffer in memory of just this size.
impl Clone for Buffer {
    fn clone(&self) -> Self {
        Buffer::from(&self[..])
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Buffer {}

/// Without the bytes: payloads stay out of logs.
impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.len)
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn left(maps: &Maps) -> usize {
        maps.left.load(Ordering::Relaxed)
    }

    /// Adds all that was ever read or appended, in parts, and compares.
    fn grows(mut buffer: Buffer) {
        let mut naive = Vec::new();
        for n in 0..100u8 {
            let part = vec![n; usize::from(n)];
            buffer.append(&part);
            naive.extend(part);
            let read = |free: &mut [u8]| {
                let read = free.len().min(3);
                free[..read].fill(n);
                Ok::<_, ()>(Some(read))
            };
            let read = buffer.fill(read).unwrap().unwrap();
            naive.extend(vec![n; read]);
            assert_eq!(&buffer[..], naive);
            assert!(buffer.capacity() <= 2 * naive.len().max(4096));
        }
    }

    #[test]
    fn no_byte_is_lost_when_a_buffer_outgrows_its_memory() {
        grows(Buffer::default());
        grows(Buffer::with_capacity(5));
        grows(Buffer::mapped(4096, &Maps::new(1)));
    }

    #[test]
    fn what_is_removed_is_the_front() {
        let mut buffer = Buffer::with_capacity(8);
        buffer.append(b"abcdef");
        for (len, left) in [(0, "abcdef"), (4, "ef"), (2, "")] {
            buffer.remove_front(len);
            assert_eq!(&buffer[..], left.as_bytes());
        }
        assert_eq!(buffer.capacity(), 8);
    }

    #[test]
    fn a_read_that_brings_nothing_leaves_it_as_it_was() {
        let mut buffer = Buffer::with_capacity(4);
        buffer.append(b"a");
        assert_eq!(buffer.fill(|_| Ok::<_, ()>(None)), Ok(None));
        assert_eq!(buffer.fill(|_| Err(7)), Err(7));
        assert_eq!(&buffer[..], b"a");
    }

    #[test]
    fn mappings_are_counted_and_the_heap_serves_when_there_is_none_left() {
        let maps = Maps::new(2);
        let mut mapped: Vec<_> = (0..3).map(|_| Buffer::mapped(4096, &maps)).collect();
        assert_eq!(left(&maps), 0);
        assert!(matches!(mapped[1].memory, Memory::Counted(..)));
        assert!(matches!(mapped[2].memory, Memory::Heap(_)));
        assert_eq!(mapped[2].capacity(), 4096);
        // The first buffer outgrows its mapping.
        mapped[0].append(&[1; 4097]);
        assert_eq!(left(&maps), 1);
        drop(mapped);
        assert_eq!(left(&maps), 2);
    }

    #[test]
    fn a_mapping_that_the_system_refuses_is_not_counted() {
        let maps = Maps::new(1);
        assert!(maps.map(usize::MAX).is_none());
        assert_eq!(left(&maps), 1);
    }
}
