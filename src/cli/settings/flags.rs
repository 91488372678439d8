//! The flags of the server, a row each: what it is called, what it does and costs, what it accepts
//! and what it sets.
//!
//! A flag that sets a field of [`drainline::Config`] has the field's name: by that name an error of
//! the library finds its flag. Defaults are those of [`Settings::default`].

use drainline::ingest::MAX_MESSAGE_RANGE;
use drainline::{FirstByteTimeout, PauseAfter, ranges};

use super::Settings;
use super::outputs::Sinks;
#[cfg(feature = "tls")]
use super::tls::tls_rows;
use crate::cli::flag::{Field, Flag, Takes, field};
use crate::cli::kinds::{
    Count, List, Time, Words, auto, choice, list, off, rate, size, time, unset,
};
use crate::cli::listen::Url;
use crate::cli::values::{self, KeepaliveTimes, KnownPeers, Network, Owner, PATH, UnixMode};

/// Every flag, in the order of the helps.
pub(crate) fn flags() -> Vec<Flag<Settings>> {
    let groups = [
        listening(),
        messages(),
        buffer(),
        connections(),
        deadlines(),
        #[cfg(feature = "tls")]
        tls_rows!(Settings, "TLS"),
        performance(),
        output(),
        running(),
    ];
    groups.into_iter().flatten().collect()
}

fn listening() -> Vec<Flag<Settings>> {
    const GROUP: &str = "Listening";
    vec![
        Flag {
            name: "listen",
            group: GROUP,
            purpose: "where to listen",
            help: "Listens on this address, over TCP where it says no other way; several may be \
                   given. A host name stands for its first IPv4 address, or its first \
                   IPv6 address if it has no other. Plain TCP has no authentication: on anything but \
                   a loopback address, whoever reaches the port can send. [::] also accepts IPv4 \
                   clients, unless an IPv4 listener has the same port. unix:PATH makes a Unix socket (stream), \
                   nearly twice as fast as TCP, and takes over one that nobody listens on any more. \
                   systemd:NAME takes the sockets \
                   of that name that a service manager passes (FileDescriptorName= of a socket unit), \
                   systemd: takes all: clients that connect during a restart wait in their queues. \
                   tls://ADDRESS, tls+unix:PATH and tls+systemd:NAME are the same with TLS, with the \
                   certificate of --tls-cert. \
                   Each listener costs one thread and four descriptors.",
            takes: field!(list(Url), Settings.listen),
        },
        Flag {
            name: "backlog",
            group: GROUP,
            purpose: "clients queued by the kernel",
            help: "Lets the kernel queue this many connections that drainline has not accepted yet. \
                   The kernel caps the number at net.core.somaxconn; auto asks for that maximum. \
                   Queued clients cost no thread and no descriptor, but they look connected to \
                   themselves and may already send. With a short queue, clients that come in a burst \
                   may wait seconds until TCP retries their connect.",
            takes: field!(auto(Count(ranges::BACKLOG)), Settings.config.backlog),
        },
        Flag {
            name: "unix-mode",
            group: GROUP,
            purpose: "permissions of Unix sockets",
            help: "Gives Unix sockets that drainline makes these permissions, whatever the umask is. Who \
                   may write to the socket may connect. With 0666 that is every user of the machine, as \
                   for a port on 127.0.0.1.",
            takes: field!(UnixMode, Settings.unix_mode),
        },
        Flag {
            name: "unix-owner",
            group: GROUP,
            purpose: "user and group of Unix sockets",
            help: "Gives Unix sockets that drainline makes this user and this group, each by its name or \
                   id; either may be left out, and auto is the user and the group of drainline's process. A user other than its own, and a group that its own \
                   user is not in, take root.",
            takes: field!(auto(Owner), Settings.unix_owner),
        },
    ]
}

