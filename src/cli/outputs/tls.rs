//! TLS to the servers of an output: its options, which are the same in every scheme that speaks it.

#[cfg(feature = "tls")]
use std::io;
use std::path::PathBuf;

#[cfg(feature = "tls")]
use drainline::{TlsClient, TlsVersion};

use super::option::{Contradiction, GROUP};
#[cfg(feature = "tls")]
use crate::cli::flag::part_rows;
use crate::cli::flag::{Flag, field};
#[cfg(all(test, feature = "tls"))]
use crate::cli::kinds::cases;
use crate::cli::kinds::unset;
#[cfg(feature = "tls")]
use crate::cli::kinds::{Kind, NotAccepted, choice};
use crate::cli::values::PATH;
#[cfg(feature = "tls")]
use crate::cli::values::TLS_VERSION;

/// The certificates that an output trusts, and the one that it shows.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsFiles {
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

impl TlsFiles {
    pub(super) fn rows() -> Vec<Flag<TlsFiles>> {
        vec![
            Flag {
                name: "tls-ca",
                group: GROUP,
                purpose: "authorities that are trusted",
                help: "A PEM file of the authorities whose certificates a server may show. Without it, \
                       those of the system.",
                takes: field!(unset(PATH), TlsFiles.ca),
            },
            Flag {
                name: "tls-cert",
                group: GROUP,
                purpose: "the client certificate",
                help: "A PEM file of the certificate that is shown to a server which asks for one, with \
                       those that vouch for it.",
                takes: field!(unset(PATH), TlsFiles.cert),
            },
            Flag {
                name: "tls-key",
                group: GROUP,
                purpose: "the key of the client certificate",
                help: "A PEM file of the private key of tls_cert, not encrypted.",
                takes: field!(unset(PATH), TlsFiles.key),
            },
        ]
    }

    /// The first row that is given.
    fn given(&self) -> Option<&'static str> {
        let rows = [
            ("tls-ca", &self.ca),
            ("tls-cert", &self.cert),
            ("tls-key", &self.key),
        ];
        let mut given = rows.into_iter().filter(|(_, path)| path.is_some());
        given.next().map(|(row, _)| row)
    }

    /// Files where no TLS is spoken, which `expected` would do; and of a certificate and its key
    /// one alone.
    pub(super) fn contradiction(&self, is_spoken: bool, expected: &str) -> Option<Contradiction> {
        match (self.given(), &self.cert, &self.key) {
            (Some(row), ..) if !is_spoken => Some(Contradiction::new(row, expected)),
            (_, Some(_), None) => Some(Contradiction::new("tls-cert", "a tls_key beside it")),
            (_, None, Some(_)) => Some(Contradiction::new("tls-key", "a tls_cert beside it")),
            _ => None,
        }
    }
}

/// Whom a certificate is for. Whether one can be says the library.
#[cfg(feature = "tls")]
struct ServerName;

/// The longest name of the DNS in characters.
#[cfg(feature = "tls")]
const MAX_SERVER_NAME: usize = 253;

#[cfg(feature = "tls")]
impl Kind for ServerName {
    type Value = String;

    fn read(&self, typed: &str) -> Result<String, NotAccepted> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        let is_name = (1..=MAX_SERVER_NAME).contains(&typed.len()) && typed.chars().all(is_part);
        match is_name {
            true => Ok(typed.to_owned()),
            false => Err(NotAccepted::default()),
        }
    }

    fn print(&self, value: &String) -> Option<String> {
        Some(value.clone())
    }

    fn expected(&self) -> String {
        format!(
            "a name of the DNS (at most {MAX_SERVER_NAME} characters), or an address such as ::1"
        )
    }

    fn placeholder(&self) -> String {
        "NAME".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let longest = format!("{0}.{0}.{0}.{1}", "n".repeat(63), "n".repeat(61));
        let longer = format!("{longest}n");
        let good = ["a.example", "10.0.0.1", "::1", &longest];
        cases(&good, &["", "a b", "a/b", "[::1]", &longer])
    }
}

/// What the library takes for TLS.
#[cfg(feature = "tls")]
#[derive(Clone, Debug, Default)]
pub(super) struct ClientTls {
    files: TlsFiles,
    server_name: Option<String>,
    min_version: TlsVersion,
}

#[cfg(feature = "tls")]
impl ClientTls {
    pub(super) fn rows() -> Vec<Flag<ClientTls>> {
        let mut rows = part_rows!(ClientTls.files, TlsFiles::rows());
        rows.extend([
            Flag {
                name: "tls-server-name",
                group: GROUP,
                purpose: "whom the server's certificate is for",
                help: "The name, or the address, that the server's certificate must be for. Without it, \
                       the HOST of the URL.",
                takes: field!(unset(ServerName), ClientTls.server_name),
            },
            Flag {
                name: "tls-min-version",
                group: GROUP,
                purpose: "oldest version of TLS",
                help: "The oldest version of TLS that is spoken.",
                takes: field!(choice(TLS_VERSION), ClientTls.min_version),
            },
        ]);
        rows
    }

    /// As [`TlsFiles::contradiction`].
    pub(super) fn contradiction(&self, is_spoken: bool, expected: &str) -> Option<Contradiction> {
        let found = self.files.contradiction(is_spoken, expected);
        let others = [
            ("tls-server-name", self.server_name.is_some()),
            ("tls-min-version", self.min_version != TlsVersion::default()),
        ];
        let mut given = others.into_iter().filter(|(_, is_given)| *is_given);
        found.or_else(|| match given.next() {
            Some((row, _)) if !is_spoken => Some(Contradiction::new(row, expected)),
            _ => None,
        })
    }

    /// Whether a row is one of these.
    pub(super) fn has_row(row: &str) -> bool {
        Self::rows().iter().any(|own| own.name == row)
    }

    /// Reads no file yet.
    pub(super) fn client(&self) -> io::Result<TlsClient> {
        let mut client = TlsClient::new().min_version(self.min_version);
        if let Some(ca) = &self.files.ca {
            client = client.ca_file(ca);
        }
        if let Some((cert, key)) = self.files.cert.as_ref().zip(self.files.key.as_ref()) {
            client = client.certificate_files(cert, key);
        }
        match &self.server_name {
            Some(name) => client.server_name(name).map_err(io::Error::other),
            None => Ok(client),
        }
    }
}
