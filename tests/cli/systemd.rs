//! Under a service manager: the sockets that it passes are served, whoever comes between two
//! processes included, and it is told what the server does. What the README shows as units is what
//! systemd reads.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Signal};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::common::child::{Drainline, Launch, Stdout};
use crate::common::client;
use crate::common::port::free_port;
use crate::common::proc;
use crate::common::programs::installed;
use crate::common::wait::{DEADLINE, stays, wait_until};

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A client that sends a line and no more.
#[track_caller]
fn send(to: SocketAddr, line: &str) -> TcpStream {
    let mut client = client::connect(to);
    client.write_all(format!("{line}\n").as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    client
}

#[track_caller]
fn wait_for_stdout(child: &Drainline, text: &str) {
    wait_until(text, DEADLINE, || child.stdout_contains(0, text.as_bytes()));
}

// ---- sockets

/// How systemd-socket-activate starts drainline once a client comes to one of the ports.
fn activated(options: &[&str], ports: &[u16], args: &[&str]) -> Option<Launch> {
    let program = installed("systemd-socket-activate")?;
    let mut by = vec![program.display().to_string()];
    for port in ports {
        by.extend(["-l".to_owned(), loopback(*port).to_string()]);
    }
    by.extend(options.iter().map(|&option| option.to_owned()));
    Some(Drainline::with(args).by(&by))
}

/// Whether a descriptor of a process stays here when it executes another.
fn is_kept(pid: u32, descriptor: &str) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).unwrap();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = i64::from_str_radix(flags.unwrap().trim(), 8).unwrap();
    flags & 0o2_000_000 == 0
}

#[test]
fn sockets_of_systemd_socket_activate_are_taken_by_their_names() {
    let ports = [free_port(), free_port(), free_port()];
    let [first, second, third] = ports.map(loopback);
    let names = "--fdname=first:second:third";
    let listen = ["systemd:third", "systemd:second"];
    let args = ["--listen", listen[0], "--listen", listen[1]];
    let Some(launch) = activated(&[names], &ports, &args) else {
        return;
    };
    let mut child = launch.spawn();
    // The first client starts the server, and is served by it.
    let _one = send(second, "to the second");
    child.wait_until_listening();
    assert_eq!(child.addrs(), [third, second]);
    let _other = send(third, "to the third");
    wait_for_stdout(&child, "to the second\n");
    wait_for_stdout(&child, "to the third\n");
    for descriptor in ["3", "4", "5"] {
        let path = format!("/proc/{}/fd/{descriptor}", child.pid());
        let is_socket = fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("socket"));
        assert!(!is_socket || !is_kept(child.pid(), descriptor));
    }
    // Nobody serves this one, and nobody holds it any more.
    assert!(client::is_refused(first));
    let exit = child.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.u64("delivered"), 2);
    assert!(exit.stderr.contains("no --listen names (first)"), "{exit}");
}

/// Neither another name nor that the program was executed again loses one.
#[test]
fn without_a_name_all_sockets_are_taken_however_the_program_starts() {
    for signal_stacks in ["off", "on"] {
        let ports = [free_port(), free_port()];
        let stacks = format!("DRAINLINE_SIGNAL_STACKS={signal_stacks}");
        let options = ["-E", &stacks];
        let Some(launch) = activated(&options, &ports, &["--listen", "systemd:"]) else {
            return;
        };
        let mut child = launch.spawn();
        let _clients = ports.map(|port| send(loopback(port), &format!("to {port}")));
        child.wait_until_listening();
        assert_eq!(child.addrs(), ports.map(loopback));
        for port in ports {
            wait_for_stdout(&child, &format!("to {port}\n"));
        }
        child.terminate().assert_code(0);
    }
}

#[test]
fn whoever_connects_while_no_process_runs_is_served_by_the_next_one() {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let address = listener.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("messages");
    let sink = format!("file:{}", file.display());
    let start = || {
        let args = ["--listen", "systemd:lines", "--sink", &sink];
        let passed = listener.try_clone().unwrap();
        Drainline::with(&args).passing("lines", passed).start()
    };
    // Two connections that wait together may be read in either order.
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let mut sent = String::new();
    let mut received = 0;
    for process in 0..3 {
        let mut child = start();
        let line = format!("to process {process}");
        let _client = send(address, &line);
        sent += &format!("{line}\n");
        wait_until("all lines so far", DEADLINE, || {
            fs::read_to_string(&file).is_ok_and(|text| sorted(&text) == sorted(&sent))
        });
        let exit = child.terminate();
        exit.assert_code(0);
        exit.assert_closes();
        received += exit.u64("received");
        assert_eq!(exit.sum("connections.rejected"), 0, "{exit}");
        // It sends and closes at once: all of it is in the kernel's queue.
        let line = format!("after process {process}");
        drop(send(address, &line));
        sent += &format!("{line}\n");
    }
    // The last of them came after the last process.
    assert_eq!(received, 5);
}

