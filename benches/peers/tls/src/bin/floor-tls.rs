//! The least that TLS on a thread per connection costs: each reads as rustls reads, decrypts,
//! counts the ends of lines and discards. No framing, no channel, no consumer, no deadline.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{error, thread};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use socket2::{Domain, Socket, Type};

const READ_BYTES: usize = 64 << 10;
const STACK_BYTES: usize = 256 << 10;
const BACKLOG: i32 = 4096;

static LINES: AtomicU64 = AtomicU64::new(0);
static OPEN: AtomicU64 = AtomicU64::new(0);

fn main() -> Result<(), Box<dyn error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, address, cert, certificate, key, private] = arguments.as_slice() else {
        return Err("usage: floor-tls --listen ADDRESS --tls-cert FILE --tls-key FILE".into());
    };
    if [&**listen, &**cert, &**key] != ["--listen", "--tls-cert", "--tls-key"] {
        return Err("expected --listen, --tls-cert and --tls-key, in this order".into());
    }
    let address: SocketAddr = address.parse()?;
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(private)?)?;
    config.send_tls13_tickets = 0;
    let config = Arc::new(config);

    let mut signals = Signals::new([SIGTERM])?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    thread::spawn(move || accept(&socket, &config));

    signals.forever().next();
    // Whoever is still being read has its lines counted when it ends.
    for _ in 0..100 {
        if OPEN.load(Ordering::Acquire) == 0 {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    println!("{{\"messages\":{}}}", LINES.load(Ordering::Relaxed));
    Ok(())
}

fn accept(listener: &Socket, config: &Arc<ServerConfig>) {
    loop {
        let Ok((socket, _)) = listener.accept() else {
            continue;
        };
        let stream = TcpStream::from(socket);
        let config = Arc::clone(config);
        OPEN.fetch_add(1, Ordering::Relaxed);
        let spawned = thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || {
                LINES.fetch_add(take(stream, config), Ordering::Relaxed);
                OPEN.fetch_sub(1, Ordering::Release);
            });
        spawned.expect("no thread");
    }
}

fn take(stream: TcpStream, config: Arc<ServerConfig>) -> u64 {
    let session = ServerConnection::new(config).expect("a session");
    let mut tls = StreamOwned::new(session, stream);
    let mut buffer = vec![0; READ_BYTES];
    let mut lines = 0;
    while let Ok(read @ 1..) = tls.read(&mut buffer) {
        lines += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64;
    }
    lines
}
