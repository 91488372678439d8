//! The password of a login, which may be replaced while the sink runs.

use std::io;
use std::sync::Arc;

use log::Level;
use parking_lot::Mutex;

use crate::server::Logger;

type Read = dyn Fn() -> io::Result<String> + Send + Sync;

#[derive(Clone)]
pub(super) struct Password {
    /// Where it comes from, if it may change.
    read: Option<Arc<Read>>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// What was read last.
    password: Option<String>,
    /// Why it could not be read again, as the log was told.
    failure: Option<String>,
}

impl Password {
    pub(super) fn fixed(password: String) -> Password {
        let known = Known {
            password: Some(password),
            failure: None,
        };
        Password {
            read: None,
            known: Arc::new(Mutex::new(known)),
        }
    }

    pub(super) fn read_by(read: impl Fn() -> io::Result<String> + Send + Sync + 'static) -> Self {
        Password {
            read: Some(Arc::new(read)),
            known: Arc::default(),
        }
    }

    /// Whether it is read again.
    pub(super) fn is_read(&self) -> bool {
        self.read.is_some()
    }

    /// Reads it again.
    ///
    /// # Errors
    /// It cannot be read: what was read last stays.
    pub(super) fn renew(&self) -> io::Result<()> {
        if let Some(read) = &self.read {
            let password = read()?;
            *self.known.lock() = Known {
                password: Some(password),
                failure: None,
            };
        }
        Ok(())
    }

    /// What a connection to `host` logs in with, read again; where that fails, what was read last,
    /// and one line of the log tells.
    ///
    /// # Errors
    /// It could never be read.
    pub(super) fn of_connection(&self, host: &str, logger: &Logger) -> Result<String, String> {
        let outcome = self.renew();
        let mut known = self.known.lock();
        let (why, password) = match (outcome, &known.password) {
            (Ok(()), Some(password)) => return Ok(password.clone()),
            (Ok(()), None) => return Err("there is no password".to_owned()),
            (Err(error), None) => return Err(format!("no password to log in with: {error}")),
            (Err(error), Some(password)) => (error.to_string(), password.clone()),
        };
        if known.failure.as_ref() != Some(&why) {
            let text = format!("logging in to Redis at {host} with the password read last: {why}");
            logger.log(Level::Warn, text);
            known.failure = Some(why);
        }
        Ok(password)
    }
}
