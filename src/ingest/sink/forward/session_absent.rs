//! In the place of TLS, where it is not built in: there is no session.

use std::io::{self, IoSlice};

use socket2::Socket;

#[derive(Debug)]
pub(super) enum Session {}

impl Session {
    pub(super) fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub(super) fn may_be_refused(&self) -> bool {
        match *self {}
    }

    pub(super) fn flush(&mut self, _: &Socket) -> io::Result<bool> {
        match *self {}
    }

    pub(super) fn discard(&mut self, _: &Socket) -> io::Result<u64> {
        match *self {}
    }

    pub(super) fn write_some(
        &mut self,
        _: &Socket,
        _: &[IoSlice<'_>],
    ) -> io::Result<Option<usize>> {
        match *self {}
    }

    pub(super) fn is_inside(&self) -> bool {
        match *self {}
    }

    pub(super) fn close(&mut self, _: &Socket) {
        match *self {}
    }
}
