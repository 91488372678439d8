//! How the program ends: each exit code, and what it says then.

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::common::child::{Drainline, Launch, Stdout};
use crate::common::client;
use crate::common::exit::Exit;
use crate::common::fifo;
use crate::common::proc;
use crate::common::wait::{DEADLINE, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::Value;

/// Sends `bytes`, ends the stream, and waits until the server has read all of it.
fn send(child: &Drainline, bytes: &[u8]) {
    let mut client = child.connect();
    client.write_all(bytes).unwrap();
    client::half_close(client);
}

/// Did not start: one line on stderr that holds each of `parts`, nothing on stdout, and no port
/// file.
#[track_caller]
fn not_started(args: &[&str], code: i32, parts: &[&str]) -> Exit {
    not_started_by(Drainline::with(args), code, parts)
}

#[track_caller]
fn not_started_by(launch: Launch, code: i32, parts: &[&str]) -> Exit {
    let mut child = launch.spawn();
    let exit = child.wait();
    exit.assert_code(code);
    assert_eq!(exit.stderr.lines().count(), 1, "{exit}");
    assert!(exit.stderr.starts_with("drainline: "), "{exit}");
    for part in parts {
        assert!(exit.stderr.contains(part), "no {part:?}: {exit}");
    }
    assert_eq!(child.stdout_bytes(), b"");
    assert!(!child.port_file().exists());
    exit
}

#[test]
fn it_ends_with_0_when_nothing_was_lost() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = Drainline::start::<&str>(&[]);
        send(&child, b"one\ntwo\nunterminated");
        child.signal(signal);
        let exit = child.wait();
        exit.assert_code(0);
        exit.assert_balanced();
        exit.assert_nothing_left();
        assert_eq!((exit.u64("delivered"), exit.u64("unterminated")), (3, 1));
        assert_eq!(child.stdout_bytes(), b"one\ntwo\nunterminated\n");
    }
}

/// The command by which the program's start comes back from the shell.
#[test]
fn it_ends_with_2_when_a_step_of_its_start_is_typed() {
    for args in [&["execute-again"][..], &["execute-again", "drainline"]] {
        let launch = Drainline::with(args).bare();
        not_started_by(
            launch,
            2,
            &["'execute-again' is a step of the program's start"],
        );
    }
}

#[test]
fn it_ends_with_1_when_the_port_is_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    not_started(&["--listen", &addr], 1, &[&addr, "in use"]);
    let both = ["--listen", "127.0.0.1:0", "--listen", &addr];
    not_started(&both, 1, &[&addr, "in use"]);
}

#[test]
fn it_ends_with_1_when_the_sink_cannot_be_opened() {
    let nowhere = "file:/nowhere at all/messages";
    not_started(
        &["--sink", nowhere],
        1,
        &["--sink", nowhere, "No such file"],
    );
    not_started(&["--sink", "file:/"], 1, &["--sink file:/", "directory"]);
}

#[test]
fn it_ends_with_1_when_the_port_file_cannot_be_written_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let inside = folder.join("none").join("ports");
    for (path, why) in [(&folder, "directory"), (&inside, "No such file")] {
        let path = path.display().to_string();
        let mut child = Drainline::with(&["--port-file", &path]).spawn();
        let exit = child.wait();
        exit.assert_code(1);
        // Told before anything was started.
        assert_eq!(exit.stderr.lines().count(), 1, "{exit}");
        assert!(exit.stderr.contains(&format!("--port-file {path}: ")));
        assert!(exit.stderr.contains(why), "{exit}");
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }
}

/// With a message or without one: what has arrived before it notices is lost, and nothing else is.
#[test]
fn it_ends_with_1_by_itself_when_the_reader_of_stdout_is_gone() {
    let mut child = Drainline::with::<&str>(&[]).stdout(Stdout::Unread).start();
    let _idle = child.connect();
    let mut client = child.connect();
    client.write_all(b"to somebody\n").unwrap();
    child.close_stdout();
    let exit = child.wait();
    exit.assert_code(1);
    exit.assert_balanced();
    exit.assert_nothing_left();
    let error = "the consumer failed: the sink stdout failed for good: Broken pipe";
    assert!(
        exit.report["error"].as_str().unwrap().starts_with(error),
        "{exit}"
    );
    assert!(
        exit.stderr.contains(&format!("\ndrainline: {error}")),
        "{exit}"
    );
}

