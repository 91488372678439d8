//! Credentials that are replaced while the sink runs.

use std::io;
use std::sync::Arc;

use log::Level;

use super::Http;
use super::options::HttpOptions;
use crate::ingest::sink::batches::Batches;

impl Http {
    /// Takes credentials anew, if there is where they come from, and with `reads_tls` reads
    /// certificates again. Says whether the credentials are others. Requests that are on their way
    /// keep what they have.
    ///
    /// # Errors
    /// They cannot be read or used: the sink keeps what it has.
    pub(super) fn renew(&mut self, reads_tls: bool) -> io::Result<bool> {
        let Some(renew) = &self.options.renew else {
            return Ok(false);
        };
        let new = renew()?;
        let old = &self.options;
        let is_other = (&old.query, &old.headers, &old.login, &old.token)
            != (&new.query, &new.headers, &new.login, &new.token);
        if is_other || reads_tls {
            let options = HttpOptions {
                query: new.query,
                headers: new.headers,
                login: new.login,
                token: new.token,
                tls: new.tls,
                ..old.clone()
            };
            let mut target = options.target()?;
            target.trust = match reads_tls {
                true => options.trust(&target.uri)?,
                false => self.target.trust.clone(),
            };
            self.target = Arc::new(target);
            self.options = options;
        }
        self.renew_failure = None;
        Ok(is_other)
    }

    /// The server refuses the credentials. Whoever has replaced them need not tell the sink.
    pub(super) fn renew_refused(&mut self, batches: &Batches<'_>) {
        match self.renew(false) {
            Ok(false) => {}
            Ok(true) => {
                let text = || format!("the sink {} has read new credentials", self.name);
                let logger = batches.logger();
                logger.log_limited("http credentials", Level::Info, text);
            }
            // One line, however often the server refuses what is kept.
            Err(error) => {
                let why = error.to_string();
                if self.renew_failure.as_ref() != Some(&why) {
                    let text = format!(
                        "the sink {} goes on with the credentials that it has: {why}",
                        self.name
                    );
                    batches.logger().log(Level::Warn, text);
                    self.renew_failure = Some(why);
                }
            }
        }
    }
}
