//! One server with its clients and its faults, twice: drained under load, started again, and ended
//! in peace.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Signal};

use super::Logger;
use super::beside::{Act, Beside};
use super::beyond::Beyond;
use super::carrier::Place;
use super::client::{self, Life};
use super::common::certificates::Certificates;
use super::common::child::Drainline;
use super::common::exit::Exit;
use super::common::limits::ResourceLimits;
use super::common::proc;
use super::common::wait::{DEADLINE, wait_for, wait_until};
use super::outlet::Outlet;
use super::script::{self, Carrier, Fault, Settings, dice};
use super::verdict;

const CLIENTS: u64 = 6;
/// Begins the line of the logger that says what a life came to.
pub const CAME_TO: &str = "came to";

/// Threads and descriptors of a server.
fn held(server: &Drainline) -> (u64, u64) {
    (proc::threads(server.pid()), proc::descriptors(server.pid()))
}

pub fn play(logger: &Logger, seed: u64, nth: usize, duration: Duration) {
    let settings = Settings::draw(seed, nth);
    logger.note(format_args!("{nth}: {settings:?}"));
    // The second life's sessions begin where those of the first ended.
    let mut sessions = vec![0; CLIENTS as usize];
    for life in 0..2 {
        Play {
            logger,
            seed,
            nth,
            life,
            settings: &settings,
            limit: None,
        }
        .play(duration / 2, &mut sessions);
    }
}

struct Play<'a> {
    logger: &'a Logger,
    seed: u64,
    nth: usize,
    life: u64,
    settings: &'a Settings,
    /// How many descriptors the server may have when it may have many.
    limit: Option<Option<u64>>,
}