#[test]
fn it_ends_with_2_when_one_value_is_bad_and_has_started_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let sink = format!("file:{}", directory.path().join("messages").display());
    let bad = ["--sink", &sink, "--send-timeout", "5x"];
    let exit = not_started(&bad, 2, &[]);
    let line = "drainline: invalid value '5x' for --send-timeout: expected a duration from 1ms to 24h, such as 5s\n";
    assert_eq!(exit.stderr, line);
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    not_started(
        &["--max-connections", "0"],
        2,
        &["'0' for --max-connections", "1 to 1000000"],
    );
    not_started(
        &["--oversize", "ignore"],
        2,
        &["'ignore' for --oversize", "truncate, drop or close"],
    );
    not_started(
        &["--listen", "nowhere"],
        2,
        &["'nowhere' for --listen", "127.0.0.1:5140"],
    );
    not_started(
        &["--send-timout", "5s"],
        2,
        &["--send-timout", "--send-timeout"],
    );
}

#[test]
fn it_ends_with_3_when_something_was_dropped_or_truncated() {
    for (oversize, figure) in [("drop", "dropped.oversize"), ("truncate", "truncated")] {
        let mut child = Drainline::start(&["--max-message", "10B", "--oversize", oversize]);
        send(&child, b"short\nthis one is too long\nshort\n");
        let exit = child.terminate();
        exit.assert_code(3);
        exit.assert_balanced();
        assert_eq!(exit.u64(figure), 1, "{exit}");
    }
}

#[test]
fn it_ends_with_0_when_all_that_did_not_come_through_was_the_peers_own_doing() {
    // Counted framings: around the size of a first read, so that some is read and some is not.
    for framing in ["octet-counted", "length-prefixed"] {
        for len in [1, 511, 512, 513, 100_000] {
            let mut child = Drainline::start(&["--framing", framing]);
            let mut client = child.connect();
            let _ = client.write_all(&vec![b'x'; len]);
            let _ = client.shutdown(std::net::Shutdown::Write);
            client::wait_for_close(&mut client);
            let exit = child.terminate();
            exit.assert_code(0);
            exit.assert_closes();
            let unread = exit.u64("unread_bytes");
            assert_eq!(exit.u64("unread.ended.protocol_error"), unread, "{exit}");
            assert!(exit.sum("discarded") + unread <= len as u64, "{exit}");
        }
    }
    let cases: [(&[&str], &str); 3] = [
        (&["--frame-timeout", "200ms"], "frame_timeout"),
        (&["--idle-timeout", "200ms"], "idle_timeout"),
        (
            &["--max-message", "10B", "--oversize", "close"],
            "protocol_error",
        ),
    ];
    for (flags, reason) in cases {
        let mut child = Drainline::start(flags);
        let mut client = child.connect();
        client.write_all(b"one\nhalf").unwrap();
        child.wait_until_read(&client, 8);
        if reason == "protocol_error" {
            let _ = client.write_all(&[b'x'; 100_000]);
        }
        client::wait_for_close(&mut client);
        let exit = child.terminate();
        exit.assert_code(0);
        exit.assert_closes();
        assert_eq!(exit.u64(&format!("connections.ended.{reason}")), 1);
        assert_eq!((exit.u64("received"), exit.sum("dropped")), (1, 0));
        assert!(exit.sum("discarded") >= 4, "{exit}");
    }
    // Half a message, then a reset.
    let mut child = Drainline::start(&["--framing", "octet-counted"]);
    let mut client = child.connect();
    client.write_all(b"3 one9 half").unwrap();
    child.wait_until_read(&client, 11);
    client::reset(client);
    child.wait_until_all_ended();
    let exit = child.terminate();
    exit.assert_code(0);
    assert_eq!(exit.u64("discarded.reset"), 6, "{exit}");
}

