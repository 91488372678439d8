//! Messages that ask for an answer.

use std::io::Write;
use std::sync::mpsc::{Sender as Teller, channel};

use drainline::{
    BoxError, Connection, EndReason, Ended, Received, Receiver, Reply, RequestError, Sender, Weigh,
};

use super::builder;
use super::common::client;
use super::common::wait::{DEADLINE, within};

struct Question {
    reply: Reply<u32>,
    bytes: usize,
}

impl Weigh for Question {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

type Outcome = Result<u32, RequestError>;

/// Asks once, and tells what came of it.
fn asks(
    tell: Teller<Outcome>,
    bytes: usize,
) -> impl Fn(&mut Connection, &Sender<Question>) -> Result<(), BoxError> {
    move |_, out| {
        let outcome = out.request(|reply| Question { reply, bytes });
        tell.send(outcome)?;
        Ok(outcome.map(drop)?)
    }
}

/// Holds the first question until it is told what to do with it.
fn holds(
    held: Teller<()>,
    then: impl FnOnce(Reply<u32>) -> Result<(), BoxError>,
) -> impl FnOnce(&mut Receiver<Question>) -> Result<(), BoxError> {
    move |receiver| {
        let mut then = Some(then);
        loop {
            match receiver.recv(DEADLINE) {
                Received::Message(delivery) => {
                    held.send(())?;
                    let reply = delivery.ack().reply;
                    if let Some(then) = then.take() {
                        then(reply)?;
                    }
                }
                Received::Closed => return Ok(()),
                Received::Timeout | Received::RoomWanted => {}
            }
        }
    }
}

#[test]
fn an_answer_comes_back_even_while_the_server_drains() {
    let (tell, told) = channel();
    let (tell_held, held) = channel();
    let (go, gone) = channel::<()>();
    let consumer = holds(tell_held, move |reply| {
        gone.recv()?;
        reply.send(42);
        Ok(())
    });
    let server = builder(|_| {}).start(asks(tell, 0), consumer).unwrap();
    let _client = client::connect(server.local_addrs()[0]);
    held.recv_timeout(DEADLINE).unwrap();
    server.drain(DEADLINE);
    go.send(()).unwrap();
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Ok(42)));
    let report = within("the end", DEADLINE, move || server.wait());
    assert!(!report.timed_out && report.is_balanced(), "{report:?}");
}

/// What a consumer does with a request.
type Way = fn(Reply<u32>) -> Result<(), BoxError>;

#[test]
fn a_consumer_that_lets_go_of_a_request_or_dies_ends_the_wait() {
    let ways: [Way; 3] = [
        |reply| {
            drop(reply);
            Ok(())
        },
        |_reply| Err("it failed".into()),
        |_reply| panic!("as told"),
    ];
    for way in ways {
        let (tell, told) = channel();
        let (tell_held, _held) = channel();
        let server = builder(|_| {})
            .start(asks(tell, 0), holds(tell_held, way))
            .unwrap();
        let _client = client::connect(server.local_addrs()[0]);
        let outcome = told.recv_timeout(DEADLINE);
        assert_eq!(outcome, Ok(Err(RequestError::Unanswered)));
        within("the end", DEADLINE, move || server.shutdown(DEADLINE));
    }
}

#[test]
fn an_abort_and_the_drains_deadline_end_the_wait() {
    for reason in [EndReason::Aborted, EndReason::Shutdown] {
        let (tell, told) = channel();
        let (tell_held, held) = channel();
        let (_keep, kept) = channel::<()>();
        let consumer = holds(tell_held, move |reply| {
            let _ = kept.recv();
            drop(reply);
            Ok(())
        });
        let server = builder(|_| {}).start(asks(tell, 0), consumer).unwrap();
        let _client = client::connect(server.local_addrs()[0]);
        held.recv_timeout(DEADLINE).unwrap();
        match reason {
            EndReason::Aborted => assert!(server.abort(1)),
            _ => server.drain(std::time::Duration::ZERO),
        }
        let outcome = told.recv_timeout(DEADLINE);
        assert_eq!(outcome, Ok(Err(RequestError::Ended(Ended(reason)))));
        drop(_keep);
        let report = within("the end", DEADLINE, move || {
            server.shutdown(std::time::Duration::ZERO)
        });
        assert_eq!(report.stats.ended.get(reason), 1, "{report:?}");
    }
}

#[test]
fn a_request_that_cannot_fit_says_so_and_the_connection_goes_on() {
    let (tell, told) = channel();
    let (tell_held, _held) = channel();
    let server = builder(|config| config.buffer_bytes = 4 << 10)
        .start(asks(tell, 1 << 20), holds(tell_held, |_| Ok(())))
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    let answer = told.recv_timeout(DEADLINE).unwrap();
    assert!(
        matches!(answer, Err(RequestError::TooHeavy(error)) if error.limit.bytes == 4096),
        "{answer:?}"
    );
    let _ = client.write_all(b"-");
}
