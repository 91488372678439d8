//! What a message counts against the buffer.

use std::mem::size_of;
use std::sync::Arc;

/// A message that says it holds more is counted as if it held these: sums must not overflow.
pub(super) const MAX_MESSAGES: u64 = u32::MAX as u64;

/// What an item counts against the buffer's two bounds. Asked once, when the item is sent.
///
/// Strings, vectors, boxes, options and pairs have it, and types without a heap such as numbers do, but
/// for bytes: a `Vec<u8>` is one message.
#[diagnostic::on_unimplemented(
    message = "the buffer does not know how many bytes a `{Self}` holds",
    label = "`{Self}` has no weight",
    note = "implement `drainline::Weigh` for it: `bytes` is the sum of `drainline::heap_bytes(capacity)` of what it allocates, 0 if that is nothing"
)]
pub trait Weigh {
    /// Messages that the item holds. An item that says 0 counts as 1, one that says more than 2^32 - 1
    /// as that.
    fn messages(&self) -> u64 {
        1
    }

    /// Heap that the item holds, in bytes: [`heap_bytes`] of each allocation's capacity, not of its
    /// length. The item itself is added to it.
    fn bytes(&self) -> usize;
}

/// What an allocation of `bytes` takes of the heap: glibc's malloc puts 8 bytes before it, hands out
/// multiples of 16, and at least 32 (malloc(3) and its `malloc_usable_size`). A vector of no capacity
/// allocates nothing.
pub fn heap_bytes(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        _ => bytes.saturating_add(8).next_multiple_of(16).max(32),
    }
}

impl Weigh for Vec<u8> {
    fn bytes(&self) -> usize {
        heap_bytes(self.capacity())
    }
}

impl Weigh for String {
    fn bytes(&self) -> usize {
        heap_bytes(self.capacity())
    }
}

impl Weigh for &'static str {
    fn bytes(&self) -> usize {
        0
    }
}

impl<T: Weigh> Weigh for Box<T> {
    fn messages(&self) -> u64 {
        (**self).messages()
    }

    fn bytes(&self) -> usize {
        heap_bytes(size_of::<T>()).saturating_add((**self).bytes())
    }
}

/// Counts the whole of what it shares, as if nobody else had it.
impl<T: Weigh> Weigh for Arc<T> {
    fn messages(&self) -> u64 {
        (**self).messages()
    }

    fn bytes(&self) -> usize {
        let counts = 2 * size_of::<usize>();
        heap_bytes(size_of::<T>() + counts).saturating_add((**self).bytes())
    }
}

impl<T: Weigh> Weigh for Option<T> {
    fn messages(&self) -> u64 {
        self.as_ref().map_or(1, Weigh::messages)
    }

    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, Weigh::bytes)
    }
}

/// As many messages as its items together.
impl<T: Weigh> Weigh for Vec<T> {
    fn messages(&self) -> u64 {
        let messages = self.iter().map(Weigh::messages);
        messages.fold(0, u64::saturating_add)
    }

    fn bytes(&self) -> usize {
        let items = self.iter().map(Weigh::bytes);
        let own = heap_bytes(self.capacity().saturating_mul(size_of::<T>()));
        items.fold(own, usize::saturating_add)
    }
}

/// As many messages as the part that has more.
impl<A: Weigh, B: Weigh> Weigh for (A, B) {
    fn messages(&self) -> u64 {
        self.0.messages().max(self.1.messages())
    }

    fn bytes(&self) -> usize {
        self.0.bytes().saturating_add(self.1.bytes())
    }
}

macro_rules! without_heap {
    ($($Type:ty),+ $(,)?) => {
        $(impl Weigh for $Type {
            fn bytes(&self) -> usize {
                0
            }
        })+
    };
}

without_heap! {
    (), bool, char, u16, u32, u64, u128, usize, i16, i32, i64, i128, isize, f32, f64,
    std::net::IpAddr, std::net::SocketAddr, std::time::Duration, std::time::Instant,
    std::time::SystemTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_others_weighs_what_they_do_and_itself() {
        let text = || String::with_capacity(100);
        let one = heap_bytes(100);
        assert_eq!((text().messages(), text().bytes()), (1, one));
        assert_eq!(
            Box::new(text()).bytes(),
            one + heap_bytes(size_of::<String>())
        );
        assert_eq!(
            Arc::new(text()).bytes(),
            one + heap_bytes(size_of::<String>() + 16)
        );
        assert_eq!((Some(text()).bytes(), None::<String>.bytes()), (one, 0));
        assert_eq!(None::<String>.messages(), 1);
        let pair = (vec![text(), text()], 7_u64);
        let own = heap_bytes(2 * size_of::<String>());
        assert_eq!((pair.messages(), pair.bytes()), (2, own + 2 * one));
        assert_eq!((vec![0_u8; 50].messages(), ().bytes()), (1, 0));
    }
}
