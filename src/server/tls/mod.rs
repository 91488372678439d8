//! TLS for a listener: its certificate, whose clients may connect, and the session of a connection.
//! And for an output: whose servers it trusts.
//!
//! - `pem`: texts in PEM, read
//! - `material`: certificates and keys, checked, and what they take of memory
//! - `certificate`: what a certificate says
//! - `client`: whom an output trusts, and what it shows
//! - `session`: bytes of the wire in, plaintext out
//! - `in_memory`: a session without a wire, for tests and fuzzing
//! - `words`: what goes wrong with a peer, in words

mod certificate;
mod client;
mod error;
pub mod in_memory;
mod material;
mod pem;
mod session;
mod words;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, RwLock};

use certificate::Name;
pub use client::TlsClient;
pub(crate) use client::words as server_words;
pub use error::{TlsError, TlsErrorKind, TlsPart};
use material::{Counted, Loaded, Settings, Source};
use pem::Pem;
pub(crate) use session::{Incoming, Session};

use super::ranges;

/// From this long before it expires, a certificate's end is told.
const TOLD_AHEAD: Duration = Duration::from_secs(14 * 86_400);

/// A reload waits so long for the handshakes that began before the last one. Most take less than a
/// tenth of it, and a client that keeps still is not worth waiting for.
const HANDSHAKES_WAIT: Duration = Duration::from_secs(1);

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuth {
    /// A client without a certificate is refused. The default where a client CA is given.
    #[default]
    Required,
    /// A client may come without a certificate; one that it shows must be valid.
    Optional,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246), the default.
    #[default]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

impl ClientAuth {
    /// Every choice.
    pub const ALL: &'static [ClientAuth] = &[ClientAuth::Required, ClientAuth::Optional];

    /// The choice's name: `required`, `optional`.
    pub const fn name(self) -> &'static str {
        match self {
            ClientAuth::Required => "required",
            ClientAuth::Optional => "optional",
        }
    }
}

impl TlsVersion {
    /// Every version, the oldest first.
    pub const ALL: &'static [TlsVersion] = &[TlsVersion::V1_2, TlsVersion::V1_3];

