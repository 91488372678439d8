//! The least that a record costs a producer of rdkafka: one message, made once, is sent again and
//! again, with the options that drainline sets. Nothing is received. `base` polls for reports in
//! the loop that sends, `threaded` has rdkafka's thread do that.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer,
};
use rustix::time::{ClockId, clock_gettime};

const USAGE: &str = "usage: kafka-loop --to BROKERS --topic TOPIC --message-bytes N \
    --milliseconds N --producer base|threaded\n\
    --producer who polls for reports";
/// How long a full queue is waited for.
const WAIT: Duration = Duration::from_millis(1);
const FLUSH_WITHIN: Duration = Duration::from_secs(30);

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Counts reports.
#[derive(Clone, Default)]
struct Reports {
    delivered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = match result {
            Ok(_) => &self.delivered,
            Err(_) => &self.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["--help"] {
        println!("{USAGE}");
        return Ok(());
    }
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).ok_or(USAGE)
    };
    let topic = value("--topic")?;
    let message = vec![b'x'; value("--message-bytes")?.parse()?];
    let duration = Duration::from_millis(value("--milliseconds")?.parse()?);

    let reports = Reports::default();
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", value("--to")?)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "0")
        .set("linger.ms", "5")
        .set("queue.buffering.max.kbytes", (32 << 10).to_string())
        .set("queue.buffering.max.messages", "100000");
    let begun = Instant::now();
    let record = || BaseRecord::<[u8], [u8]>::to(topic).payload(&message);
    match &**value("--producer")? {
        "base" => {
            let producer = BaseProducer::from_config_and_context(&config, reports.clone())?;
            while begun.elapsed() < duration {
                match producer.send(record()) {
                    Ok(()) => producer.poll(Duration::ZERO),
                    Err((error, _)) if is_full(&error) => producer.poll(WAIT),
                    Err((error, _)) => return Err(error.into()),
                };
            }
            producer.flush(FLUSH_WITHIN)?;
        }
        "threaded" => {
            let producer = ThreadedProducer::from_config_and_context(&config, reports.clone())?;
            let producer: ThreadedProducer<Reports> = producer;
            while begun.elapsed() < duration {
                match producer.send(record()) {
                    Ok(()) => {}
                    Err((error, _)) if is_full(&error) => thread::sleep(WAIT),
                    Err((error, _)) => return Err(error.into()),
                }
            }
            producer.flush(FLUSH_WITHIN)?;
        }
        _ => return Err(USAGE.into()),
    }
    let seconds = begun.elapsed().as_secs_f64();
    let messages = reports.delivered.load(Ordering::Relaxed);
    let failed = reports.failed.load(Ordering::Relaxed);
    if failed > 0 {
        return Err(format!("{failed} records failed").into());
    }
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_ns = cpu.tv_sec * 1_000_000_000 + cpu.tv_nsec;
    println!("{{\"messages\":{messages},\"seconds\":{seconds},\"cpu_ns\":{cpu_ns}}}");
    Ok(())
}

fn is_full(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
    )
}
