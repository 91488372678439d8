//! The least that `_bulk` costs a client of ureq: a body is sent again and again over connections
//! that are kept open. `same`: it is made once. `rendered`: it is made of its lines each time, with
//! serde_json. Nothing is received.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use http_peer::{MAX_DOCUMENTS, Outcome, QUERY, agent, now, post, put};
use rustix::time::{ClockId, clock_gettime};

const USAGE: &str = "usage: ureq-loop --to URL --message-bytes N --body-bytes N --milliseconds N \
    --requests N --body same|rendered\n\
    --requests so many threads, each with one request at a time\n\
    --body whether it is made once, or each time";

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["--help"] {
        println!("{USAGE}");
        return Ok(());
    }
    let value = |name: &str| {
        let at = arguments.iter().rposition(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).ok_or(USAGE)
    };
    let url = format!("{}/{QUERY}", value("--to")?);
    let message = "x".repeat(value("--message-bytes")?.parse()?);
    let limit: usize = value("--body-bytes")?.parse()?;
    let duration = Duration::from_millis(value("--milliseconds")?.parse()?);
    let requests: usize = value("--requests")?.parse()?;

    let is_rendered = match &**value("--body")? {
        "same" => false,
        "rendered" => true,
        _ => return Err(USAGE.into()),
    };
    let mut document = Vec::new();
    put(&mut document, &now(), &message);
    let documents = ((limit / document.len()) as u64).min(MAX_DOCUMENTS);

    let begun = Instant::now();
    let sent: Outcome<u64> = thread::scope(|scope| {
        let send = || -> Outcome<u64> {
            let agent = agent();
            let mut body = document.repeat(documents as usize);
            let mut bodies = 0;
            while begun.elapsed() < duration {
                if is_rendered {
                    body.clear();
                    let time = now();
                    (0..documents).for_each(|_| put(&mut body, &time, black_box(&message)));
                }
                post(&agent, &url, &body)?;
                bodies += 1;
            }
            Ok(bodies)
        };
        let threads: Vec<_> = (0..requests).map(|_| scope.spawn(send)).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended
            .map(|sent| sent.map_err(|_| "a thread panicked")?)
            .sum()
    });
    let (messages, seconds) = (sent? * documents, begun.elapsed().as_secs_f64());
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_ns = cpu.tv_sec * 1_000_000_000 + cpu.tv_nsec;
    println!("{{\"messages\":{messages},\"seconds\":{seconds},\"cpu_ns\":{cpu_ns}}}");
    Ok(())
}