fn messages() -> Vec<Flag<Settings>> {
    const GROUP: &str = "Messages";
    vec![
        Flag {
            name: "framing",
            group: GROUP,
            purpose: "how the input delimits messages",
            help: "How messages are delimited in the input. lines: each ends with LF, and one CR \
                   before it is stripped. nul: each ends with a NUL byte. octet-counted: each follows \
                   its length in decimal and a space (RFC 6587). length-prefixed: each follows its \
                   length in four bytes, big-endian. syslog: octet-counted where a message begins \
                   with a length and a whole priority such as `<13>`, and a line otherwise. An \
                   invalid length closes the connection, and so does one above both 16 times \
                   --max-message and 1 MiB. All but lines and nul cost one more copy of each message.",
            takes: field!(
                choice(values::FRAMING).shown_as("FRAMING"),
                Settings.framing
            ),
        },
        Flag {
            name: "output-framing",
            group: GROUP,
            purpose: "how the output delimits messages",
            help: "How messages are delimited in the output. If a message may contain the delimiter, a \
                   reader of the output would see two messages; drainline warns about that at start.",
            takes: field!(
                choice(values::OUTPUT_FRAMING).shown_as("FRAMING"),
                Settings.output_framing
            ),
        },
        Flag {
            name: "max-message",
            group: GROUP,
            purpose: "longest message",
            help: "Accepts messages up to this length, without the delimiter; --oversize decides what \
                   happens to longer ones. Each connection that is in the middle of a long message \
                   costs this much memory, so it counts towards the memory limit printed at start.",
            takes: field!(size(MAX_MESSAGE_RANGE, "64KiB"), Settings.max_message),
        },
        Flag {
            name: "oversize",
            group: GROUP,
            purpose: "what happens to longer messages",
            help: "What happens to a message longer than --max-message. truncate delivers its beginning \
                   and discards the rest; drop discards all of it; close closes the connection. \
                   Discarded bytes are counted. After truncate and drop, drainline goes on with the \
                   next message.",
            takes: field!(choice(values::OVERSIZE), Settings.oversize),
        },
    ]
}

fn buffer() -> Vec<Flag<Settings>> {
    const GROUP: &str = "Buffer and overload";
    vec![
        Flag {
            name: "buffer-messages",
            group: GROUP,
            purpose: "most messages in the buffer",
            help: "Capacity of the buffer between connections and sink, in messages. The buffer is full \
                   when it reaches this or --buffer-bytes. A larger buffer absorbs longer bursts; it \
                   costs 16 bytes for each message at start, and what it holds is lost in a crash.",
            takes: field!(
                Count(ranges::BUFFER_MESSAGES),
                Settings.config.buffer_messages
            ),
        },
        Flag {
            name: "buffer-bytes",
            group: GROUP,
            purpose: "most memory that they take",
            help: "Capacity of the buffer in bytes of memory. Costs up to this much memory while the \
                   sink is slower than the senders, and up to as much again, at most 72 MiB, for read \
                   buffers under heavy traffic.",
            takes: field!(
                size(ranges::BUFFER_BYTES, "64MiB"),
                Settings.config.buffer_bytes
            ),
        },
        Flag {
            name: "pause-after",
            group: GROUP,
            purpose: "wait that stops accepting",
            help: "Stops accepting new clients once a connection has waited this long for space in the \
                   buffer, and accepts again when the sink makes progress. auto is a sixth of \
                   --send-timeout. Connected clients are not affected; new ones meet --on-overload. \
                   Must be less than --send-timeout, unless --when-full is block.",
            takes: field!(
                Words {
                    words: [("auto", PauseAfter::Auto), ("off", PauseAfter::Off)],
                    kind: time(ranges::PAUSE_AFTER, "5s"),
                    wrap: PauseAfter::After,
                    unwrap: |value| match value {
                        PauseAfter::After(wait) => Some(*wait),
                        _ => None,
                    },
                },
                Settings.config.pause_after
            ),
        },
        Flag {
            name: "on-overload",
            group: GROUP,
            purpose: "new clients while not accepting",
            help: "What happens to new connections while drainline is not accepting: paused, at \
                   --max-connections, or out of descriptors. backlog leaves them in the kernel's queue, \
                   where they wait and look connected. close accepts and closes them at once, so that \
                   a client or a load balancer fails over. refuse rejects their connects, which health \
                   checks see, too; it keeps the port by two more descriptors for each listener. \
                   Connects that have begun when refuse sets in get 200 ms to complete, and are closed \
                   and counted; a new connect meanwhile is answered after a second, when TCP retries \
                   it. One descriptor is reserved for rejecting clients when all others are in use; if \
                   even that is gone, new clients wait, whatever is set here.",
            takes: field!(choice(values::ON_OVERLOAD), Settings.config.on_overload),
        },
        Flag {
            name: "send-timeout",
            group: GROUP,
            purpose: "longest wait for space in the buffer",
            help: "Lets a connection wait this long for space in the full buffer before --when-full \
                   decides. Meanwhile drainline stops reading from that sender, and TCP flow control \
                   slows it down. An outage of the sink that is shorter costs nothing. A longer timeout \
                   survives longer outages, and keeps threads busy for as long.",
            takes: field!(
                time(ranges::SEND_TIMEOUT, "5s"),
                Settings.config.send_timeout
            ),
        },
        Flag {
            name: "when-full",
            group: GROUP,
            purpose: "what follows --send-timeout",
            help: "What happens to a connection that has waited for --send-timeout. abort ends the \
                   connection and loses the messages that it has in hand. drop loses messages, counted, \
                   until there is space again, and keeps the connection. block loses nothing: it waits \
                   as long as it takes, and senders are as slow as the sink.",
            takes: field!(choice(values::WHEN_FULL), Settings.config.when_full),
        },
    ]
}

