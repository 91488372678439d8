//! What is forwarded to, and how.

use std::fmt;
use std::io::{self, ErrorKind};
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Duration;

use super::Forward;
use super::target::Target;
use crate::server::Keepalive;
#[cfg(feature = "tls")]
use crate::server::TlsClient;

/// Unacknowledged bytes older than this end a connection where another receiver can be used.
const ACK_TIMEOUT: Duration = Duration::from_secs(60);

/// What is connected to, and how: the same for all tries until a reopen.
pub(super) struct Plan {
    pub(super) targets: Vec<Target>,
    pub(super) connect_timeout: Duration,
    pub(super) keepalive: Keepalive,
    pub(super) ack_timeout: Option<Duration>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<LoadedTls>,
}

#[cfg(feature = "tls")]
#[derive(Clone)]
pub(super) struct LoadedTls {
    pub(super) client: TlsClient,
    pub(super) config: Arc<rustls::ClientConfig>,
}

impl Plan {
    /// A receiver that takes nothing for this long is given up, too (tcp(7), TCP_USER_TIMEOUT), and
    /// what the kernel holds for it is lost: that is worth it where another can take its place.
    pub(super) fn ack_timeout(&self) -> Option<Duration> {
        let has_others = self.targets.len() > 1;
        self.ack_timeout.or(has_others.then_some(ACK_TIMEOUT))
    }

    /// Why a connection is over, as a log says it.
    pub(super) fn why_lost(&self, error: &io::Error) -> String {
        match (error.kind(), self.ack_timeout()) {
            (ErrorKind::UnexpectedEof, _) => "the receiver has closed it".to_owned(),
            (ErrorKind::ConnectionReset | ErrorKind::BrokenPipe, _) => {
                format!("the receiver has closed it with something unread: {error}")
            }
            // The probes of an idle connection have the same time (tcp(7), TCP_USER_TIMEOUT).
            (ErrorKind::TimedOut, Some(limit)) => {
                format!(
                    "the receiver has acknowledged or taken nothing for {limit:?} (ack_timeout)"
                )
            }
            _ => error.to_string(),
        }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}

/// How to [`Forward`]: made by [`Forward::to`].
#[derive(Clone, Debug)]
pub struct ForwardTo {
    name: Option<String>,
    targets: Vec<Target>,
    connect_timeout: Duration,
    return_after: Duration,
    keepalive: Keepalive,
    ack_timeout: Option<Duration>,
    #[cfg(feature = "tls")]
    tls: TlsClient,
}

impl ForwardTo {
    /// The most receivers.
    pub const MAX_TARGETS: usize = 16;
    /// How long connecting may take where nothing is said.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
    /// After what time a preferred receiver is tried again where nothing is said.
    pub const DEFAULT_RETURN_AFTER: Duration = Duration::from_secs(30);

    pub(super) fn new(target: Target) -> ForwardTo {
        ForwardTo {
            name: None,
            targets: vec![target],
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
            return_after: Self::DEFAULT_RETURN_AFTER,
            keepalive: Keepalive::default(),
            ack_timeout: None,
            #[cfg(feature = "tls")]
            tls: TlsClient::new(),
        }
    }

    /// What the log calls the sink. Default: the receiver that is preferred.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// A receiver that is used while those before it cannot be connected to.
    #[must_use]
    pub fn failover(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }

    /// The longest wait for each address of a receiver to answer, and as long again for the
    /// handshake of TLS: 1 ms to an hour. How long a name takes to be resolved is the system's
    /// (resolv.conf(5), `timeout` and `attempts`). Default 10 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How often receivers that are preferred to the one in use are tried: 1 ms to a day. Default
    /// 30 s.
    #[must_use]
    pub fn return_after(mut self, wait: Duration) -> Self {
        self.return_after = wait;
        self
    }

    /// When a silent receiver is asked whether it is there, over TCP.
    #[must_use]
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.keepalive = keepalive;
        self
    }

    /// How long the receiver's kernel may leave bytes without an acknowledgement, or take none,
    /// before the connection is given up (tcp(7), TCP_USER_TIMEOUT): 1 ms to a day. A receiver that
    /// is only slow is given up, too, once it has taken nothing for so long, and what our kernel
    /// held for it is lost. Default: 60 s with several receivers, and none with one: the kernel
    /// gives up a dead one after some 15 minutes, and waits for a slow one.
    #[must_use]
    pub fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.ack_timeout = Some(timeout);
        self
    }

    /// Whom to trust, and what to show, where a receiver is [`Target::Tls`]. Default: the system's
    /// certificates, and none.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: TlsClient) -> Self {
        self.tls = tls;
        self
    }

    /// Checks the settings, and reads the files of TLS where a receiver speaks it. Does not
    /// connect: that is first done when the server starts, and a receiver that is away is tried
    /// again.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub fn open(self) -> io::Result<Forward> {
        let wrong = |text: &str| Err(io::Error::new(ErrorKind::InvalidInput, text));
        if self.targets.len() > Self::MAX_TARGETS {
            return wrong("there are more receivers than 16, which is the most");
        }
        const MS: Duration = Duration::from_millis(1);
        let timeouts = [Some(self.connect_timeout), self.ack_timeout];
        let day = Duration::from_secs(86_400);
        if timeouts.iter().flatten().any(|it| *it < MS || *it > day) || self.return_after < MS {
            return wrong("a timeout of a receiver is 1 ms to a day");
        }
        #[cfg(feature = "tls")]
        let tls = self.load_tls()?;
        #[cfg(not(feature = "tls"))]
        if self
            .targets
            .iter()
            .any(|target| target.tls_host().is_some())
        {
            return wrong("tls:// needs a build with the feature tls");
        }
        let name = self.name.unwrap_or_else(|| self.targets[0].to_string());
        let plan = Plan {
            targets: self.targets,
            connect_timeout: self.connect_timeout,
            keepalive: self.keepalive,
            ack_timeout: self.ack_timeout,
            #[cfg(feature = "tls")]
            tls,
        };
        Ok(Forward::new(name, plan, self.return_after))
    }

    #[cfg(feature = "tls")]
    fn load_tls(&self) -> io::Result<Option<LoadedTls>> {
        let mut hosts = self.targets.iter().filter_map(Target::tls_host).peekable();
        if hosts.peek().is_none() {
            return Ok(None);
        }
        let other = |error| io::Error::other(error);
        for host in hosts {
            self.tls.name_of(host).map_err(other)?;
        }
        Ok(Some(LoadedTls {
            config: self.tls.load().map_err(other)?,
            client: self.tls.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_the_kernel_gives_up_is_told_with_the_time_it_was_given() {
        let why = |ack_timeout, receivers| {
            let plan = Plan {
                targets: vec![Target::tcp("a", 1); receivers],
                connect_timeout: ForwardTo::DEFAULT_CONNECT_TIMEOUT,
                keepalive: Keepalive::default(),
                ack_timeout,
                #[cfg(feature = "tls")]
                tls: None,
            };
            plan.why_lost(&rustix::io::Errno::TIMEDOUT.into())
        };
        assert!(why(Some(Duration::from_secs(7)), 1).contains("7s (ack_timeout)"));
        assert!(why(None, 2).contains("60s (ack_timeout)"));
        assert!(why(None, 1).contains("timed out"));
    }
}
