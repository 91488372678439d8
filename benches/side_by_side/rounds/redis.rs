//! Messages into a stream of a Redis of its own, started anew for each turn.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Turn, sleep_until, words};
use crate::Outcome;
use crate::delay::Delay;
use crate::figures::{Figures, Metric};
use crate::load;
use crate::peer::Peer;
use crate::proc;
use crate::process::{Running, free_address};
use crate::provision;

const STREAM: &str = "stream";
/// Commands of `redis-benchmark` in one turn: some seconds.
const COMMANDS: u64 = 500_000;
/// Commands that it sends before it reads the answers.
const PIPELINED: u64 = 512;
const WARM_UP: Duration = Duration::from_millis(200);
/// How long nothing new may come before what is missing is taken for lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// Redis, and whoever writes to it.
struct Site {
    redis: Running,
    folder: TempDir,
}

impl Site {
    fn start() -> Outcome<Site> {
        let program = provision::redis_server()?;
        let prefix = "side-by-side-";
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in("/dev/shm")?;
        let address = free_address()?;
        let mut command = Command::new(program);
        command
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path());
        let mut redis = Running::start(command, address, folder.path())?;
        redis.wait_until_listening()?;
        Ok(Site { redis, folder })
    }

    /// Drainline, with the stream at `redis` as its sink.
    fn drainline(&self, turn: Turn<'_>, redis: SocketAddr) -> Outcome<Running> {
        let folder: PathBuf = self.folder.path().join("drainline");
        std::fs::create_dir(&folder)?;
        let address = free_address()?;
        let mut command = Command::new(turn.program);
        command
            .args(["--listen", &address.to_string(), "--report", "json"])
            .args(["--sink", &format!("redis://{redis}/{STREAM}")]);
        let mut server = Running::start(command, address, &folder)?;
        server.wait_until_listening()?;
        Ok(server)
    }

    /// Entries of the stream.
    fn entries(&self) -> Outcome<u64> {
        let mut stream = TcpStream::connect(self.redis.address)?;
        let length = STREAM.len();
        write!(stream, "*2\r\n$4\r\nXLEN\r\n${length}\r\n{STREAM}\r\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let number = line.trim().strip_prefix(':').ok_or(line.clone())?;
        Ok(number.parse()?)
    }

    fn wait_for_entries(&self, entries: u64) -> Outcome<()> {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let now = self.entries()?;
            if now >= entries || (now == last && since.elapsed() > PATIENCE) {
                return Ok(());
            }
            if now != last {
                (last, since) = (now, Instant::now());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn finish(self, server: Running, sent: u64) -> Outcome<Figures> {
        let peak = proc::peak_resident_bytes(server.pid())?;
        let arrived = self.entries()? as f64 / sent as f64;
        server.stop()?;
        self.redis.stop()?;
        Ok(Figures::default()
            .with(Metric::PeakBytes, peak as f64)
            .with(Metric::Delivered, arrived))
    }
}

/// As much as goes through.
pub(super) fn bulk(turn: Turn<'_>, message_bytes: usize, duration: Duration) -> Outcome<Figures> {
    if turn.entrant.peer == Peer::RedisBenchmark {
        return benchmark(turn, message_bytes);
    }
    let site = Site::start()?;
    let server = site.drainline(turn, site.redis.address)?;
    let load = |duration: Duration| {
        let args = format!(
            "--connections {} --duration {}ms --size {message_bytes} --write-size 64KiB --wait-close",
            turn.connections(),
            duration.as_millis(),
        );
        load::run(&turn.load_program()?, &server.target(), &words(&args))
    };
    let warm_up = load(WARM_UP)?;
    site.wait_for_entries(warm_up.messages)?;
    let (before, begun) = (proc::cpu_time(server.pid())?, Instant::now());
    let sent = load(duration)?;
    let messages = warm_up.messages + sent.messages;
    site.wait_for_entries(messages)?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = proc::cpu_time(server.pid())? - before;
    let mut figures = site.finish(server, messages)?;
    figures.set(Metric::Rate, sent.messages as f64 / seconds);
    figures.set(Metric::BytesPerSecond, sent.bytes as f64 / seconds);
    figures.set(Metric::CpuNs, cpu.as_nanos() as f64 / sent.messages as f64);
    Ok(figures)
}

/// The server's own load: the same command, over one connection.
fn benchmark(turn: Turn<'_>, message_bytes: usize) -> Outcome<Figures> {
    let site = Site::start()?;
    let output = Command::new(turn.program)
        .args(["-h", "127.0.0.1", "-c", "1", "--csv"])
        .args(["-p", &site.redis.address.port().to_string()])
        .args(["-P", &PIPELINED.to_string(), "-n", &COMMANDS.to_string()])
        .args(["XADD", STREAM, "*", "message"])
        .arg("x".repeat(message_bytes))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().next_back().unwrap_or_default();
    // The command in quotes, which may have commas in it, and then the rate.
    let (_, figures) = last
        .split_once("\",\"")
        .ok_or(format!("no figures: {text}"))?;
    let rate: f64 = figures.split('"').next().unwrap_or_default().parse()?;
    let arrived = site.entries()? as f64 / COMMANDS as f64;
    site.redis.stop()?;
    Ok(Figures::default()
        .with(Metric::Rate, rate)
        .with(Metric::BytesPerSecond, rate * (message_bytes + 1) as f64)
        .with(Metric::Delivered, arrived))
}

/// So many messages a second from each connection, each a batch of its own, to a Redis that is so
/// far away.
pub(super) fn far(turn: Turn<'_>, rate: u32, round_trip: Duration) -> Outcome<Figures> {
    const LOADED: Duration = Duration::from_secs(6);
    const LOOK: Duration = Duration::from_millis(250);
    let site = Site::start()?;
    let delay = Delay::start(site.redis.address, round_trip / 2)?;
    let server = site.drainline(turn, delay.address())?;
    let args = format!(
        "--connections {} --duration {}ms --rate {rate} --size 128 --wait-close",
        turn.connections(),
        LOADED.as_millis(),
    );
    let load = load::start(&turn.load_program()?, &server.target(), &words(&args))?;
    let begun = Instant::now();
    let before = proc::cpu_time(server.pid())?;
    let mut behind = 0.0_f64;
    for nth in 4..(LOADED.as_millis() / LOOK.as_millis()) as u32 {
        sleep_until(begun, LOOK * nth);
        server.ask_for_status();
        behind = behind.max(server.last_status()?["in_flight"].as_f64().unwrap_or(0.0));
    }
    let sent = load.wait()?;
    site.wait_for_entries(sent.messages)?;
    let cpu = proc::cpu_time(server.pid())? - before;
    let wanted = turn.connections() as f64 * f64::from(rate);
    let mut figures = site.finish(server, sent.messages)?;
    figures.set(Metric::Rate, sent.messages as f64 / sent.seconds);
    figures.set(
        Metric::Offered,
        sent.messages as f64 / (wanted * LOADED.as_secs_f64()),
    );
    figures.set(Metric::CpuNs, cpu.as_nanos() as f64 / sent.messages as f64);
    figures.set(Metric::Behind, behind);
    Ok(figures)
}
