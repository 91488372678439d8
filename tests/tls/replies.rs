//! Replies, writers of other threads and requests are over TLS as they are without.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use drainline::{EndReason, Listener, Server, Writer};

use crate::authority::{Client, VERSIONS, config, tls};
use crate::common::handlers::{anywhere, drained, large_reply, upper_case};
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};

/// Pub/sub: who sends a line, sends it to all, by the writers of their connections.
#[test]
fn what_one_publishes_all_get_whole_and_in_one_order() {
    const SUBSCRIBERS: usize = 4;
    const LINES: usize = 500;
    let (tls, authority) = tls();
    let room: Arc<Mutex<Vec<Writer>>> = Arc::default();
    let in_room = Arc::clone(&room);
    let server = small::server::<()>()
        .listener(Listener::on(anywhere()).tls(tls))
        .serve(move |conn| {
            in_room.lock().unwrap().push(conn.writer());
            writeln!(&*conn, "welcome")?;
            for line in BufReader::new(&*conn).lines() {
                let line = format!("{}\n", line?);
                for writer in in_room.lock().unwrap().iter_mut() {
                    writer.write_all(line.as_bytes())?;
                }
            }
            Ok(())
        })
        .unwrap();
    let config = config(&authority, None, &VERSIONS);
    let addr = server.local_addrs()[0];
    let clients: Vec<Client> = (0..SUBSCRIBERS)
        .map(|_| Client::connect(addr, &config))
        .collect();
    let threads: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(number, mut client)| {
            let room = Arc::clone(&room);
            thread::spawn(move || {
                let mut lines = Vec::new();
                let mut reader = BufReader::new(client.stream());
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                assert_eq!(line, "welcome\n");
                if number == 0 {
                    wait_until("all in the room", DEADLINE, || {
                        room.lock().unwrap().len() == SUBSCRIBERS
                    });
                    for n in 0..LINES {
                        let text = format!("{n} {}\n", "x".repeat(n * 37 % 5000));
                        reader.get_mut().write_all(text.as_bytes()).unwrap();
                    }
                }
                while lines.len() < LINES {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    lines.push(line);
                }
                lines
            })
        })
        .collect();
    for thread in threads {
        let lines = thread.join().unwrap();
        for (n, line) in lines.iter().enumerate() {
            let expected = format!("{n} {}\n", "x".repeat(n * 37 % 5000));
            assert_eq!(*line, expected);
        }
    }
    drained(server);
}

#[test]
fn a_request_is_answered() {
    let (tls, authority) = tls();
    let server = upper_case(Listener::on(anywhere()).tls(tls));
    let config = config(&authority, None, &VERSIONS);
    let mut client = Client::connect(server.local_addrs()[0], &config);
    client.send(b"one\ntwo\n");
    client.session.send_close_notify();
    assert_eq!(client.rest(), (b"ONE\nTWO\n".to_vec(), String::new()));
    drained(server);
}

#[test]
fn a_large_reply_arrives_whole_and_so_does_the_end_before_the_handler_returns() {
    const LEN: usize = 5_000_000;
    let (tls, authority) = tls();
    let (server, tell) = large_reply(Listener::on(anywhere()).tls(tls), LEN);
    let config = config(&authority, None, &VERSIONS);
    let mut client = Client::connect(server.local_addrs()[0], &config);
    // A reader so slow that the last record, too, meets a full kernel.
    thread::sleep(Duration::from_millis(300));
    let (mut len, mut part) = (0, vec![0; 16 << 10]);
    loop {
        let read = client.stream().read(&mut part).unwrap();
        if read == 0 {
            break;
        }
        len += read;
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(len, LEN);
    client.send(b"y");
    tell.send(()).unwrap();
    wait_until("an end", DEADLINE, || {
        let ended = server.stats().ended;
        ended.get(EndReason::HandlerReturned) == 1
    });
    drained(server);
}

#[test]
fn a_peer_that_takes_nothing_ends_a_writers_connection_by_its_deadline() {
    let (tls, authority) = tls();
    let mut server_config = small::config();
    server_config.write_timeout = Some(Duration::from_millis(500));
    let (tell, told) = mpsc::channel();
    let server = Server::builder::<()>()
        .config(server_config)
        .listener(Listener::on(anywhere()).tls(tls))
        .serve(move |conn| {
            tell.send(conn.writer())?;
            let mut all = Vec::new();
            conn.read_to_end(&mut all)?;
            Ok(())
        })
        .unwrap();
    let config = config(&authority, None, &VERSIONS);
    let client = Client::connect(server.local_addrs()[0], &config);
    let mut writer: Writer = told.recv_timeout(DEADLINE).unwrap();
    let chunk = vec![b'x'; 1 << 20];
    while writer.write_all(&chunk).is_ok() {}
    assert!(writer.is_closed());
    wait_until("an end", DEADLINE, || {
        server.stats().ended.get(EndReason::WriteTimeout) == 1
    });
    drop(client);
    drained(server);
}
