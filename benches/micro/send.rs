//! An item's way from a Sender through the Receiver, and its capacity's way back, in a running
//! server.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use drainline::{BoxError, Connection, Sender, Server};

const ITEM_BYTES: usize = 128;
/// What the last item of an order begins with.
const LAST: u8 = 1;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("send");
    group.throughput(Throughput::Elements(1));
    for senders in [1, 2, 8] {
        let relay = Relay::start(senders).expect("a server on the loopback");
        group.bench_function(BenchmarkId::new("hand-over", senders), |bencher| {
            bencher.iter_custom(|items| relay.time(items));
        });
    }
    group.finish();
}

/// A server whose handlers send as many items as they are told.
struct Relay {
    // Dropped first: it ends the handlers.
    orders: Vec<mpsc::Sender<u64>>,
    /// Once for each order that the consumer has had the last item of.
    finished: mpsc::Receiver<()>,
    _server: Server,
    _clients: Vec<TcpStream>,
}

impl Relay {
    fn start(senders: usize) -> Result<Relay, BoxError> {
        let (orders, taken): (Vec<_>, Vec<_>) =
            (0..senders).map(|_| mpsc::channel::<u64>()).unzip();
        let taken = Mutex::new(taken);
        let (finish, finished) = mpsc::channel();
        let server = Server::builder::<Vec<u8>>()
            .listen("127.0.0.1:0".parse()?)
            .start_each(
                move |_: &mut Connection, out: &Sender<Vec<u8>>| {
                    let orders = taken.lock().map_err(|_| "a handler panicked")?.pop();
                    for items in orders.into_iter().flatten() {
                        for left in (0..items).rev() {
                            let mut item = vec![0; ITEM_BYTES];
                            item[0] = if left == 0 { LAST } else { 0 };
                            out.send(item)?;
                        }
                    }
                    Ok(())
                },
                move |item| {
                    if item.first() == Some(&LAST) {
                        finish.send(())?;
                    }
                    Ok(())
                },
            )?;
        let address = server.local_addrs()[0];
        let clients = (0..senders).map(|_| TcpStream::connect(address));
        Ok(Relay {
            orders,
            finished,
            _clients: clients.collect::<Result<_, _>>()?,
            _server: server,
        })
    }

    /// Has so many items sent, shared out among the senders, and waits until the last is consumed.
    fn time(&self, items: u64) -> Duration {
        let senders = self.orders.len() as u64;
        let begun = Instant::now();
        for (sender, order) in (0..).zip(&self.orders) {
            // At least one, or nobody would say that it is finished.
            let share = (items / senders + u64::from(sender < items % senders)).max(1);
            order.send(share).expect("a handler that waits for orders");
        }
        for _ in &self.orders {
            self.finished.recv().expect("a consumer that runs");
        }
        begun.elapsed()
    }
}
