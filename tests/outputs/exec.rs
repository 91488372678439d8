//! Commands that are given messages: one that takes all, one that ends again and again, one that
//! never reads, one that does not want to end. None is left behind.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::common::checker::Checker;
use crate::common::client;
use crate::common::ledger::assert_both_close;
use crate::common::small;
use crate::common::tagged::{Cut, Tagged};
use crate::common::wait::{DEADLINE, wait_until};
use crate::forward::{wait_delivered, wait_error};
use drainline::ingest::sink::Exec;
use drainline::{DropReason, Server};
use rustix::process::{Pid, getpid, set_child_subreaper, test_kill_process};

fn start(exec: Exec) -> (Server, TcpStream) {
    let server = small::ingest()
        .listen("127.0.0.1:0".parse().unwrap())
        .start(exec)
        .unwrap();
    let stream = client::connect(server.local_addrs()[0]);
    (server, stream)
}

fn is_there(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(pid.cast_signed()).unwrap()).is_ok()
}

/// The numbers that a script has written to a file, one a line.
fn pids(file: &Path) -> Vec<u32> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[test]
fn a_command_gets_all_and_has_ended_by_itself_when_the_server_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("messages");
    let line = format!("cat >> {}; sleep 0.3; echo over >> {0}", file.display());
    let exec = Exec::shell(line).unwrap();
    let pid = exec.pid().unwrap();
    let (server, mut stream) = start(exec);
    let sent = Tagged::new(0)
        .send(&mut stream, 0..100_000, 100, Cut::Blocks)
        .all();
    client::half_close(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    assert_eq!(report.stats.delivered, sent.messages);
    let read = fs::read(&file).unwrap();
    // It was neither killed nor left behind.
    let read = read.strip_suffix(b"over\n").unwrap();
    Checker::read(read).expect_exact(&[(0, sent.messages)]);
    assert!(!is_there(pid));
}

#[test]
fn a_command_that_ends_again_and_again_is_started_anew_at_the_beginning_of_a_message() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("messages");
    // It takes more than it writes, and ends in the middle of a message.
    let line = format!("head -n 1 >> {}; exit 3", file.display());
    let (server, mut stream) = start(Exec::shell(line).unwrap());
    let tagged = Tagged::new(0);
    let mut sent = 0;
    let lines = || fs::read(&file).map_or(0, |read| read.iter().filter(|it| **it == b'\n').count());
    // More than a pipe takes for each.
    for ended in 0..4 {
        sent += tagged
            .send(&mut stream, sent..sent + 50, 5000, Cut::Blocks)
            .all()
            .messages;
        wait_until("another that has ended", DEADLINE, || lines() > ended);
    }
    wait_error(&server, "exit status: 3");
    client::half_close(stream);
    let report = server.shutdown(Duration::from_millis(100));
    assert_both_close(&report);
    assert!(report.stats.delivered > 4, "{report:?}");
    Checker::read(&fs::read(&file).unwrap()).expect_ordered(&[(0, sent)]);
}

#[test]
fn a_command_that_ends_at_once_costs_no_message() {
    let (server, mut stream) = start(Exec::open(["cat", "/nosuch/file"]).unwrap());
    let sent = Tagged::new(0)
        .send(&mut stream, 0..100, 100, Cut::Blocks)
        .all();
    client::half_close(stream);
    wait_until("two that have ended", DEADLINE, || {
        server.report().sink.failures >= 2
    });
    let stats = server.stats();
    assert_eq!(stats.delivered, 0);
    wait_error(&server, "exit status: 1");
    let report = server.shutdown(Duration::from_millis(500));
    assert_both_close(&report);
    assert_eq!(
        report.stats.dropped.get(DropReason::Shutdown),
        sent.messages
    );
}