/// A list of the configuration, where off is an empty one.
macro_rules! off_or_list {
    ($list:expr, $field:ident) => {
        Takes::Value(Box::new(Field {
            kind: off($list),
            get: |settings: &Settings| {
                let list = &settings.config.$field;
                (!list.is_empty()).then(|| list.to_vec())
            },
            set: |settings: &mut Settings, list| {
                settings.config.$field = list.unwrap_or_default().into();
            },
        }))
    };
}

pub(super) const PEERS: List<KnownPeers> = List {
    kind: KnownPeers,
    expected: "networks such as 10.0.0.0/8 and users such as uid:1000, with commas",
};

fn connections() -> Vec<Flag<Settings>> {
    const GROUP: &str = "Connection limits";
    let off_or_rate = |example| off(rate(ranges::RATE_LIMIT, example));
    vec![
        Flag {
            name: "max-connections",
            group: GROUP,
            purpose: "most connections at once",
            help: "Serves at most this many connections at once. Each costs a thread, a descriptor and \
                   about 10 KiB of memory while it is idle (27 KiB in a program with the feature kafka), \
                   and the kernel's socket buffers. auto is \
                   1024, or as many as the system's limits allow; a number above those limits is an \
                   error at start. Further clients meet --on-overload.",
            takes: field!(
                auto(Count(ranges::MAX_CONNECTIONS)),
                Settings.config.max_connections
            ),
        },
        Flag {
            name: "max-connections-per-ip",
            group: GROUP,
            purpose: "most connections of one peer",
            help: "Serves at most this many connections of one peer at once: of one IPv4 address, or of \
                   one IPv6 /64 network, but for peers of Unix sockets. Further ones are accepted and closed. Clients behind one load \
                   balancer or NAT count as one peer, unless --per-ip-exempt names its address, or the \
                   balancer names its clients (--proxy-from).",
            takes: field!(
                off(Count(ranges::MAX_CONNECTIONS_PER_IP)),
                Settings.config.max_connections_per_ip
            ),
        },
        Flag {
            name: "per-ip-exempt",
            group: GROUP,
            purpose: "networks without that limit",
            help: "Exempts these networks from --max-connections-per-ip: load balancers, NAT. \
                   Several may be given; a bare address is a network of one. A peer in \
                   these networks can take every connection there is.",
            takes: off_or_list!(
                List {
                    kind: Network,
                    expected: "networks such as 10.0.0.0/8 or fd00::/8, with commas",
                },
                per_ip_exempt
            ),
        },
        Flag {
            name: "allow",
            group: GROUP,
            purpose: "who may connect",
            help: "Serves only clients of these networks, and over a Unix socket processes of these \
                   users. Others are accepted and closed at once, and counted as not_allowed. Several \
                   may be given; a bare address is a network of one. Behind a balancer (--proxy-from) \
                   it is the client who must be allowed. A list in which no client of a listener can be is \
                   refused. With off, everybody may connect.",
            takes: off_or_list!(PEERS, allow),
        },
        Flag {
            name: "proxy-from",
            group: GROUP,
            purpose: "balancers that name their clients",
            help: "Expects the PROXY protocol, version 1 or 2, on every connection, from balancers in \
                   these networks, and over a Unix socket from processes of these users: HAProxy's \
                   send-proxy and send-proxy-v2, and what other balancers call by its name. The client \
                   that the balancer names is then who is limited, allowed and logged. A connection from \
                   anywhere else is closed (not_allowed), and one without a valid header, too \
                   (protocol_error). Costs two more system calls for each connection. Trust no network \
                   from which clients come: they could give any address.",
            takes: off_or_list!(PEERS, proxy_from),
        },
        Flag {
            name: "rate-limit",
            group: GROUP,
            purpose: "most messages a second of each",
            help: "Reads at most this many messages a second from one connection. TCP flow control slows \
                   faster senders down; nothing is dropped. What is left of a stream that its sender \
                   has closed or reset is read at once.",
            takes: field!(off_or_rate("1000/s"), Settings.config.rate_limit),
        },
        Flag {
            name: "accept-rate",
            group: GROUP,
            purpose: "most new connections a second",
            help: "Accepts at most this many connections a second, over all listeners. Further clients \
                   wait in the kernel's queue, and beyond --backlog until TCP retries their connect.",
            takes: field!(off_or_rate("50/s"), Settings.config.accept_rate),
        },
    ]
}

