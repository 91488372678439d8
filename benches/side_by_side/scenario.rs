//! What a scenario is made of: the work, who takes part, and what is to be reached.

use std::time::Duration;

use crate::figures::Metric;
use crate::peer::Peer;

/// One row of what is to be reached, measured in rounds in which each entrant has its turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) work: Batches,
    pub(crate) sink: Sink,
    pub(crate) entrants: &'static [Entrant],
    pub(crate) targets: &'static [Target],
}

/// What is done to a server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Batches {
    /// Messages of 128 bytes, if not said otherwise, as fast as they go.
    Bulk {
        connections: usize,
        message_bytes: usize,
        duration: Duration,
    },
    /// So many messages a second from each connection, with the time at which each was sent.
    Paced { connections: usize, rate: u32 },
    /// Connect, send a line, wait for the server's end of the connection, and again.
    Churn { clients: usize },
    /// So many connects, one after the other, each with a line, all held open: by a process that
    /// does nothing else.
    CrowdIn { connections: usize },
    /// The same come, and leave all at once.
    CrowdOut { connections: usize },
    /// The same come, and the server is told to end.
    CrowdDrain { connections: usize },
    /// The same come, the server is started anew, and all of them come back.
    Herd { connections: usize },
    /// Connections that sent a line and are quiet; then a burst on some of them, and quiet again.
    Idle {
        connections: usize,
        burst: Option<Burst>,
    },
    /// Clients that send a line, wait for the reply, and again.
    Dialogue { clients: usize },
    /// So many messages a second from each connection, to a sink with such a round trip.
    Far {
        connections: usize,
        rate: u32,
        round_trip: Duration,
    },
    /// Senders in bulk, and a sink that takes nothing for a while.
    Stall { connections: usize },
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Burst {
    pub(crate) connections: usize,
    pub(crate) bytes: usize,
}

impl Batches {
    /// What its figures are for one of.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Batches::Bulk { .. } | Batches::Paced { .. } | Batches::Stall { .. } => "message",
            Batches::Far { .. } => "message",
            Batches::Churn { .. } | Batches::Idle { .. } => "connection",
            Batches::CrowdIn { .. } | Batches::CrowdOut { .. } => "connection",
            Batches::CrowdDrain { .. } | Batches::Herd { .. } => "connection",
            Batches::Dialogue { .. } => "request",
        }
    }

    /// The most connections at a time.
    pub(crate) fn connections(self) -> usize {
        match self {
            Batches::Bulk { connections, .. }
            | Batches::Paced { connections, .. }
            | Batches::Far { connections, .. }
            | Batches::CrowdIn { connections }
            | Batches::CrowdOut { connections }
            | Batches::CrowdDrain { connections }
            | Batches::Herd { connections }
            | Batches::Idle { connections, .. }
            | Batches::Stall { connections } => connections,
            Batches::Churn { clients } | Batches::Dialogue { clients } => clients,
        }
    }
}

/// Where messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sink {
    Null,
    /// Read by the bench, which takes the time of each message there.
    Fifo,
    /// A file in memory.
    Tmpfs,
    /// A file on the disk that the build is on.
    Disk,
    /// A second drainline, which throws away.
    Drainline,
    /// A stream of a Redis of its own.
    Redis,
    /// A server of HTTP that answers at once.
    Http,
    /// A mock of a cluster of Kafka, which cannot be asked what it has.
    Kafka,
}

/// One who takes part: a peer, started in one way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entrant {
    pub(crate) label: &'static str,
    pub(crate) peer: Peer,
    /// Flags that its server gets beside what the scenario asks for.
    pub(crate) flags: &'static [&'static str],
    /// Options of drainline's output, as in a URL.
    pub(crate) options: &'static str,
    /// So many outputs of drainline, all alike.
    pub(crate) outputs: usize,
    /// Drainline's own ledger says when all is delivered, and how much: where a file's length does
    /// not.
    pub(crate) is_by_ledger: bool,
    /// What a server that knows several is told to expect, and how it is sent.
    pub(crate) framing: &'static str,
    pub(crate) sent_as: &'static str,
    /// Instead of the scenario's.
    pub(crate) sink: Option<Sink>,
    /// Instead of the scenario's.
    pub(crate) connections: Option<usize>,
    pub(crate) is_over_tls: bool,
    pub(crate) is_over_unix: bool,
}

