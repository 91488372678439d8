//! The load over TLS: lines in bulk, at a pace, one for each connection, or one for each of many
//! connections that are then held. It is told what to do, and tells what it did, as
//! `drainline load` is and does. TLS 1.3 with AES-128-GCM and nothing else, so that everybody
//! decrypts the same.
//!
//! The server's certificate is not verified: it would cost the machine, and prove nothing here.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned, version,
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;
type Client = StreamOwned<ClientConnection, TcpStream>;

/// What is handed to the session at once, in bulk.
const BLOCK_BYTES: usize = 64 << 10;
/// Between two looks at what is due, at a pace.
const TICK: Duration = Duration::from_micros(200);

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["certificate", folder] => certificate(folder.as_ref()),
        ["hold", address, connections] => hold(address.parse()?, connections.parse()?),
        ["load", address, ref args @ ..] => load(address.parse()?, &Args::read(args)?),
        _ => Err("usage: tls-load load ADDRESS FLAGS | hold ADDRESS N | certificate FOLDER".into()),
    }
}

/// A certificate of ECDSA on P-256, and its key.
fn certificate(folder: &Path) -> Outcome<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(folder.join("cert.pem"), made.cert.pem())?;
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())?;
    Ok(())
}

/// The flags of `drainline load` that the bench uses.
struct Args {
    connections: usize,
    duration: Duration,
    size: usize,
    rate: Option<f64>,
    is_short: bool,
    is_timestamped: bool,
}

impl Args {
    fn read(words: &[&str]) -> Outcome<Args> {
        let mut args = Args {
            connections: 1,
            duration: Duration::from_secs(1),
            size: 128,
            rate: None,
            is_short: false,
            is_timestamped: false,
        };
        let mut words = words.iter();
        while let Some(flag) = words.next() {
            let mut value = || words.next().ok_or(format!("{flag} without a value"));
            match *flag {
                "--connections" => args.connections = value()?.parse()?,
                "--duration" => {
                    let millis = value()?.strip_suffix("ms").ok_or("so many ms")?.parse()?;
                    args.duration = Duration::from_millis(millis);
                }
                "--size" => args.size = value()?.parse()?,
                "--rate" => args.rate = Some(value()?.parse()?),
                "--reconnect-every" => {
                    let every = value()?;
                    args.is_short = true;
                    if *every != "1" {
                        return Err("one message a connection, or all".into());
                    }
                }
                "--timestamped" => args.is_timestamped = true,
                // As it always is.
                "--wait-close" => {}
                "--framing" | "--write-size" | "--json" => drop(value()?),
                other => return Err(format!("unknown flag {other}").into()),
            }
        }
        Ok(args)
    }
}

/// What was sent, and by how many connections.
#[derive(Clone, Copy, Default)]
struct Sent {
    messages: u64,
    connects: u64,
}

impl Sent {
    fn and(self, other: Sent) -> Sent {
        Sent {
            messages: self.messages + other.messages,
            connects: self.connects + other.connects,
        }
    }
}

fn load(address: SocketAddr, args: &Args) -> Outcome<()> {
    let config = config()?;
    let (sent, seconds) = match args.rate {
        Some(rate) => paced(address, args, rate, &config)?,
        None => at_once(address, args, &config)?,
    };
    let bytes = sent.messages * (args.size as u64 + 1);
    println!(
        "{{\"messages\":{},\"bytes\":{bytes},\"seconds\":{seconds},\"connects\":{},\"connect_errors\":0,\
         \"write_errors\":0}}",
        sent.messages, sent.connects
    );
    Ok(())
}

/// A thread for each connection. The clock runs from when all are connected until each has been
/// closed by the server.
fn at_once(address: SocketAddr, args: &Args, config: &Arc<ClientConfig>) -> Outcome<(Sent, f64)> {
    let barrier = Barrier::new(args.connections + 1);
    thread::scope(|scope| {
        let client = || match args.is_short {
            true => short(address, args, config, &barrier),
            false => bulk(address, args, config, &barrier),
        };
        let clients: Vec<_> = (0..args.connections).map(|_| scope.spawn(client)).collect();
        barrier.wait();
        let begun = Instant::now();
        let mut sent = Sent::default();
        for client in clients {
            sent = sent.and(client.join().expect("a client panicked")?);
        }
        Ok((sent, begun.elapsed().as_secs_f64()))
    })
}