#[test]
fn whoever_connects_during_a_drain_is_left_to_the_next_process() {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let address = listener.local_addr().unwrap();
    let args = ["--listen", "systemd:lines", "--framing", "lines"];
    let passed = || listener.try_clone().unwrap();
    let mut child = Drainline::with(&args)
        .passing("lines", passed())
        .stdout(Stdout::Unread)
        .start();
    // More than the pipe holds, so that the drain waits for it.
    let many = "x".repeat(100).repeat(2_000);
    let _early = send(address, &many);
    child.wait_for_status("what it holds", |status| {
        status["connections"][0].is_null() && status["in_flight"] == 1
    });
    child.signal(Signal::TERM);
    wait_until("the listener's thread gone", DEADLINE, || {
        proc::thread_id(child.pid(), "acceptor").is_none()
    });
    let _late = send(address, "late");
    stays("it drains", Duration::from_millis(300), || {
        !child.has_ended()
    });
    child.collect_stdout();
    let exit = child.wait();
    exit.assert_closes();
    assert_eq!(exit.u64("connections.accepted"), 1, "{exit}");
    assert_eq!(exit.sum("connections.rejected"), 0, "{exit}");
    let mut next = Drainline::with(&args).passing("lines", passed()).start();
    wait_for_stdout(&next, "late\n");
    next.terminate().assert_code(0);
}

/// The socket's file is the manager's, and stays.
#[test]
fn a_unix_socket_is_served_by_one_process_after_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = net::UnixListener::bind(&path).unwrap();
    for line in ["by the first", "by the second"] {
        let manager = Manager::new();
        let passed = listener.try_clone().unwrap();
        let launch = manager.launch(&["--listen", "systemd:log"]);
        let mut child = launch.passing("log", passed).spawn();
        let status = format!("READY=1\nSTATUS=listening on unix:{}\n", path.display());
        assert_eq!(manager.told(), status);
        let mut client = net::UnixStream::connect(&path).unwrap();
        client.write_all(format!("{line}\n").as_bytes()).unwrap();
        wait_for_stdout(&child, &format!("{line}\n"));
        let exit = child.terminate();
        exit.assert_code(0);
        exit.assert_closes();
    }
    assert!(path.exists());
}

/// Ends with 78, which a unit does not restart, and one line that says what to change.
#[track_caller]
fn refused(launch: Launch, part: &str) {
    let exit = launch.spawn().wait();
    exit.assert_code(78);
    assert_eq!(exit.stderr.lines().count(), 1, "{exit}");
    assert!(exit.stderr.contains(part), "{part}: {exit}");
}

#[test]
fn what_is_no_listening_stream_socket_is_refused_in_words() {
    let passed = |name: &str, descriptor: OwnedFd| {
        Drainline::with(&["--listen", "systemd:lines"]).passing(name, descriptor)
    };
    let listener = || TcpListener::bind(loopback(0)).unwrap();
    refused(
        passed("other", listener().into()),
        "--listen systemd:lines: no socket of this name was passed, only other",
    );
    refused(
        Drainline::with(&["--listen", "systemd:lines"]),
        "no socket was passed: expected a start by a socket unit",
    );
    refused(
        passed("lines", UdpSocket::bind(loopback(0)).unwrap().into()),
        "is no stream socket: expected ListenStream=",
    );
    let (datagrams, _other) = UnixDatagram::pair().unwrap();
    refused(
        passed("lines", datagrams.into()),
        "is no stream socket: expected ListenStream=",
    );
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound.bind(&loopback(0).into()).unwrap();
    refused(passed("lines", bound.into()), "does not listen");
    let accepting = listener();
    let _client = TcpStream::connect(accepting.local_addr().unwrap()).unwrap();
    let (connection, _) = accepting.accept().unwrap();
    refused(
        passed("lines", connection.into()),
        "is a connection: expected Accept=no",
    );
    let (reader, _writer) = std::io::pipe().unwrap();
    refused(passed("lines", reader.into()), "is no socket");
}

/// As a unit would start it that says ListenDatagram= or Accept=yes.
#[test]
fn what_systemd_socket_activate_passes_of_another_kind_is_refused_in_words() {
    for (option, part) in [
        ("--datagram", "is no stream socket"),
        ("--accept", "is a connection"),
    ] {
        let port = free_port();
        let args = ["--listen", "systemd:"];
        let Some(launch) = activated(&[option], &[port], &args) else {
            return;
        };
        let mut child = launch.spawn();
        let sender = UdpSocket::bind(loopback(0)).unwrap();
        wait_until(part, DEADLINE, || {
            // Whoever comes first starts it.
            let _ = sender.send_to(b"a datagram", loopback(port));
            let _ = client::try_connect(loopback(port), DEADLINE);
            child.stderr_text().contains(part)
        });
        if option == "--accept" {
            child.signal(Signal::TERM);
        }
        child.wait();
    }
}

