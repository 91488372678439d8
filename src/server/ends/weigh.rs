//! How much of the buffer's capacity a message takes.

use std::mem::size_of;
use std::sync::Arc;

use crate::server::limits::heap_bytes;

/// The most messages that one item counts as, so that sums cannot overflow.
pub(super) const MAX_MESSAGES: u64 = u32::MAX as u64;

/// How much of the buffer's two capacities, messages and bytes, an item takes. Asked once, when the
/// item is sent.
///
/// Implemented for strings, vectors, boxes, options and pairs, for [`Reply`](crate::Reply) and
/// [`Writer`](crate::Writer), and for types without heap memory such as numbers. There is
/// none for `u8`, because a `Vec<u8>` is one message.
#[diagnostic::on_unimplemented(
    message = "the buffer does not know how many bytes a `{Self}` holds",
    label = "`{Self}` has no weight",
    note = "implement `drainline::Weigh` for it: `bytes` is the sum of `drainline::heap_bytes(capacity)` of what it allocates, 0 if that is nothing"
)]
pub trait Weigh {
    /// The number of messages that the item holds. 0 counts as 1, more than 2^32 - 1 as 2^32 - 1.
    fn messages(&self) -> u64 {
        1
    }

    /// The heap memory that the item holds, in bytes: the sum of [`heap_bytes`] of each
    /// allocation's capacity, not of its length. The size of the item itself is added by the
    /// server.
    fn bytes(&self) -> usize;
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

/// Each reference counts the whole of what it shares.
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

impl Weigh for Box<str> {
    fn bytes(&self) -> usize {
        heap_bytes(self.len())
    }
}

impl Weigh for Box<[u8]> {
    fn bytes(&self) -> usize {
        heap_bytes(self.len())
    }
}

impl Weigh for Arc<str> {
    fn bytes(&self) -> usize {
        heap_bytes(self.len() + 2 * size_of::<usize>())
    }
}

impl Weigh for Arc<[u8]> {
    fn bytes(&self) -> usize {
        heap_bytes(self.len() + 2 * size_of::<usize>())
    }
}

/// Counts as many messages as all items together.
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

/// Counts as many messages as the half that has more.
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
    (), bool, char, i8, u16, u32, u64, u128, usize, i16, i32, i64, i128, isize, f32, f64,
    std::net::IpAddr, std::net::SocketAddr, crate::server::peer::Peer, std::time::Duration,
    std::time::Instant,
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
        let (boxed, shared): (Box<str>, Arc<[u8]>) = ("x".repeat(40).into(), [0; 40].into());
        assert_eq!(Weigh::bytes(&boxed), heap_bytes(40));
        assert_eq!(Weigh::bytes(&shared), heap_bytes(40 + 16));
    }

    #[test]
    fn an_allocation_is_rounded_up_as_malloc_does_and_never_overflows() {
        let sizes = [0, 1, 24, 25, 40, 41, usize::MAX - 24, usize::MAX];
        let all = usize::MAX - 15;
        assert_eq!(sizes.map(heap_bytes), [0, 32, 32, 48, 48, 64, all, all]);
    }
}