fn bulk(
    address: SocketAddr,
    args: &Args,
    config: &Arc<ClientConfig>,
    barrier: &Barrier,
) -> Outcome<Sent> {
    let client = connect(address, config);
    barrier.wait();
    let mut client = client?;
    let each = (BLOCK_BYTES / (args.size + 1)).max(1);
    let block = line(args.size).repeat(each);
    let begun = Instant::now();
    let mut messages = 0;
    while begun.elapsed() < args.duration {
        client.write_all(&block)?;
        messages += each as u64;
    }
    end(client)?;
    Ok(Sent {
        messages,
        connects: 1,
    })
}

fn short(
    address: SocketAddr,
    args: &Args,
    config: &Arc<ClientConfig>,
    barrier: &Barrier,
) -> Outcome<Sent> {
    let line = line(args.size);
    barrier.wait();
    let begun = Instant::now();
    let mut sent = Sent::default();
    while begun.elapsed() < args.duration {
        let mut client = connect(address, config)?;
        client.write_all(&line)?;
        end(client)?;
        sent.messages += 1;
        sent.connects += 1;
    }
    Ok(sent)
}

/// All connections in this thread: message by message in turn, each when it is due.
fn paced(
    address: SocketAddr,
    args: &Args,
    rate: f64,
    config: &Arc<ClientConfig>,
) -> Outcome<(Sent, f64)> {
    let mut clients = connect_all(address, args.connections, config)?;
    let mut line = line(args.size);
    let all = clients.len() as f64 * rate * args.duration.as_secs_f64();
    let begun = Instant::now();
    let mut sent = 0;
    while sent < all as u64 {
        let due = begun.elapsed().as_secs_f64() * clients.len() as f64 * rate;
        while sent < (due as u64).min(all as u64) {
            if args.is_timestamped {
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
                write!(&mut line[..20], "{now:019} ")?;
            }
            let next = sent as usize % clients.len();
            clients[next].write_all(&line)?;
            sent += 1;
        }
        thread::sleep(TICK);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let connects = clients.len() as u64;
    for client in clients {
        end(client)?;
    }
    let sent = Sent {
        messages: sent,
        connects,
    };
    Ok((sent, seconds))
}

/// Connections that send a line and are held until stdin ends. Says when all have. Each line of
/// stdin asks for a burst: on how many of them, and how many lines on each.
fn hold(address: SocketAddr, connections: usize) -> Outcome<()> {
    let config = config()?;
    let mut clients = connect_all(address, connections, &config)?;
    for client in &mut clients {
        client.write_all(&line(128))?;
    }
    println!("held");
    for burst in io::stdin().lines() {
        let burst = burst?;
        let (connections, lines) = burst.split_once(' ').ok_or("expected two numbers")?;
        let lines = line(128).repeat(lines.parse()?);
        for client in clients.iter_mut().take(connections.parse()?) {
            client.write_all(&lines)?;
        }
    }
    Ok(())
}

fn connect_all(
    address: SocketAddr,
    connections: usize,
    config: &Arc<ClientConfig>,
) -> Outcome<Vec<Client>> {
    (0..connections).map(|_| connect(address, config)).collect()
}

/// A connection whose handshake is done.
fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Outcome<Client> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    let mut session = ClientConnection::new(Arc::clone(config), name)?;
    session.set_buffer_limit(None);
    let mut client = StreamOwned::new(session, stream);
    while client.conn.is_handshaking() {
        client.conn.complete_io(&mut client.sock)?;
    }
    Ok(client)
}

/// Says that no more comes, and waits for the server's end.
fn end(mut client: Client) -> Outcome<()> {
    client.conn.send_close_notify();
    client.flush()?;
    client.sock.shutdown(Shutdown::Write)?;
    // Who says nothing at the end is no error here.
    let mut rest = [0; 4096];
    while let Ok(1..) = client.sock.read(&mut rest) {}
    Ok(())
}

fn line(bytes: usize) -> Vec<u8> {
    let mut line = vec![b'x'; bytes];
    line.push(b'\n');
    line
}

fn config() -> Outcome<Arc<ClientConfig>> {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    // Each handshake is a whole one.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::ED25519,
        ]
    }
}