impl Entrant {
    pub(crate) const fn new(label: &'static str, peer: Peer) -> Entrant {
        Entrant {
            label,
            peer,
            flags: &[],
            options: "",
            outputs: 1,
            is_by_ledger: false,
            framing: "lines",
            sent_as: "lines",
            sink: None,
            connections: None,
            is_over_tls: false,
            is_over_unix: false,
        }
    }

    pub(crate) const fn labelled(mut self, label: &'static str) -> Entrant {
        self.label = label;
        self
    }

    pub(crate) const fn with(mut self, flags: &'static [&'static str]) -> Entrant {
        self.flags = flags;
        self
    }

    pub(crate) const fn with_options(mut self, options: &'static str) -> Entrant {
        self.options = options;
        self
    }

    pub(crate) const fn with_outputs(mut self, outputs: usize) -> Entrant {
        self.outputs = outputs;
        self
    }

    pub(crate) const fn by_ledger(mut self) -> Entrant {
        self.is_by_ledger = true;
        self
    }

    pub(crate) const fn framed(mut self, framing: &'static str) -> Entrant {
        self.framing = framing;
        self.sent_as = framing;
        self
    }

    pub(crate) const fn sent_as(mut self, framing: &'static str) -> Entrant {
        self.sent_as = framing;
        self
    }

    pub(crate) const fn into(mut self, sink: Sink) -> Entrant {
        self.sink = Some(sink);
        self
    }

    pub(crate) const fn over(mut self, connections: usize) -> Entrant {
        self.connections = Some(connections);
        self
    }

    /// By a Unix socket instead of TCP.
    pub(crate) const fn over_unix(mut self) -> Entrant {
        self.is_over_unix = true;
        self
    }

    pub(crate) const fn over_tls(mut self) -> Entrant {
        self.is_over_tls = true;
        self
    }
}

/// A figure of one entrant held against the same figure of others, or against a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// Whose figure.
    pub(crate) of: &'static str,
    pub(crate) metric: Metric,
    pub(crate) aim: Aim,
    pub(crate) factor: f64,
    pub(crate) plus: f64,
    pub(crate) than: Than,
    /// The number while processors are busy, where it is another.
    pub(crate) number_if_busy: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    AtLeast,
    AtMost,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Than {
    Number(f64),
    /// The lowest of these: whoever is best, where less is better.
    Least(&'static [&'static str]),
    /// The highest of these.
    Most(&'static [&'static str]),
}

impl Target {
    const fn new(of: &'static str, metric: Metric, aim: Aim, factor: f64, than: Than) -> Target {
        Target {
            of,
            metric,
            aim,
            factor,
            plus: 0.0,
            than,
            number_if_busy: None,
        }
    }

    pub(crate) const fn at_least(
        of: &'static str,
        metric: Metric,
        factor: f64,
        than: &'static [&'static str],
    ) -> Target {
        Target::new(of, metric, Aim::AtLeast, factor, Than::Least(than))
    }

    pub(crate) const fn at_least_of_best(
        of: &'static str,
        metric: Metric,
        factor: f64,
        than: &'static [&'static str],
    ) -> Target {
        Target::new(of, metric, Aim::AtLeast, factor, Than::Most(than))
    }

    pub(crate) const fn at_most(
        of: &'static str,
        metric: Metric,
        factor: f64,
        than: &'static [&'static str],
    ) -> Target {
        Target::new(of, metric, Aim::AtMost, factor, Than::Least(than))
    }

    pub(crate) const fn is_at_least(of: &'static str, metric: Metric, number: f64) -> Target {
        Target::new(of, metric, Aim::AtLeast, 1.0, Than::Number(number))
    }

    pub(crate) const fn is_at_most(of: &'static str, metric: Metric, number: f64) -> Target {
        Target::new(of, metric, Aim::AtMost, 1.0, Than::Number(number))
    }

    pub(crate) const fn if_busy(mut self, number: f64) -> Target {
        self.number_if_busy = Some(number);
        self
    }

    pub(crate) const fn plus(mut self, plus: f64) -> Target {
        self.plus = plus;
        self
    }
}
