//! The threads that send requests: a fixed number, each with one request at a time.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::answer::{Failure, Verdict};
use super::client::Client;
use super::parts::Part;
use super::target::Target;
use crate::ingest::sink::lookup::Lookup;
use crate::server::Notifier;

/// How long the end waits for a thread that is inside a request: each of its waits but one, for the
/// system's resolver, ends in a tenth of a second.
const END_WAIT: Duration = Duration::from_secs(1);

/// A request, and what is in it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) body: Vec<u8>,
    pub(super) parts: Vec<Part>,
    pub(super) messages: u64,
    pub(super) target: Arc<Target>,
    pub(super) begun: Instant,
}

#[derive(Debug)]
pub(super) struct Done {
    pub(super) job: Job,
    pub(super) verdict: Verdict,
}

#[derive(Debug)]
pub(super) struct Threads {
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    handles: Vec<(JoinHandle<()>, Arc<Lookup>)>,
    is_over: Arc<AtomicBool>,
}

impl Threads {
    /// Starts a thread for each client.
    ///
    /// # Errors
    /// The system has no thread.
    pub(super) fn start(
        clients: Vec<Client>,
        notifier: &Notifier,
        is_over: Arc<AtomicBool>,
    ) -> io::Result<Threads> {
        let (jobs, queue) = bounded(clients.len());
        let (to, done) = bounded(clients.len());
        let mut threads = Threads {
            jobs: Some(jobs),
            done,
            handles: Vec::with_capacity(clients.len()),
            is_over,
        };
        for (nth, client) in clients.into_iter().enumerate() {
            let (queue, to, notifier) = (queue.clone(), to.clone(), notifier.clone());
            let lookup = client.lookup();
            let builder = thread::Builder::new().name(format!("http-{}", nth + 1));
            let handle = builder.spawn(move || run(client, &queue, &to, &notifier))?;
            threads.handles.push((handle, lookup));
        }
        Ok(threads)
    }

    /// Never waits: there are no more requests than threads.
    pub(super) fn send(&self, job: Job) -> Result<(), Job> {
        match &self.jobs {
            Some(jobs) => jobs.try_send(job).map_err(|error| error.into_inner()),
            None => Err(job),
        }
    }

    pub(super) fn take_done(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }
}

/// Waits a second at most, and not for a thread that the system's resolver holds: that thread ends
/// by itself, and sends nothing any more.
impl Drop for Threads {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.jobs = None;
        let until = Instant::now() + END_WAIT;
        for (handle, lookup) in self.handles.drain(..) {
            lookup.join(handle, until);
        }
    }
}

fn run(mut client: Client, queue: &Receiver<Job>, to: &Sender<Done>, notifier: &Notifier) {
    for mut job in queue {
        let post = || client.post(&job.target, &mut job.body, job.messages);
        // An answer that never came would hold its messages for ever.
        let verdict = catch_unwind(AssertUnwindSafe(post)).unwrap_or_else(|_| {
            Verdict::Again(Failure::passing("the request's thread has panicked"))
        });
        if to.send(Done { job, verdict }).is_err() {
            return;
        }
        notifier.notify();
    }
}