/// Lets the clients go, come what may.
struct StopAtTheEnd<'a>(&'a Life);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Play<'_> {
    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.logger
            .note(format_args!("{}.{}: {what}", self.nth, self.life));
    }

    fn play(&mut self, duration: Duration, sessions: &mut [u64]) {
        let mut outlet = Outlet::new(self.settings.kept);
        let mut args = self.settings.flags(self.life);
        let certificates = Certificates::new();
        let receiver = self.settings.beside.as_ref().map(|beside| {
            let path = outlet.beside("receiver.sock");
            let dice = dice(self.seed, &[14, self.nth as u64, self.life]);
            Beyond::start(beside, &path, &certificates, dice)
        });
        let third = self.settings.beside.as_ref();
        let third = third.and_then(|beside| beside.third.as_ref());
        let third = third.map(|third| Outlet::new(third.kept));
        let mut outputs = String::new();
        match (&self.settings.beside, &receiver) {
            (Some(beside), Some(receiver)) => {
                let authority = certificates.authority();
                let mut urls = vec![outlet.url(), receiver.url()];
                urls.extend(third.as_ref().map(Outlet::url));
                outputs = beside.tables(&urls, &authority);
            }
            _ => {
                args.extend(["--sink".to_owned(), outlet.url()]);
            }
        }
        let file = outlet.beside("drainline.toml");
        let paths = ["first.sock", "second.sock"].map(|name| outlet.beside(name));
        let [first, second] = paths.each_ref().map(|path| path.to_str().unwrap());
        let tls = certificates.table();
        let listeners = self.settings.file([first, second], &tls);
        fs::write(&file, outputs + &listeners).unwrap();
        let ports = outlet.beside("ports");
        args.extend(["--report", "json", "--config"].map(str::to_owned));
        args.extend([file.display().to_string(), "--port-file".to_owned()]);
        args.push(ports.display().to_string());
        let mut server = Drainline::with(&args).bare().start();
        let late = self.settings.beside.as_ref().map(Beside::begins_late);
        if let (Some(receiver), Some(0)) = (&receiver, late) {
            receiver.wait_until_met(server.pid());
        }
        let limits = server.limits();
        let floor = floor(&mut server);
        self.note(format_args!(
            "starts with {floor:?} threads and descriptors"
        ));
        let mut addrs = server.addrs().iter();
        let mut place = |nth: usize| match self.settings.carriers[nth] {
            Carrier::Tcp => Place::Tcp(*addrs.next().unwrap()),
            Carrier::Tls => Place::Tls(*addrs.next().unwrap()),
            Carrier::Unix => Place::Unix(paths[nth].clone()),
        };
        let life = Life {
            listeners: [
                (place(0), self.settings.framing),
                (place(1), self.settings.second),
            ],
            trusts: certificates.client_config(),
            is_behind: self.settings.is_behind,
            is_draining: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sent: Mutex::default(),
            numbers: AtomicU32::new(0),
        };
        let (seed, nth) = (self.seed, self.nth);
        let exit = thread::scope(|scope| {
            let stop = StopAtTheEnd(&life);
            let players: Vec<_> = (0..)
                .zip(&*sessions)
                .map(|(client, &from)| {
                    let life = &life;
                    scope.spawn(move || client::play(life, seed, nth, client, from))
                })
                .collect();
            self.harass(
                &mut server,
                limits,
                &mut outlet,
                receiver.as_ref(),
                duration,
            );
            if self.life == 0 {
                life.is_draining.store(true, Ordering::SeqCst);
                let ends_alone = self.settings.ends_alone(0);
                let receiver = receiver.as_ref();
                if let Some(receiver) = receiver.filter(|_| ends_alone) {
                    receiver.tell(Act::Die);
                }
                server.signal(Signal::TERM);
                let patience = dice(seed, &[5, nth as u64]).up_to(700) as u64;
                self.note(format_args!("drains, and heals after {patience} ms"));
                thread::sleep(Duration::from_millis(patience));
                // It may have ended already.
                if !server.has_ended() {
                    self.heal(&mut server, &outlet, receiver.filter(|_| !ends_alone));
                }
            } else {
                self.heal(&mut server, &outlet, receiver.as_ref());
                drop(stop);
                for (number, player) in sessions.iter_mut().zip(players) {
                    *number = player.join().unwrap();
                }
                self.note(format_args!("the clients are gone"));
                let mut before = None;
                wait_until("threads and descriptors at their floor", DEADLINE, || {
                    let held = held(&server);
                    if before.replace(held) != Some(held) {
                        self.note(format_args!("holds {held:?}"));
                    }
                    self.is_floor(held, floor)
                });
                self.note(format_args!("threads and descriptors are at their floor"));
                server.signal(Signal::TERM);
                return server.wait_within(self.settings.longest_drain(self.life));
            }
            let exit = server.wait_within(self.settings.longest_drain(self.life));
            drop(stop);
            for (number, player) in sessions.iter_mut().zip(players) {
                *number = player.join().unwrap();
            }
            exit
        });
        let kept = outlet.bytes(self.settings.output);
        let sent = life.sent.into_inner().unwrap();
        self.note(format_args!(
            "{CAME_TO} {:?}: {} sessions, {} received, {} delivered to {:?}, {} dropped, {} sink failures, rejected {}, ended {}{}",
            exit.code,
            sent.sessions,
            exit.u64("received"),
            exit.u64("delivered"),
            self.settings.kept,
            exit.report["dropped"],
            exit.u64("sink_failures"),
            exit.report["connections"]["rejected"],
            exit.report["connections"]["ended"],
            beside_came_to(self.settings, &exit),
        ));
        if self.life == 1 {
            assert!([Some(0), Some(3)].contains(&exit.code), "{exit}");
            assert!(exit.u64("delivered") > 0, "{exit}");
        }
        for (connection, session) in &sent.played {
            self.note(format_args!("connection {connection}: {session:?}"));
        }
        self.note(format_args!("{exit}"));
        let came = receiver.map(Beyond::end);
        let third = third.map(|third| third.bytes(self.settings.output));
        let third = third.as_deref();
        verdict::judge(self.settings, &exit, &kept, came.as_ref(), third, &sent);
    }

    /// Fault after fault, for so long.
    fn harass(
        &mut self,
        server: &mut Drainline,
        limits: ResourceLimits,
        outlet: &mut Outlet,
        receiver: Option<&Beyond>,
        duration: Duration,
    ) {
        let end = Instant::now() + duration;
        let beside = self.settings.beside.as_ref();
        for (pause, fault) in script::faults(self.seed, self.nth, self.life, beside) {
            thread::sleep(pause);
            if Instant::now() >= end {
                return;
            }
            self.note(format_args!("{fault:?}"));
            assert!(!server.has_ended(), "it ended: {}", server.wait());
            let (threads, descriptors) = held(server);
            let memory = proc::rss_bytes(server.pid());
            assert!(
                threads <= limits.threads
                    && descriptors <= limits.descriptors
                    && memory <= limits.memory_bytes,
                "{threads} threads, {descriptors} descriptors, {memory} bytes: {limits:?}"
            );
            match (fault, receiver) {
                (Fault::Beside(act), Some(receiver)) => receiver.tell(act),
                _ => self.meet(server, outlet, fault),
            }
        }
    }

    fn meet(&mut self, server: &mut Drainline, outlet: &mut Outlet, fault: Fault) {
        match fault {
            Fault::Stall => outlet.let_pass(server, 0),
            Fault::Slow(bytes) => outlet.let_pass(server, bytes),
            Fault::Heal => outlet.heal(server),
            Fault::Hangup => server.signal(Signal::HUP),
            Fault::Rotate => outlet.rotate(server),
            Fault::Usr1 => server.signal(Signal::USR1),
            Fault::FewDescriptors(more) => {
                let numbers = proc::descriptor_numbers(server.pid());
                let few = numbers.last().map_or(0, |last| last + 1) + more;
                let before = server.limit(Resource::Nofile, Some(few));
                self.limit.get_or_insert(before);
            }
            Fault::ManyDescriptors => self.restore_descriptors(server),
            Fault::Freeze(duration) => {
                server.signal(Signal::STOP);
                thread::sleep(duration);
                server.signal(Signal::CONT);
            }
            Fault::Beside(act) => unreachable!("{act:?} without a receiver"),
        }
    }

    /// What comes with the first messages stays, and a connection to a receiver that has gone is
    /// made anew for the next one.
    fn is_floor(&self, held: (u64, u64), floor: (u64, u64)) -> bool {
        let beside = self.settings.beside.as_ref();
        let (late, leaves) = beside.map_or((0, 0), |it| (it.begins_late(), it.leaves()));
        let started = held.0.checked_sub(floor.0);
        let are_threads = started.is_some_and(|started| {
            let compressing = 0..=self.settings.compressing();
            compressing.contains(&started)
                || started
                    .checked_sub(late)
                    .is_some_and(|it| compressing.contains(&it))
        });
        are_threads && (floor.1 - leaves..=floor.1 + late).contains(&held.1)
    }

    fn restore_descriptors(&self, server: &mut Drainline) {
        if let Some(many) = self.limit {
            server.limit(Resource::Nofile, many);
        }
    }

    fn heal(&self, server: &mut Drainline, outlet: &Outlet, receiver: Option<&Beyond>) {
        outlet.heal(server);
        if let Some(receiver) = receiver {
            receiver.tell(Act::Heal);
        }
        self.restore_descriptors(server);
    }
}