/// With sockets of others it would serve whatever these are.
#[test]
fn sockets_that_were_passed_to_another_process_are_not_taken() {
    let launch = Drainline::with(&["--listen", "systemd:lines"])
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "lines");
    refused(launch, "no socket was passed");
}

#[test]
fn sockets_that_are_announced_and_not_there_are_said() {
    // The second would take gigabytes to collect.
    for count in ["4294967295", "500000000", "1024"] {
        let line = format!("export LISTEN_PID=$$ LISTEN_FDS={count}");
        let launch = Drainline::with(&["--listen", "systemd:lines"]).shell(&line);
        refused(launch, "cannot take over the sockets");
        // They are nobody's business where no --listen asks for them.
        let mut child = Drainline::with::<&str>(&[]).shell(&line).start();
        child.terminate().assert_code(0);
    }
}

// ---- what the manager is told

/// A service manager that is told something, and the launch of who tells it.
struct Manager {
    socket: UnixDatagram,
    name: String,
    _directory: TempDir,
}

impl Manager {
    fn new() -> Manager {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager::of(socket, path.display().to_string(), directory)
    }

    fn of(socket: UnixDatagram, name: String, directory: TempDir) -> Manager {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Manager {
            socket,
            name,
            _directory: directory,
        }
    }

    fn launch(&self, args: &[&str]) -> Launch {
        Drainline::with(args).env("NOTIFY_SOCKET", &self.name)
    }

    /// The next message. Blocks for at most [`DEADLINE`].
    #[track_caller]
    fn told(&self) -> String {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// The next message but that it lives.
    #[track_caller]
    fn told_news(&self) -> String {
        let mut news = std::iter::repeat_with(|| self.told());
        news.find(|told| told != "WATCHDOG=1\n").unwrap()
    }
}

#[test]
fn that_it_serves_is_told_once_every_listener_answers() {
    let manager = Manager::new();
    let ports = [free_port(), free_port()].map(loopback);
    let listen = ports.map(|port| format!("--listen={port}"));
    let mut child = manager.launch(&[&listen[0], &listen[1]]).spawn();
    let told = manager.told();
    let clients = ports.map(|port| client::try_connect(port, DEADLINE).is_ok());
    assert_eq!(clients, [true, true]);
    let status = format!("STATUS=listening on {}, {}\n", ports[0], ports[1]);
    assert_eq!(told, format!("READY=1\n{status}"));
    child.terminate().assert_code(0);
}

#[test]
fn a_reload_and_the_end_are_told() {
    let manager = Manager::new();
    let mut child = manager.launch(&[]).start();
    assert!(manager.told().starts_with("READY=1\n"));
    let clock = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
    };
    for _ in 0..3 {
        let before = clock();
        child.signal(Signal::HUP);
        let told = manager.told();
        let time = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let time = time.trim_end().parse().unwrap();
        assert!((before..=clock()).contains(&time), "{told}");
        assert_eq!(manager.told(), "READY=1\n");
    }
    child.signal(Signal::TERM);
    assert_eq!(manager.told(), "STOPPING=1\nSTATUS=draining\n");
    child.wait().assert_code(0);
    assert_eq!(manager.socket.set_nonblocking(true).ok(), Some(()));
    assert!(manager.socket.recv(&mut [0]).is_err(), "told twice");
}

#[test]
fn an_end_that_nobody_asked_for_is_told_too() {
    let manager = Manager::new();
    let mut child = manager.launch(&[]).stdout(Stdout::Unread).start();
    assert!(manager.told().starts_with("READY=1\n"));
    child.close_stdout();
    let _client = send(child.addr(), "to nobody");
    assert_eq!(manager.told(), "STOPPING=1\nSTATUS=draining\n");
    child.wait().assert_code(1);
}

#[test]
fn a_manager_behind_a_name_without_a_file_is_told() {
    let name = format!("drainline-test-{}", std::process::id());
    let address = net::SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    let manager = Manager::of(socket, format!("@{name}"), tempfile::tempdir().unwrap());
    let mut child = manager.launch(&[]).start();
    assert!(manager.told().starts_with("READY=1\n"));
    child.terminate().assert_code(0);
}

