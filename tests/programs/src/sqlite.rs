//! Lines into a SQLite database, many in each transaction. A line counts as delivered when it is
//! committed.

use std::net::SocketAddr;
use std::time::Duration;

use drainline::ingest::{Framing, ReadMessages};
use drainline::{BoxError, Delivery, Server};
use rusqlite::Connection as Database;

const MAX_ROWS: usize = 10_000;

fn commit(database: &mut Database, lines: &[Delivery<String>]) -> rusqlite::Result<()> {
    let transaction = database.transaction()?;
    let mut insert = transaction.prepare("INSERT INTO lines (line) VALUES (?1)")?;
    for line in lines {
        insert.execute([line.get()])?;
    }
    drop(insert);
    transaction.commit()
}

pub fn start(address: SocketAddr, mut database: Database) -> Result<Server, BoxError> {
    database.execute("CREATE TABLE IF NOT EXISTS lines (line TEXT NOT NULL)", [])?;
    Ok(Server::builder::<String>().listen(address).start(
        |conn, out| {
            for line in conn.messages(Framing::Lines, 4096) {
                out.send(String::from_utf8_lossy(&line?).into_owned())?;
            }
            Ok(())
        },
        move |receiver| {
            while let Some(lines) = receiver.recv_many(MAX_ROWS, Duration::from_secs(1)) {
                commit(&mut database, &lines)?;
                lines.into_iter().for_each(|line| drop(line.ack()));
            }
            Ok(())
        },
    )?)
}

pub fn main() -> Result<(), BoxError> {
    start("127.0.0.1:5141".parse()?, Database::open("lines.db")?)?.wait();
    Ok(())
}