/// What became of the messages of a second output, and of a third.
fn beside_came_to(settings: &Settings, exit: &Exit) -> String {
    let Some(beside) = &settings.beside else {
        return String::new();
    };
    let came_to = |nth: usize, what: &str| {
        let row = &exit.report["outputs"][nth];
        format!(
            "; beside ({what}, required {}): {} delivered, {} dropped, {} failures",
            row["required"], row["delivered"], row["dropped"], row["sink_failures"]
        )
    };
    let second = match beside.speech {
        _ if beside.is_command => "a command".to_owned(),
        None => format!("a stream over {:?}", beside.carrier),
        Some(speech) => format!("{speech:?} over {:?}", beside.carrier),
    };
    let third = beside.third.as_ref();
    let third = third.map(|third| came_to(2, &format!("{:?}", third.kept)));
    came_to(1, &second) + &third.unwrap_or_default()
}

/// What it holds before anybody came, its last thread being the one that answers signals.
fn floor(server: &mut Drainline) -> (u64, u64) {
    /// It answers through a descriptor that it closes a moment later.
    const BETWEEN_READINGS: Duration = Duration::from_millis(50);
    server.wait_until_all_ended();
    wait_for("readings that stay", DEADLINE, || {
        let first = held(server);
        thread::sleep(BETWEEN_READINGS);
        (held(server) == first).then_some(first)
    })
}
