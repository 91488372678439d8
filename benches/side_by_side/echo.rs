//! drainline's library in a server that replies to each line, and then sends it to its consumer: as
//! the other peers do.

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use drainline::{Connection, Sender, Server};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

use crate::Outcome;

/// What this program is started with to be that server; an address follows.
pub(crate) const ARGUMENT: &str = "--echo-server";

pub(crate) fn serve(address: &str) -> Outcome<()> {
    let mut signals = Signals::new([SIGTERM])?;
    let server = Server::builder::<String>()
        .listen(address.parse()?)
        .start_each(
            |conn: &mut Connection, out: &Sender<String>| {
                let mut lines = BufReader::new(conn);
                let mut reply = String::new();
                loop {
                    reply.clear();
                    if lines.read_line(&mut reply)? == 0 {
                        return Ok(());
                    }
                    lines.get_mut().write_all(reply.as_bytes())?;
                    out.send(reply.trim_end_matches('\n').to_owned())?;
                }
            },
            |_| Ok(()),
        )?;
    signals.forever().next();
    let report = server.shutdown(Duration::from_secs(1));
    let messages = report.stats.delivered;
    crate::print(&format!("{{\"messages\":{messages}}}\n"));
    Ok(())
}
