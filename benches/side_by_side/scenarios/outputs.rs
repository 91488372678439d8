//! What outputs cost: passed on to another server, sent over HTTP, several at once, synced files
//! and rotated ones.

use std::time::Duration;

use super::{DRAINLINE, FLOOR};
use crate::figures::Metric::{Behind, BytesPerSecond, CpuNs, Delivered, Offered, Rate};
use crate::peer::Peer;
use crate::scenario::{Batches, Entrant, Scenario, Sink, Target};

const FORWARD: Entrant = DRAINLINE.labelled("forward").into(Sink::Drainline);
const NULL: Entrant = DRAINLINE.labelled("null").into(Sink::Null);

const BULK_DIALECT: &str = "dialect=elasticsearch";
const UREQ: Entrant = Entrant::new("ureq loop", Peer::UreqLoop);

const FILE: Entrant = DRAINLINE.labelled("file").into(Sink::Tmpfs).by_ledger();
const ROTATED: Entrant = FILE.with_options("rotate_size=64MiB&keep=1000");
const DELETED: Entrant = FILE.with_options("rotate_size=64MiB&keep=2");
const COMPRESSED: Entrant = FILE.with_options("rotate_size=64MiB&keep=2&gzip=true");
const SYNCED: Entrant = DRAINLINE.labelled("fsync=batch").by_ledger();
const WRITE_1: Entrant = Entrant::new("write + fdatasync, 1 MiB", Peer::WriteAndSync(1 << 20));
const WRITE_8: Entrant = Entrant::new("write + fdatasync, 8 MiB", Peer::WriteAndSync(8 << 20));

const fn bulk(milliseconds: u64) -> Batches {
    Batches::Bulk {
        connections: 8,
        message_bytes: 128,
        duration: Duration::from_millis(milliseconds),
    }
}

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "forward",
        what: "8 connections, 128-byte lines in bulk, passed on over TCP to a drainline with sink \
               null, until that has all, against sink null at once, and against a thread per \
               connection that passes on what it read as it came",
        work: bulk(2000),
        sink: Sink::Drainline,
        entrants: &[FORWARD, NULL, FLOOR],
        targets: &[
            Target::at_least("forward", BytesPerSecond, 0.6, &["null"]),
            Target::at_least("forward", BytesPerSecond, 1.0, &["floor"]),
            Target::is_at_least("forward", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "http-bulk",
        what: "8 connections, 128-byte lines in bulk into _bulk, in bodies of 1 MiB: against a bare \
               loop of ureq that sends such a body again and again, one at a time or 4, the same one \
               or one rendered anew from lines in memory, and a program of the same shape, written by \
               hand",
        work: bulk(3000),
        sink: Sink::Http,
        entrants: &[
            DRAINLINE.with_options(BULK_DIALECT),
            UREQ.labelled("ureq loop, 1 request")
                .with(&["--requests", "1", "--body", "same"]),
            UREQ.labelled("ureq loop, 4 requests")
                .with(&["--requests", "4", "--body", "same"]),
            UREQ.labelled("ureq loop, 4 requests, rendered").with(&[
                "--requests",
                "4",
                "--body",
                "rendered",
            ]),
            Entrant::new("lines to ureq, by hand", Peer::LinesToBulk),
        ],
        targets: &[
            Target::at_least("drainline", Rate, 0.9, &["ureq loop, 1 request"]),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "http-20ms",
        what: "10,000 one-message batches a second over HTTP, 20 ms away: as lines of JSON, and into \
               _bulk",
        work: Batches::Far {
            connections: 100,
            rate: 100,
            round_trip: Duration::from_millis(20),
        },
        sink: Sink::Http,
        entrants: &[
            DRAINLINE.labelled("ndjson").with_options("dialect=ndjson"),
            DRAINLINE.labelled("_bulk").with_options(BULK_DIALECT),
        ],
        targets: &[
            Target::is_at_most("ndjson", Behind, 999.0),
            Target::is_at_least("ndjson", Offered, 0.95),
            Target::is_at_least("ndjson", Delivered, 1.0),
            Target::is_at_most("_bulk", Behind, 999.0),
            Target::is_at_least("_bulk", Offered, 0.95),
            Target::is_at_least("_bulk", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "outputs-two",
        what: "8 connections, 128-byte lines in bulk into two outputs, against one: null, and files in \
               memory",
        work: bulk(2000),
        sink: Sink::Null,
        entrants: &[
            NULL.labelled("two null").by_ledger().with_outputs(2),
            NULL.labelled("one null").by_ledger(),
            FILE.labelled("two files").with_outputs(2),
            FILE.labelled("one file"),
        ],
        targets: &[
            Target::at_most("two null", CpuNs, 1.1, &["one null"]),
            Target::is_at_least("two null", Delivered, 1.0),
            Target::is_at_least("two files", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "fsync-batch",
        what: "8 connections, 128-byte lines in bulk to a file on the disk, delivered once \
               fdatasync(2) has returned, against a loop that writes from memory and calls it after so \
               many bytes; drainline does so after all that waits, some 8 MiB",
        work: bulk(3000),
        sink: Sink::Disk,
        entrants: &[
            SYNCED.with_options("fsync=batch"),
            WRITE_8,
            WRITE_1,
            SYNCED.labelled("fsync=off"),
        ],
        targets: &[
            Target::at_least(
                "fsync=batch",
                BytesPerSecond,
                0.6,
                &["write + fdatasync, 8 MiB"],
            ),
            Target::is_at_least("fsync=batch", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "file-rotation",
        what: "8 connections, 128-byte lines in bulk to a file in memory that is rotated at 64 MiB, \
               against one that is not; with all old ones kept, or two, whose pages go meanwhile",
        work: bulk(2000),
        sink: Sink::Tmpfs,
        entrants: &[
            ROTATED.labelled("rotated"),
            FILE.labelled("not rotated"),
            DELETED.labelled("rotated, 2 kept"),
            COMPRESSED.labelled("rotated, gzip"),
        ],
        targets: &[
            Target::at_least("rotated", BytesPerSecond, 0.97, &["not rotated"]),
            Target::is_at_least("rotated", Delivered, 1.0),
        ],
    },
];
