//! Messages as they are sent, and as they are written out.

use drainline::ingest::{Framing, OutputFraming};

/// A message as a sender in this framing sends it; in `Syslog`, as a line.
pub fn input(framing: Framing, message: &[u8]) -> Vec<u8> {
    match framing {
        Framing::Nul => output(OutputFraming::Nul, message),
        Framing::OctetCounted => output(OutputFraming::OctetCounted, message),
        Framing::LengthPrefixed => output(OutputFraming::LengthPrefixed, message),
        Framing::Lines | Framing::Syslog => output(OutputFraming::Lines, message),
        other => panic!("a framing that is not known here: {other}"),
    }
}

/// A message as it is written out.
pub fn output(framing: OutputFraming, message: &[u8]) -> Vec<u8> {
    let len = message.len();
    let (before, after): (Vec<u8>, &[u8]) = match framing {
        OutputFraming::Lines => (vec![], b"\n"),
        OutputFraming::Nul => (vec![], b"\0"),
        OutputFraming::OctetCounted => (format!("{len} ").into_bytes(), b""),
        OutputFraming::LengthPrefixed => (u32::try_from(len).unwrap().to_be_bytes().to_vec(), b""),
        other => panic!("an output framing that is not known here: {other}"),
    };
    [&before, message, after].concat()
}