    /// The version's name: `1.2`, `1.3`.
    pub const fn name(self) -> &'static str {
        match self {
            TlsVersion::V1_2 => "1.2",
            TlsVersion::V1_3 => "1.3",
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// TLS for the clients of a listener ([`Listener::tls`](crate::Listener::tls)): a certificate with
/// its key, and which clients may connect. Clones are the same: what [`reload`](Tls::reload) and
/// [`replace`](Tls::replace) change, they change for all, and for connections that come afterwards.
///
/// Session tickets are not sent, and sessions are not resumed: a client of TLS 1.3 that sends and
/// closes without reading would leave the tickets unread, and its kernel would reset the connection
/// and throw away what it had sent last. Each connection is a full handshake. A configuration of
/// one's own may resume sessions of TLS 1.2 ([`from_config`](Tls::from_config)).
///
/// The memory of what is loaded is in the server's limits, with room for what a reload may bring:
/// PEM of half as much again as there was when the `Tls` was made, at least 16 KiB more of each of
/// certificate, key and client CA and 64 KiB more of revocation lists, names of clients by the same
/// rule as certificates, and 4 KiB more of our own
/// certificates in DER, which each connection may hold. Twice: a handshake that has begun keeps
/// what it began with until it is over. At most 256 KiB are read of a certificate and of a key
/// (64 KiB of certificates in DER), 1 MiB of client CAs, and 16 MiB of revocation lists, for each
/// byte of which some 30 bytes of memory are counted, room included. A client may show 8
/// certificates beside its own.
///
/// ```no_run
/// use drainline::{Listener, Server, Tls};
///
/// let tls = Tls::from_files("server.pem", "server.key")?.client_ca_file("clients-ca.pem")?;
/// let server = Server::builder()
///     .listener(Listener::on("0.0.0.0:6514".parse()?).tls(tls.clone()))
///     .serve(|conn| {
///         println!("{:?} connected", conn.tls_name());
///         Ok(())
///     })?;
/// // Later, when the files have been renewed:
/// tls.reload()?;
/// # drop(server);
/// # Ok::<(), drainline::BoxError>(())
/// ```
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    current: RwLock<Current>,
    counted: Counted,
    /// Held while files are read, so that no two reloads load something at once.
    reload: Mutex<()>,
}

struct Current {
    settings: Settings,
    loaded: Arc<Loaded>,
    /// What was current before, while handshakes use it.
    previous: Weak<Loaded>,
}

impl Tls {
    /// From a certificate and its key in PEM. The certificate comes first, those that vouch for it
    /// follow. The key is PKCS #8, PKCS #1 (RSA) or SEC1 (EC), and not encrypted.
    ///
    /// # Errors
    /// No certificate or key in the text, a key that does not match or is encrypted.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Tls::of(Settings::of(Source::Pem {
            certificate: Pem::Text(certificate.into()),
            key: Pem::Text(key.into()),
        }))
    }

    /// As [`from_pem`](Tls::from_pem), from two files, or twice the same; [`reload`](Tls::reload)
    /// reads them again.
    ///
    /// # Errors
    /// As [`from_pem`](Tls::from_pem), and a file that cannot be read.
    pub fn from_files(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        Tls::of(Settings::of(Source::Pem {
            certificate: Pem::File(certificate.into()),
            key: Pem::File(key.into()),
        }))
    }

    /// From a configuration of rustls 0.23, for another provider of cryptography or a verifier of
    /// one's own. It is taken as it is, but for session tickets of TLS 1.3 and early data, which
    /// are switched off. Sessions of TLS 1.2 can be resumed where it allows that: by tickets, if it
    /// has a `ticketer` (by default none), and by its `session_storage` (by default 256 sessions in
    /// memory). What it holds is not in the limits, which count 16 KiB of certificates and those of
    /// clients for each connection. rustls' type makes this the one entrance that a new version of
    /// rustls changes.
    pub fn from_config(config: Arc<rustls::ServerConfig>) -> Self {
        let loaded = Loaded::of_config(&config);
        Tls::with(Settings::of(Source::Config), loaded)
    }

    /// Clients must have a certificate that one of these vouches for: PEM, one or more.
    ///
    /// # Errors
    /// No certificate in the text, or made by [`from_config`](Tls::from_config), as with each of
    /// the settings below.
    pub fn client_ca_pem(self, certificates: &[u8]) -> Result<Self, TlsError> {
        self.set(|settings| settings.client_ca = Some(Pem::Text(certificates.into())))
    }

    /// As [`client_ca_pem`](Tls::client_ca_pem), from a file, which [`reload`](Tls::reload) reads
    /// again.
    ///
    /// # Errors
    /// As [`client_ca_pem`](Tls::client_ca_pem), and a file that cannot be read.
    pub fn client_ca_file(self, file: impl Into<PathBuf>) -> Result<Self, TlsError> {
        self.set(|settings| settings.client_ca = Some(Pem::File(file.into())))
    }

    /// Certificates of clients that are revoked, by lists (CRLs) in a PEM file, which
    /// [`reload`](Tls::reload) reads again. Only clients' own certificates are looked up; where no
    /// list is of their issuer, they are not revoked. A list whose time (nextUpdate) is over is
    /// still used, and the log says so at start, after a reload, and once a day.
    ///
    /// # Errors
    /// No list in the file, no client CA, or a file that cannot be read.
    pub fn client_crl_file(self, file: impl Into<PathBuf>) -> Result<Self, TlsError> {
        self.set(|settings| settings.client_crl = Some(Pem::File(file.into())))
    }

    /// Whether a client must show a certificate. Default: required, where a client CA is given.
    ///
    /// # Errors
    /// There is no client CA.
    pub fn client_auth(self, auth: ClientAuth) -> Result<Self, TlsError> {
        self.set(|settings| settings.client_auth = Some(auth))
    }

    /// The oldest version of TLS that is spoken. Default: 1.2.
    ///
    /// # Errors
    /// Made by [`from_config`](Tls::from_config).
    pub fn min_version(self, version: TlsVersion) -> Result<Self, TlsError> {
        self.set(|settings| settings.min_version = version)
    }

    /// Of the clients whose certificate is valid, only those with one of these names may stay: a
    /// DNS name of the certificate, in full and in any case; a URI, as it is written; or its
    /// fingerprint, `sha256:` and 64 hexadecimal digits in any case, with or without colons between
    /// them. What begins with `sha256:` is never compared with a URI. Others are disconnected after
    /// the handshake, counted as [`NotAllowed`](crate::EndReason::NotAllowed). Default: all.
    ///
    /// # Errors
    /// There is no client CA; a fingerprint of another length; a name that is empty, longer than
    /// 253 bytes, or holds other than visible characters of ASCII; more than 65,536 names.
    pub fn allow_names<N: Into<String>>(
        self,
        names: impl IntoIterator<Item = N>,
    ) -> Result<Self, TlsError> {
        let most = *ranges::LIST_ENTRIES.end();
        let names = names.into_iter().take(most + 1);
        let names = names.map(|name| Name::parse(&name.into()));
        let names = names.collect::<Result<Arc<[Name]>, _>>()?;
        if names.len() > most {
            let text = format!("more than {most} names of clients, which are the most");
            return Err(TlsError::new(text));
        }
        self.set(|settings| settings.allow = Some(names))
    }

    /// A name for [`allow_names`](Tls::allow_names) in the form in which it is compared: of a
    /// fingerprint `sha256:` and lowercase digits without colons, of a DNS name lowercase.
    ///
    /// # Errors
    /// `allow_names` would refuse it.
    pub fn canonical_name(name: &str) -> Result<String, TlsError> {
        Name::parse(name).map(|name| name.to_string())
    }

    /// Reads the files again, for connections that come from now on. Blocks while files are read,
    /// while another reload does, and for at most a second while clients shake hands by what was
    /// current before the last reload. Does nothing if made by [`from_config`](Tls::from_config).
    ///
    /// # Errors
    /// What was loaded before stays in use: where something cannot be used; where it takes more
    /// memory than is counted (above); and as [`Busy`](TlsErrorKind::Busy) where clients still
    /// shake hands by what was current before the last reload: that passes once they are through,
    /// or the handshake timeout has ended them.
    pub fn reload(&self) -> Result<(), TlsError> {
        let _alone = self.shared.reload.lock();
        let settings = self.shared.current.read().settings.clone();
        if matches!(settings.source, Source::Config) {
            return Ok(());
        }
        self.wait_for_previous()?;
        let loaded = settings.load(Some(&self.shared.counted))?;
        self.put(settings, loaded);
        Ok(())
    }

    /// Takes everything of `other`, for connections that come from now on. `other` stays as it is;
    /// if it is kept, its memory is not in the limits.
    ///
    /// # Errors
    /// As [`reload`](Tls::reload): what was there stays in use.
    pub fn replace(&self, other: &Tls) -> Result<(), TlsError> {
        let (settings, loaded) = {
            let other = other.shared.current.read();
            (other.settings.clone(), Loaded::clone(&other.loaded))
        };
        let _alone = self.shared.reload.lock();
        self.wait_for_previous()?;
        self.shared.counted.check(&loaded)?;
        self.put(settings, loaded);
        Ok(())
    }

    /// Waits for the handshakes that use what was before the current.
    fn wait_for_previous(&self) -> Result<(), TlsError> {
        let deadline = Instant::now() + HANDSHAKES_WAIT;
        while self.shared.current.read().previous.strong_count() > 0 {
            if Instant::now() >= deadline {
                return Err(TlsError::busy());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn put(&self, settings: Settings, loaded: Loaded) {
        let loaded = Arc::new(loaded);
        let mut current = self.shared.current.write();
        let previous = Arc::downgrade(&current.loaded);
        let before = std::mem::replace(
            &mut *current,
            Current {
                settings,
                loaded,
                previous,
            },
        );
        drop(current);
        // A long list takes a while, which no client needs to wait for.
        drop(before);
    }

    /// When the certificate expires; `None` if it cannot be told, as with
    /// [`from_config`](Tls::from_config).
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.shared.current.read().loaded.expires_at
    }

    /// What is to be said about the certificate's end, from 14 days ahead, and about a revocation
    /// list that has had its time. Both are still used: clients may be lenient, or our clock wrong.
    pub(crate) fn note(&self, now: SystemTime) -> Option<String> {
        let current = self.shared.current.read();
        let (loaded, settings) = (&current.loaded, &current.settings);
        let days = |span: Duration| crate::server::counted(span.as_secs() / 86_400, "day");
        let left = loaded.expires_at.map(|at| at.duration_since(now));
        let certificate = match left {
            None => None,
            Some(Ok(left)) if left > TOLD_AHEAD => None,
            Some(Ok(left)) => Some(format!("expires in {}: renew it", days(left))),
            Some(Err(past)) => Some(format!(
                "expired {} ago, and clients will refuse it: renew it",
                days(past.duration())
            )),
        };
        let certificate = certificate.map(|text| format!("{} {text}", settings.certificate()));
        let past = loaded
            .crl_next_update
            .and_then(|at| now.duration_since(at).ok());
        let list = past.map(|past| {
            format!(
                "{} should have been followed by the next {} ago, and is still used: renew it",
                settings.revocation_lists(),
                days(past)
            )
        });
        let all: Vec<String> = certificate.into_iter().chain(list).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Resident bytes that a connection takes at most beyond one without TLS, whatever a
    /// [`reload`](Tls::reload) brings.
    pub(crate) fn connection_bytes(&self) -> u64 {
        let counted = &self.shared.counted;
        session::memory_bytes(counted.answer_bytes(), counted.has_client_auth()) as u64
    }

    /// Resident bytes that what is loaded takes at most, whatever a [`reload`](Tls::reload) brings.
    pub(crate) fn loaded_bytes(&self) -> u64 {
        self.shared.counted.loaded_bytes()
    }

    /// Whether they are clones.
    pub(crate) fn is_same(&self, other: &Tls) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.shared.current.read().loaded)
    }

    fn of(settings: Settings) -> Result<Self, TlsError> {
        let loaded = settings.load(None)?;
        Ok(Tls::with(settings, loaded))
    }

    fn with(settings: Settings, loaded: Loaded) -> Self {
        let counted = Counted::of(&loaded);
        let current = Current {
            settings,
            loaded: Arc::new(loaded),
            previous: Weak::new(),
        };
        Tls {
            shared: Arc::new(Shared {
                current: RwLock::new(current),
                counted,
                reload: Mutex::new(()),
            }),
        }
    }

    fn set(self, change: impl FnOnce(&mut Settings)) -> Result<Self, TlsError> {
        let mut settings = self.shared.current.read().settings.clone();
        change(&mut settings);
        Tls::of(settings)
    }
}

/// Without certificates and keys.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.shared.current.read();
        f.debug_struct("Tls")
            .field("certificate", &current.settings.certificate())
            .field("min_version", &current.settings.min_version)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
