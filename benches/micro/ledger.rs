//! Reading the ledger of a server with connections open.

use std::io::Read;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use drainline::{BoxError, Connection, Sender, Server};

const START_WITHIN: Duration = Duration::from_secs(10);

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ledger");
    for connections in [0, 100, 1000] {
        let (server, _clients) = serve(connections).expect("a server on the loopback");
        let id = BenchmarkId::new("stats", connections);
        group.bench_function(id, |bencher| bencher.iter(|| server.stats()));
        let id = BenchmarkId::new("connections", connections);
        group.bench_function(id, |bencher| bencher.iter(|| server.connections()));
    }
    group.finish();
}

/// A server with so many quiet connections.
fn serve(connections: usize) -> Result<(Server, Vec<TcpStream>), BoxError> {
    let server = Server::builder::<Vec<u8>>()
        .listen("127.0.0.1:0".parse()?)
        .start_each(
            |conn: &mut Connection, _: &Sender<Vec<u8>>| Ok(conn.read_exact(&mut [0])?),
            |_| Ok(()),
        )?;
    let address = server.local_addrs()[0];
    let clients = (0..connections).map(|_| TcpStream::connect(address));
    let clients = clients.collect::<Result<_, _>>()?;
    let begun = Instant::now();
    while server.stats().open < connections as u64 {
        if begun.elapsed() > START_WITHIN {
            return Err("not everybody was accepted".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok((server, clients))
}