pub(super) const FIRST_BYTE_TIMEOUT: Words<Time, FirstByteTimeout, 2> = Words {
    words: [
        ("auto", FirstByteTimeout::Auto),
        ("off", FirstByteTimeout::Off),
    ],
    kind: time(ranges::FIRST_BYTE_TIMEOUT, "10s"),
    wrap: FirstByteTimeout::After,
    unwrap: |value| match value {
        FirstByteTimeout::After(wait) => Some(*wait),
        _ => None,
    },
};

fn deadlines() -> Vec<Flag<Settings>> {
    const GROUP: &str = "Deadlines";
    vec![
        Flag {
            name: "frame-timeout",
            group: GROUP,
            purpose: "longest time inside one message",
            help: "Ends a connection that leaves a message incomplete for this long. Time in which \
                   drainline itself holds the connection up does not count, and a sender that is quiet \
                   between messages is never affected. A very slow sender loses its incomplete message; \
                   with off, such senders hold threads for ever.",
            takes: field!(
                off(time(ranges::FRAME_TIMEOUT, "30s")),
                Settings.config.frame_timeout
            ),
        },
        Flag {
            name: "idle-timeout",
            group: GROUP,
            purpose: "longest silence",
            help: "Ends a connection that sends nothing for this long, over TLS not even a part of a record. \
                   Healthy senders that are quiet lose their next message: many write it into the closed \
                   connection without noticing.",
            takes: field!(
                off(time(ranges::IDLE_TIMEOUT, "10m")),
                Settings.config.idle_timeout
            ),
        },
        Flag {
            name: "first-byte-timeout",
            group: GROUP,
            purpose: "longest silence after the connect",
            help: "Ends a connection that has not sent a byte yet. auto leaves such connections alone \
                   until --max-connections keeps clients out; then it ends those that have been silent \
                   for 60 s, the oldest first, and only as many as are needed (with --on-overload refuse, \
                   where nobody sees who is refused, at least one). A time always applies, and ends \
                   senders that connect early and stay quiet. With off, one host that connects and \
                   sends nothing can keep all others out.",
            takes: field!(FIRST_BYTE_TIMEOUT, Settings.config.first_byte_timeout),
        },
        Flag {
            name: "handshake-timeout",
            group: GROUP,
            purpose: "longest handshake",
            help: "Ends a connection on which what comes before the messages is not complete after this \
                   long: with --proxy-from, the header of the PROXY protocol, and then the TLS handshake, \
                   from its begin to its end, however steadily bytes come. The other deadlines begin behind \
                   that. Balancers and clients send it at once, so a shorter time costs only those that are \
                   far away or retransmitted to.",
            takes: field!(
                time(ranges::HANDSHAKE_TIMEOUT, "10s"),
                Settings.config.handshake_timeout
            ),
        },
        Flag {
            name: "keepalive",
            group: GROUP,
            purpose: "TCP probes to quiet peers",
            help: "Sends TCP keepalive probes to quiet peers, and ends the connections of those that do \
                   not answer: after this much silence, then at this interval, this many times. Costs \
                   one small packet a probe. With off, the thread of a dead peer stays until something \
                   else ends it.",
            takes: field!(off(KeepaliveTimes), Settings.config.keepalive),
        },
    ]
}

