//! Ports that are known before somebody listens on them.

use std::io::ErrorKind;
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;

use socket2::{Domain, Socket, Type};

/// None of those that the kernel gives away (ip_local_port_range is 32,768 to 60,999): nobody has
/// one by chance.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// A port that nobody has in either address family, and that no other test gets as long as this
/// process lives, in whichever process that runs: a server can come back to it.
pub fn free_port() -> u16 {
    // Each port that was given has a name, which is bound until the process ends: sockets' names
    // that are no files and the ports of a machine are of the same network namespace.
    static GIVEN: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap();
    let begin = std::process::id() as usize * 16 + given.len();
    let tries = PORTS.cycle().skip(begin % PORTS.len()).take(PORTS.len());
    let found = tries.into_iter().find_map(|port| {
        let name = SocketAddr::from_abstract_name(format!("drainline-test-port-{port}")).unwrap();
        let name = UnixDatagram::bind_addr(&name).ok()?;
        is_free(port).then_some((port, name))
    });
    let (port, name) = found.expect("a free port");
    given.push(name);
    port
}

/// The socket that finds out never listens: a process that another thread has just forked may have
/// it open for a moment longer, and would keep the port from whoever it was found for.
fn is_free(port: u16) -> bool {
    let bind = |domain: Domain, all: IpAddr| {
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if all.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&net::SocketAddr::new(all, port).into())
    };
    match bind(Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()) {
        Err(error) if error.kind() != ErrorKind::AddrInUse => {
            // There is no IPv6.
            bind(Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()).is_ok()
        }
        both => both.is_ok(),
    }
}