/// A manager that has gone is no reason not to serve.
#[test]
fn without_anybody_at_the_socket_it_serves_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let nobody = directory.path().join("notify");
    let mut child = Drainline::with::<&str>(&[])
        .env("NOTIFY_SOCKET", &nobody)
        .start();
    let _client = send(child.addr(), "served");
    wait_for_stdout(&child, "served\n");
    wait_until("a warning", DEADLINE, || {
        child
            .stderr_text()
            .contains("cannot tell the service manager")
    });
    child.terminate().assert_code(0);
}

#[test]
fn a_manager_that_takes_nothing_holds_nobody_up() {
    let manager = Manager::new();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"full", &manager.name).is_ok() {}
    let mut child = manager.launch(&[]).env(WATCHDOG.0, WATCHDOG.1).start();
    let _client = send(child.addr(), "served");
    wait_for_stdout(&child, "served\n");
    wait_until("a warning", DEADLINE, || {
        child.stderr_text().contains("it took nothing for a second")
    });
    child.terminate().assert_code(0);
}

#[test]
fn who_took_nothing_at_first_is_told_later_that_it_serves() {
    let manager = Manager::new();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"full", &manager.name).is_ok() {}
    let mut child = manager.launch(&[]).start();
    wait_until("a warning", DEADLINE, || {
        child.stderr_text().contains("it took nothing for a second")
    });
    let mut all = std::iter::repeat_with(|| manager.told());
    let told = all.find(|told| told != "full").unwrap();
    assert!(told.starts_with("READY=1\n"), "{told}");
    child.terminate().assert_code(0);
}

const WATCHDOG: (&str, &str) = ("WATCHDOG_USEC", "1000000");

/// Blocks until it was told so often that the server lives.
#[track_caller]
fn wait_for_life(manager: &Manager, times: usize) {
    for _ in 0..times {
        assert_eq!(manager.told(), "WATCHDOG=1\n");
    }
}

#[test]
fn a_server_whose_sink_stands_still_lives() {
    let manager = Manager::new();
    let mut child = manager
        .launch(&["--buffer-messages", "16"])
        .env(WATCHDOG.0, WATCHDOG.1)
        .stdout(Stdout::Unread)
        .start();
    assert!(manager.told().starts_with("READY=1\n"));
    let mut client = client::connect(child.addr());
    client
        .write_all(&b"a line of some length\n".repeat(20_000))
        .unwrap();
    child.wait_for_status("a sender that waits", |status| {
        status["connections"][0]["state"] == "sending"
    });
    wait_for_life(&manager, 8);
    assert!(!child.has_ended());
}

#[test]
fn a_server_without_a_descriptor_left_lives() {
    let manager = Manager::new();
    let mut child = manager.launch(&[]).env(WATCHDOG.0, WATCHDOG.1).start();
    assert!(manager.told().starts_with("READY=1\n"));
    child.limit(Resource::Nofile, Some(3));
    // What was on its way may have been told before.
    wait_for_life(&manager, 4);
    child.signal(Signal::TERM);
    assert_eq!(manager.told_news(), "STOPPING=1\nSTATUS=draining\n");
    child.wait().assert_code(0);
}

#[test]
fn a_watchdog_of_another_process_is_not_fed() {
    let manager = Manager::new();
    let mut child = manager
        .launch(&[])
        .env(WATCHDOG.0, WATCHDOG.1)
        .env("WATCHDOG_PID", "1")
        .start();
    assert!(manager.told().starts_with("READY=1\n"));
    manager
        .socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    assert!(manager.socket.recv(&mut [0; 4096]).is_err());
    child.terminate().assert_code(0);
}

// ---- units

/// The files that the README shows, by the path in their first line.
fn units() -> Vec<(String, String)> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let blocks = readme.split("```ini\n").skip(1);
    let texts = blocks.map(|block| block.split("```").next().unwrap());
    texts
        .map(|text| {
            let (path, _) = text.split_once('\n').unwrap();
            let name = Path::new(path.trim_start_matches("# "))
                .file_name()
                .unwrap();
            (name.to_string_lossy().into_owned(), text.to_owned())
        })
        .collect()
}

#[test]
fn the_units_of_the_readme_are_what_systemd_reads() {
    let Some(analyze) = installed("systemd-analyze") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let units = units();
    let names: Vec<&str> = units.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["drainline.socket", "drainline.service"]);
    for (name, text) in &units {
        // It looks whether the program is there.
        let text = text.replace("/usr/local/bin/drainline", crate::common::child::BINARY);
        fs::write(directory.path().join(name), text).unwrap();
    }
    let paths = names.iter().map(|name| directory.path().join(name));
    let output = Command::new(analyze)
        .arg("verify")
        .args(paths)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Of units that the machine has it may say more.
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("drainline"))
        .collect();
    assert_eq!(ours, [""; 0], "{said}");
}