fn performance() -> Vec<Flag<Settings>> {
    const GROUP: &str = "Performance";
    vec![
        Flag {
            name: "coalesce",
            group: GROUP,
            purpose: "longest delay of a read under load",
            help: "Delays reads by at most this long while the server is busy, which is from 20,000 small \
                   reads a second on. A connection whose messages come close together is then read once \
                   for about four of them, at less than half the CPU time, and the sink's thread waits \
                   half a millisecond for more messages before it sleeps. Costs that much latency, under \
                   load only. off turns both delays off.",
            takes: Takes::Value(Box::new(Field {
                kind: off(time(ranges::MAX_READ_DELAY, "50ms")),
                get: |settings: &Settings| settings.config.max_read_delay,
                set: |settings: &mut Settings, delay| {
                    settings.config.linger = delay.is_some();
                    settings.config.max_read_delay = delay;
                },
            })),
        },
        Flag {
            name: "busy-poll",
            group: GROUP,
            purpose: "look for bytes before sleeping",
            help: "Whether a connection's thread looks for bytes for some 40 us before it sleeps, while \
                   its peer sends that often. A lone sender's messages then arrive without a wake-up, at \
                   the price of CPU time that nobody else needs: at most half of the processors look, \
                   and nobody does while more connections than that are active, or while --coalesce \
                   delays their reads. off always sleeps.",
            takes: field!(choice(values::AUTO_OR_OFF), Settings.config.busy_poll),
        },
        Flag {
            name: "reuse-threads",
            group: GROUP,
            purpose: "thread's wait for the next client",
            help: "Lets the thread of a connection that ended well wait this long for the next client \
                   before it exits. Short connections then cost two to three times less CPU time; a \
                   waiting thread costs about 10 KiB. With off, each connection gets a new thread.",
            takes: field!(
                off(time(ranges::REUSE_THREADS, "200ms")),
                Settings.config.reuse_threads
            ),
        },
        Flag {
            name: "stack-size",
            group: GROUP,
            purpose: "stack of each connection's thread",
            help: "Gives each connection's thread this much stack. Untouched stack costs address space and \
                   no memory; an overflow aborts the whole process.",
            takes: field!(
                unset(size(ranges::STACK_SIZE, "256KiB")),
                Settings.config.stack_size
            ),
        },
    ]
}

