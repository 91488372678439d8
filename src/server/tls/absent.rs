//! Stands in for TLS where the feature `tls` is off: no listener has it, and no connection a
//! session.

use std::io;
use std::time::SystemTime;

use super::wire::{Failed, Plain, SendNow, Wire};

/// There is none.
#[derive(Clone, Debug)]
pub(crate) enum Tls {}

/// There is none.
#[derive(Debug)]
pub(crate) enum Session {}

/// There is none.
#[derive(Debug)]
pub(crate) enum Incoming {}

impl Tls {
    pub(crate) fn connection_bytes(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn loaded_bytes(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn is_same(&self, _: &Tls) -> bool {
        match *self {}
    }

    pub(crate) fn note(&self, _: SystemTime) -> Option<String> {
        match *self {}
    }
}

impl Incoming {
    pub(crate) fn progress(&self) -> (u32, bool) {
        match *self {}
    }

    pub(crate) fn unread_bytes(&self) -> u64 {
        match *self {}
    }
}

impl Session {
    pub(crate) fn shake_hands(
        tls: &Tls,
        _: &impl Wire,
    ) -> Result<(Session, Incoming, Option<String>), Failed> {
        match *tls {}
    }

    pub(crate) fn read(
        &self,
        _: &mut Incoming,
        _: &impl Wire,
        _: &mut [u8],
        _: bool,
    ) -> Result<Plain, Failed> {
        match *self {}
    }

    pub(crate) fn send_now(&self, _: &impl SendNow, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn has_sent_all(&self) -> bool {
        match *self {}
    }

    pub(crate) fn close(&self, _: &impl SendNow) {
        match *self {}
    }
}