#[test]
fn it_ends_with_3_when_a_send_timeout_tore_a_message_or_left_bytes_unread() {
    let args = ["--send-timeout", "300ms", "--buffer-messages", "8"];
    let mut child = Drainline::with(&args).stdout(Stdout::Unread).start();
    let mut client = child.connect();
    let lines = b"a line of thirty bytes or so..\n".repeat(100_000);
    let _ = client.write_all(&lines);
    client::wait_for_close(&mut client);
    child.collect_stdout();
    let exit = child.terminate();
    exit.assert_code(3);
    exit.assert_closes();
    let unread = exit.u64("unread_bytes");
    assert!(
        unread > 0 && exit.u64("unread.ended.send_timeout") == unread,
        "{exit}"
    );
    // What it had begun to read of the next message was cut by us, not by hand.
    let cut = exit.u64("discarded.send_timeout");
    assert_eq!(exit.sum("discarded"), cut, "{exit}");
}

/// A child whose stdout is a full pipe, with messages behind it.
fn blocked(args: &[&str]) -> Drainline {
    let child = Drainline::with(args).stdout(Stdout::Unread).start();
    send(&child, &b"a line of thirty bytes or so..\n".repeat(10_000));
    child
}

#[test]
fn it_ends_with_4_when_the_drain_times_out_and_books_what_a_blocked_pipe_did_not_take() {
    let mut child = blocked(&["--drain-timeout", "300ms"]);
    let exit = child.terminate();
    exit.assert_code(4);
    exit.assert_balanced();
    exit.assert_nothing_left();
    assert_eq!(exit.report["timed_out"], Value::Bool(true));
    assert_eq!(exit.u64("received"), 10_000);
    assert!(
        exit.u64("delivered") > 0 && exit.u64("dropped.shutdown") > 0,
        "{exit}"
    );
}

/// A buffer of one message, which a full pipe holds, and one that waits for it. It is cut at three
/// quarters of the drain, and the pipe takes the first one before the last quarter is over.
#[test]
fn it_ends_with_4_when_a_connection_had_to_be_cut_though_the_sink_came_to_its_end() {
    let buffer = ["--buffer-messages", "1", "--max-message", "1MiB"];
    let args = [&buffer[..], &["--drain-timeout", "8s"]].concat();
    let mut child = Drainline::with(&args).stdout(Stdout::Unread).start();
    let mut client = child.connect();
    let line = "x".repeat(200_000) + "\n";
    client.write_all(line.as_bytes()).unwrap();
    child.wait_for_status("a full pipe", |status| status["in_flight"] == 1);
    client.write_all(b"two\n").unwrap();
    child.wait_for_status("one in line", |status| status["senders_waiting"] == 1);
    child.signal(Signal::TERM);
    child.wait_for_status("the connection's end", |status| {
        status["connections"].as_array().is_some_and(Vec::is_empty)
    });
    child.collect_stdout();
    let exit = child.wait();
    exit.assert_code(4);
    exit.assert_nothing_left();
    let sums = (exit.u64("delivered"), exit.u64("dropped.shutdown"));
    assert_eq!(sums, (1, 1), "{exit}");
    assert_eq!(exit.report["timed_out"], Value::Bool(true));
}

#[test]
fn it_ends_with_78_when_values_contradict_each_other_or_the_system_cannot_hold_them() {
    let contradiction = ["--send-timeout", "2s", "--pause-after", "3s"];
    not_started(
        &contradiction,
        78,
        &["'3s' for --pause-after", "--send-timeout (2s)"],
    );
    let launch = Drainline::with(&["--max-connections", "100"]).shell("ulimit -n 64");
    let parts = [
        "--max-connections 100 needs ",
        " descriptors, but RLIMIT_NOFILE (ulimit -n) is 64; the most that fits is ",
    ];
    not_started_by(launch, 78, &parts);
}