fn output() -> Vec<Flag<Settings>> {
    const GROUP: &str = "Output";
    vec![
        Flag {
            name: "sink",
            group: GROUP,
            purpose: "where messages go",
            help: "Writes messages here, delimited as --output-framing says. stdout may be a pipe, a file \
                   or a terminal. file:PATH appends to a file, which is created with mode 0640 less the \
                   umask; SIGHUP reopens it. null discards all messages, and is meant for measurements. \
                   Options of a URL stand behind it, as in file:///PATH?framing=nul. What each URL is, \
                   and its options: at the end of this help. \
                   It may be repeated: each message goes to all. \
                   A sink that is slower than the senders slows them down.",
            takes: field!(Sinks, Settings.sinks),
        },
        Flag {
            name: "terminal-escape",
            group: GROUP,
            purpose: "escape control characters",
            help: "Whether a terminal, as stdout or by its name, is shown the control characters of \
                   messages as \\x1b and the like. Otherwise whoever sends messages could set its title, \
                   fill the clipboard or clear the screen. off shows messages as they are. Costs nothing \
                   where the sink is no terminal.",
            takes: field!(choice(values::AUTO_OR_OFF), Settings.terminal_escape),
        },
        Flag {
            name: "report",
            group: GROUP,
            purpose: "form of the final report",
            help: "Prints the report at the end, and the connections that SIGUSR1 asks for, in this form: \
                   text for people, json for programs. Costs nothing while messages flow.",
            takes: field!(choice(values::REPORT), Settings.report),
        },
        Flag {
            name: "log-level",
            group: GROUP,
            purpose: "least level that is logged",
            help: "Logs to stderr from this level on. Without this RUST_LOG decides, and without both \
                   it is info. Similar lines are rate-limited, so an overload logs only a few. debug adds \
                   the begin and end of each connection, each rejected client and each pause.",
            takes: field!(
                unset(choice(values::LOG_LEVEL).shown_as("LEVEL")),
                Settings.log_level
            ),
        },
    ]
}

fn running() -> Vec<Flag<Settings>> {
    const GROUP: &str = "Running";
    vec![
        Flag {
            name: "drain-timeout",
            group: GROUP,
            purpose: "longest time for a shutdown",
            help: "Lets a shutdown take this long to deliver the messages that have arrived. Connections \
                   have three quarters of that time, the sink the rest; what is left then is cut and counted \
                   as dropped, and the exit code is 4. If nobody reads stderr, the last lines delay the end \
                   by another second and a half at most. A longer time costs a slower restart.",
            takes: field!(
                time(ranges::DRAIN_TIMEOUT, "30s"),
                Settings.config.drain_timeout
            ),
        },
        Flag {
            name: "port-file",
            group: GROUP,
            purpose: "file for the addresses bound",
            help: "Writes the addresses that drainline listens on to this file, one per line, with a \
                   space and the listener's name behind it if it has one. The file \
                   is complete whenever it exists, and stays after the end. With port 0, this is how \
                   other programs learn the port.",
            takes: field!(unset(PATH), Settings.port_file),
        },
        Flag {
            name: super::CONFIG,
            group: GROUP,
            purpose: "file with settings",
            help: "Reads settings from this TOML file: every flag that takes a value, with underscores \
                   (send_timeout), a [[listener]] table for each listener with a name or settings of \
                   its own, and an [[output]] table for each such output. `drainline config` prints such a file, with every setting and its default. A \
                   flag stands above a variable of the environment, and that above the file. The file \
                   is read once, at start; after a change drainline has to be restarted. - is what comes on stdin.",
            takes: field!(unset(PATH), Settings.config_file),
        },
        Flag {
            name: "check",
            group: GROUP,
            purpose: "check and print the settings, and exit",
            help: "Checks the settings against each other and against the system, prints each with what \
                   gave it its value (a flag, a variable, a line of the file, or the default), and the \
                   limits, and exits: with 0 if a start would succeed, otherwise with the error and the exit code of a start: 1, 2 or 78. Listens on nothing, and leaves no \
                   file behind. So a running server is not disturbed: that its address is in use is \
                   a note, and no error.",
            takes: Takes::Nothing(|settings| settings.check = true),
        },
        Flag::help(GROUP),
        Flag {
            name: "version",
            group: GROUP,
            purpose: "print the version",
            help: "Prints the version.",
            takes: Takes::Version,
        },
    ]
}