/// A command tells before it ends, so two that have told are at least as far from each other as the
/// wait between them was long, however slow the machine is.
#[test]
fn a_command_that_ends_at_once_is_started_less_and_less_often() {
    const LOOKED_AT: f64 = 4.0;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("times");
    let line = format!("cut -d' ' -f1 /proc/uptime >> {}; exit 1", file.display());
    let (server, mut stream) = start(Exec::shell(line).unwrap());
    stream.write_all(b"message\n").unwrap();
    client::half_close(stream);
    let times = || -> Vec<f64> {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let times: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
        times.iter().map(|time| time - times[0]).collect()
    };
    let is_looked_at = |time: &f64| *time < LOOKED_AT;
    wait_until("some seconds of starts", DEADLINE, || {
        !times().iter().all(is_looked_at)
    });
    // The waits are at least 50, 100, 200, 400, 800 and 1,600 ms, which is seven starts; a look
    // once a second may find one that has ended, and then the next start is at once.
    let starts = times().into_iter().filter(is_looked_at).count();
    assert!(starts <= 12, "{:?}", times());
    assert_both_close(&server.shutdown(Duration::from_millis(100)));
}

#[test]
fn a_command_that_never_reads_holds_up_its_messages_and_not_the_end() {
    let exec = Exec::open(["sleep", "1000"]).unwrap();
    let pid = exec.pid().unwrap();
    let (server, mut stream) = start(exec);
    let sender = thread::spawn(move || {
        let _ = Tagged::new(0).send(&mut stream, 0..200_000, 100, Cut::Blocks);
    });
    wait_until("a pipe that is full", DEADLINE, || {
        server.stats().delivered > 0
    });
    let report = server.shutdown(Duration::from_secs(1));
    sender.join().unwrap();
    assert!(report.is_balanced());
    assert!(report.stats.dropped.get(DropReason::Shutdown) > 0);
    // A pipe holds 64 KiB.
    assert!(report.stats.delivered < 1000, "{report:?}");
    wait_until("its end", DEADLINE, || !is_there(pid));
}

/// Nor does one of its own children.
#[test]
fn a_command_that_does_not_end_is_killed_with_its_group() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    let line = format!(
        "trap '' TERM; (exec sleep 1000) & echo $$ $! | tr ' ' '\\n' > {}; cat > /dev/null; sleep 1000; sleep 1000",
        file.display()
    );
    let exec = Exec::shell(line)
        .unwrap()
        .stop_timeout(Duration::from_millis(100));
    let (server, mut stream) = start(exec);
    wait_until("its children", DEADLINE, || pids(&file).len() == 2);
    stream.write_all(b"one\n").unwrap();
    client::half_close(stream);
    wait_delivered(&server, 1);
    assert_both_close(&server.shutdown(DEADLINE));
    wait_until("the end of all", DEADLINE, || {
        // A child of the command's is reaped by init, if there is one.
        pids(&file)
            .into_iter()
            .all(|pid| !is_there(pid) || is_zombie(pid))
    });
    assert!(!is_there(pids(&file)[0]));
}

fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// The command obeys SIGTERM, and one of its own children does not.
#[test]
fn a_child_that_outlives_a_command_which_was_ended_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    let line = format!(
        "trap '' TERM; sleep 100 > /dev/null & echo $! >> {}; trap - TERM; cat > /dev/null; wait",
        file.display()
    );
    let exec = Exec::shell(line)
        .unwrap()
        .stop_timeout(Duration::from_millis(100));
    let (server, mut stream) = start(exec);
    wait_until("its child", DEADLINE, || pids(&file).len() == 1);
    stream.write_all(b"one\n").unwrap();
    client::half_close(stream);
    wait_delivered(&server, 1);
    assert_both_close(&server.shutdown(DEADLINE));
    let child = pids(&file)[0];
    wait_until("the end of its child", DEADLINE, || {
        !is_there(child) || is_zombie(child)
    });
}