#[test]
fn a_second_signal_ends_a_drain_that_hangs_at_once_with_the_ledger_printed() {
    /// Within a second it would be the same request.
    const ANOTHER_REQUEST: Duration = Duration::from_millis(1_500);
    for (first, second, code) in [
        (Signal::TERM, Signal::TERM, 128 + 15),
        (Signal::TERM, Signal::INT, 128 + 2),
    ] {
        let mut child = blocked(&["--drain-timeout", "1h"]);
        child.signal(first);
        wait_until("the drain", DEADLINE, || {
            child.stderr_text().contains("draining")
        });
        std::thread::sleep(ANOTHER_REQUEST);
        child.signal(second);
        let exit = child.wait();
        exit.assert_code(code);
        exit.assert_balanced();
        assert_eq!(exit.u64("received"), 10_000);
        assert_eq!(exit.u64("in_flight"), 10_000 - exit.u64("delivered"));
    }
}

#[test]
fn a_stop_that_is_repeated_within_a_second_is_the_same_request() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let in_time = wait_for("signals within a second", DEADLINE, || {
            let mut child = blocked(&["--drain-timeout", "1h"]);
            let begun = Instant::now();
            child.signal(first);
            wait_until("the drain", DEADLINE, || {
                child.stderr_text().contains("draining")
            });
            child.signal_served(second);
            (begun.elapsed() < Duration::from_millis(900)).then_some(child)
        });
        let mut child = in_time;
        assert!(!child.has_ended());
        child.collect_stdout();
        let exit = child.wait();
        exit.assert_code(0);
        assert_eq!(exit.u64("delivered"), 10_000);
    }
}

/// Started by a parent that has blocked the signals which ask for a stop. Neither is ignored, as a
/// shell in the background has SIGINT.
fn by_one_that_blocks(args: &[&str]) -> Launch {
    let line = r#"exec env --default-signal=INT --block-signal=TERM --block-signal=INT "$0" "$@""#;
    Drainline::with(args).shell(line)
}

#[test]
fn a_parent_that_had_blocked_the_signals_does_not_keep_it_from_being_stopped() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = by_one_that_blocks(&[]).start();
        let address = server.addr().to_string();
        let mut load = by_one_that_blocks(&["load", &address, "--rate=1", "--duration=1h"])
            .bare()
            .spawn();
        wait_until("a message", DEADLINE, || server.stdout_len() > 0);
        load.signal(signal);
        load.wait().assert_code(0);
        server.signal(signal);
        server.wait().assert_code(0);

        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        fifo::make(&fifo);
        let mut verify = by_one_that_blocks(&["verify", fifo.to_str().unwrap()])
            .bare()
            .spawn();
        // It waits for a writer.
        wait_until("the open", DEADLINE, || {
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", verify.pid()));
            comm.is_ok_and(|comm| comm == "drainline\n") && proc::is_asleep(verify.pid())
        });
        verify.signal(signal);
        assert_eq!(verify.wait().signal, Some(signal.as_raw()));

        let mut lab = by_one_that_blocks(&["lab", "--duration=10m", "--strategies=layered"])
            .bare()
            .spawn();
        wait_until("a server", DEADLINE, || {
            let children = format!("/proc/{0}/task/{0}/children", lab.pid());
            std::fs::read_to_string(children).is_ok_and(|children| !children.is_empty())
        });
        lab.signal(signal);
        lab.wait().assert_code(128 + signal.as_raw());
    }
}

