//! librdkafka's own mock of a cluster, in a process of its own: three brokers that speak the
//! protocol over TCP and keep records in memory, some 5 MiB of each partition.

use std::error::Error;
use std::io::Write;
use std::thread;
use std::time::Duration;

use rdkafka::mocking::MockCluster;

const BROKERS: i32 = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [topic, partitions, round_trip] = arguments.as_slice() else {
        return Err("usage: kafka-mock TOPIC PARTITIONS ROUND_TRIP_IN_MILLISECONDS".into());
    };
    let round_trip = Duration::from_millis(round_trip.parse()?);
    let cluster = MockCluster::new(BROKERS)?;
    cluster.create_topic(topic, partitions.parse()?, BROKERS)?;
    for broker in 1..=BROKERS {
        cluster.broker_round_trip_time(broker, round_trip)?;
    }
    // Where it is, once it is whole.
    println!("{}", cluster.bootstrap_servers());
    std::io::stdout().flush()?;
    loop {
        thread::park();
    }
}