/// As with `tee >(gzip > FILE)`: what works on behind the command has the time to end, too.
#[test]
fn what_a_command_has_started_has_the_time_to_end() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("over");
    let line = format!(
        "(sleep 1; echo over > {}) & cat > /dev/null",
        file.display()
    );
    let (server, mut stream) = start(Exec::shell(line).unwrap());
    stream.write_all(b"one\n").unwrap();
    client::half_close(stream);
    wait_delivered(&server, 1);
    assert_both_close(&server.shutdown(DEADLINE));
    assert_eq!(fs::read_to_string(&file).unwrap(), "over\n");
}

/// Each leaves a child behind: they must not become more and more.
#[test]
fn what_a_command_leaves_behind_is_ended_before_the_next_one_is_started() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    let line = format!(
        "sleep 100 > /dev/null & echo $! >> {}; read line; exit 3",
        file.display()
    );
    let (server, mut stream) = start(Exec::shell(line).unwrap());
    wait_until("three of them", DEADLINE, || {
        let _ = stream.write_all(b"a message\n");
        pids(&file).len() >= 3
    });
    let all = pids(&file);
    let is_alive = |pid: &u32| is_there(*pid) && !is_zombie(*pid);
    let alive = all.iter().filter(|pid| is_alive(pid)).count();
    assert!(alive <= 1, "{alive} of {}", all.len());
    wait_error(&server, "left behind");
    server.shutdown(Duration::from_secs(5));
    let all = pids(&file);
    wait_until("the end of all", DEADLINE, || !all.iter().any(is_alive));
}

/// As in a container of which the server is the first process: what a command leaves behind while
/// it runs becomes the server's own child, and a zombie when it ends.
#[test]
fn an_orphan_that_becomes_the_servers_own_child_is_reaped() {
    set_child_subreaper(Some(getpid())).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    let line = format!(
        "while read line; do (sleep 0.1 > /dev/null & echo $! >> {}); done",
        file.display()
    );
    let (server, mut stream) = start(Exec::shell(line).unwrap());
    stream.write_all(b"one\ntwo\nthree\n").unwrap();
    wait_until("three orphans", DEADLINE, || pids(&file).len() == 3);
    let all = pids(&file);
    wait_until("the end of all", DEADLINE, || {
        !all.iter().any(|&pid| is_there(pid))
    });
    client::half_close(stream);
    assert_both_close(&server.shutdown(DEADLINE));
}

#[test]
fn a_command_inherits_no_descriptor_and_is_in_a_group_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("told");
    let line = format!(
        "exec > {}; cut -d' ' -f5 /proc/$$/stat; echo $$; ls -l /proc/self/fd; cat > /dev/null",
        file.display()
    );
    let (server, stream) = start(Exec::shell(line).unwrap());
    drop(stream);
    assert_both_close(&server.shutdown(DEADLINE));
    let told = fs::read_to_string(&file).unwrap();
    let mut lines = told.lines();
    assert_eq!(lines.next().unwrap(), lines.next().unwrap(), "{told}");
    // Whatever the test runner has let us inherit, too; our sockets and eventfds are not among it.
    let is_ours = |line: &&str| line.contains("socket:") || line.contains("anon_inode:");
    assert_eq!(lines.find(is_ours), None, "{told}");
}

#[test]
fn a_command_that_is_not_there_is_told_at_start() {
    let error = Exec::open(["/nosuch/command", "secret"])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/nosuch/command") && error.contains("No such file"),
        "{error}"
    );
    assert!(!error.contains("secret"), "{error}");
    assert!(Exec::open(Vec::<String>::new()).is_err());
}

#[test]
fn a_command_that_closes_its_stdin_and_stays_is_ended_and_started_anew() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    let line = format!("echo $$ >> {}; exec 0<&-; sleep 1000", file.display());
    let (server, mut stream) = start(Exec::shell(line).unwrap());
    wait_until("three of them", DEADLINE, || {
        let _ = stream.write_all(b"nobody reads this\n");
        pids(&file).len() >= 3
    });
    drop(stream);
    assert_both_close(&server.shutdown(Duration::from_secs(5)));
    let all = pids(&file);
    wait_until("the end of all", DEADLINE, || {
        !all.iter().any(|&pid| is_there(pid))
    });
}