/// Started with each of these signals blocked, and sent before it was this program.
fn with_pending(signals: &[&str], args: &[&str]) -> Launch {
    let each = |format: &str| -> String {
        let words = signals.iter().map(|name| format.replace("NAME", name));
        words.collect()
    };
    // A shell in the background, and nohup(1), have them ignored.
    let block = each(" --default-signal=NAME --block-signal=NAME");
    let send = each("kill -NAME $$; ");
    let line = format!(r#"exec env{block} sh -c '{send}exec "$0" "$@"' "$0" "$@""#);
    Drainline::with(args).shell(line)
}

/// A reload that comes as soon as the program was started, as from logrotate behind a restart.
#[test]
fn a_reload_while_it_executes_itself_again_does_not_end_it() {
    for signal in [Signal::HUP, Signal::USR1] {
        let mut server = wait_for("a start that is seen in time", DEADLINE, || {
            let mut server = Drainline::with(&["--sink", "null"]).spawn();
            let read = |file| std::fs::read(format!("/proc/{}/{file}", server.pid()));
            loop {
                let line = read("cmdline").unwrap();
                if line.windows(13).any(|part| part == b"execute-again") {
                    break;
                }
                if server.port_file().exists() {
                    return None;
                }
            }
            server.signal(signal);
            Some(server)
        });
        server.wait_until_listening();
        server.terminate().assert_code(0);
    }
}

/// Whoever unblocks a signal before it catches it is killed by one that came before.
#[test]
fn a_signal_that_was_pending_when_it_started_is_served_like_any_other() {
    for stops in [&["TERM"][..], &["INT"], &["TERM", "INT"]] {
        let mut stopped = with_pending(stops, &[]).spawn();
        let exit = stopped.wait();
        exit.assert_code(0);
        exit.assert_closes();
    }

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let sink = format!("file:{}", path.display());
    let mut server = with_pending(&["HUP", "USR1", "XFSZ"], &["--sink", &sink]).start();
    let told = "SIGHUP: reopening the file of the sink";
    wait_until(told, DEADLINE, || server.stderr_text().contains(told));
    wait_until("an answer to SIGUSR1", DEADLINE, || {
        server.last_status().is_some()
    });
    send(&server, b"one\n");
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(std::fs::read(path).unwrap(), b"one\n");
}

/// They have nothing to finish.
#[test]
fn a_stop_that_was_pending_when_a_tool_started_ends_it() {
    let tools: [&[&str]; 4] = [
        &["load", "127.0.0.1:1", "--duration=1h"],
        &["verify", "/dev/zero"],
        &["plan", "--help"],
        &["--check"],
    ];
    for args in tools {
        for signal in [Signal::TERM, Signal::INT] {
            let name = match signal {
                Signal::TERM => "TERM",
                _ => "INT",
            };
            let mut tool = with_pending(&[name], args).bare().spawn();
            assert_eq!(tool.wait().signal, Some(signal.as_raw()), "{args:?}");
        }
    }
}

#[test]
fn a_port_file_is_written_beside_whatever_lies_there_and_takes_the_place_of_nothing_but_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let fifo = |name: &str| fifo::make(path(name));
    std::fs::write(path("victim"), "mine").unwrap();
    fifo("a.new");
    std::os::unix::fs::symlink("victim", path("b.new")).unwrap();
    std::os::unix::fs::symlink("victim", path("b")).unwrap();
    std::fs::create_dir(path("c.new")).unwrap();
    for name in ["a", "b", "c"] {
        let port_file = path(name).display().to_string();
        let mut child = Drainline::with(&["--port-file", &port_file])
            .shell("umask 022")
            .spawn();
        wait_until("the port file", DEADLINE, || {
            std::fs::symlink_metadata(path(name)).is_ok_and(|there| there.is_file())
        });
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        child.terminate().assert_code(0);
    }
    assert_eq!(std::fs::read_to_string(path("victim")).unwrap(), "mine");
    fifo("d");
    for name in ["d", "/dev/null", "/dev/stdout"] {
        let port_file = path(name).display().to_string();
        for check in [&["--check"][..], &[]] {
            let args = [&["--port-file", &port_file], check].concat();
            let mut child = Drainline::with(&args).spawn();
            let exit = child.wait();
            exit.assert_code(1);
            let why = format!("--port-file {port_file}: not a regular file");
            assert!(exit.stderr.contains(&why), "{exit}");
        }
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 8);
}
