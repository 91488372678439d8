//! Who can take part.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// The program, on its defaults but for what a scenario needs.
    Drainline,
    /// The library in a server that replies: this very program, started with another argument.
    Library,
    Go,
    /// Two workers.
    Tokio,
    TokioOneThread,
    /// Thread per connection, read and discard: the least that the shape costs.
    Floor,
    /// The same over TLS: read, decrypt, count the lines and discard.
    FloorTls,
    Rsyslog,
    SyslogNg,
    /// The loopback's own limit. Its own load.
    Iperf3,
    /// The load of Redis' own. No server of messages either.
    RedisBenchmark,
    /// A loop that sends the same body again and again. No server of messages.
    UreqLoop,
    /// Lines over TCP into bodies, as one writes that by hand.
    LinesToBulk,
    /// A loop that sends the same record again and again. No server of messages.
    KafkaLoop,
    /// One thread that writes from memory: a file's own limit. No server at all.
    WriteCall,
    /// The same, with an fdatasync(2) behind so many bytes each time: the disk's own limit.
    WriteAndSync(usize),
}

impl Peer {
    /// A thread for each connection. Of the others nobody knows which thread belongs to what.
    pub(crate) fn has_thread_each(self) -> bool {
        matches!(
            self,
            Peer::Drainline | Peer::Library | Peer::Floor | Peer::FloorTls
        )
    }
}
