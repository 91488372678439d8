//! Texts in PEM, from files or from memory.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject};

use super::error::{TlsError, TlsPart};

/// The most that is read of a file.
#[derive(Clone, Copy)]
pub(super) enum Most {
    Ever(u64),
    Counted(u64),
}

impl Most {
    fn bytes(self) -> u64 {
        match self {
            Most::Ever(bytes) | Most::Counted(bytes) => bytes,
        }
    }

    fn exceeded_by(self, named: &str) -> TlsError {
        match self {
            Most::Ever(bytes) => TlsError::new(format!(
                "{named} is larger than {} KiB, which is the most that is read",
                bytes >> 10
            )),
            Most::Counted(bytes) => TlsError::contradiction(format!(
                "{named} is larger than the {bytes} bytes that the memory limit has for it: a \
                 restart counts again"
            )),
        }
    }
}

/// A text in PEM.
#[derive(Clone)]
pub(super) enum Pem {
    Text(Arc<[u8]>),
    File(PathBuf),
}

impl Pem {
    pub(super) fn read(&self, part: TlsPart, most: Most) -> Result<Text, TlsError> {
        let named = self.named(part);
        let bytes = match self {
            Pem::Text(text) => text.to_vec(),
            Pem::File(file) => {
                use std::io::Read;
                let mut bytes = Vec::new();
                let opened = open_regular(file);
                opened
                    .and_then(|file| file.take(most.bytes() + 1).read_to_end(&mut bytes))
                    .map_err(|error| TlsError::unreadable(&named, &error).about(part))?;
                bytes
            }
        };
        if bytes.len() as u64 > most.bytes() {
            return Err(most.exceeded_by(&named).about(part));
        }
        Ok(Text { part, named, bytes })
    }

    pub(super) fn named(&self, part: TlsPart) -> String {
        match self {
            Pem::Text(_) => part.to_string(),
            Pem::File(file) => format!("{part} {}", file.display()),
        }
    }
}

/// Waits for nothing: a FIFO without a writer would keep whoever opens it for ever. A FIFO is not
/// opened at all, since its writer would take the close for the end of its reader, and a device may
/// do anything when it is opened.
fn open_regular(path: &Path) -> io::Result<fs::File> {
    let check = |file: &fs::Metadata| match (file.is_file(), file.is_dir()) {
        (true, _) => Ok(()),
        (_, true) => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(io::Error::other("not a regular file")),
    };
    check(&fs::metadata(path)?)?;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = fs::File::options()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// `ENCRYPTED PRIVATE KEY` has 21 characters.
const MAX_LABEL: usize = 40;

/// What was read, and what it is called in an error.
pub(super) struct Text {
    part: TlsPart,
    pub(super) named: String,
    bytes: Vec<u8>,
}

impl Text {
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// All objects of a kind.
    pub(super) fn all<T: PemObject>(&self, kind: &str) -> Result<Vec<T>, TlsError> {
        let all: Result<Vec<T>, _> = T::pem_slice_iter(&self.bytes).collect();
        let all = all.map_err(|error| self.not_pem(&error))?;
        match all.is_empty() {
            false => Ok(all),
            true => Err(self.without(kind)),
        }
    }

    fn without(&self, kind: &str) -> TlsError {
        let named = &self.named;
        let seen = match self.label() {
            Some(label) => format!(": it has a {label}"),
            None if self.bytes.is_empty() => ": it is empty".to_owned(),
            None => ": it is not PEM, which begins with -----BEGIN".to_owned(),
        };
        self.wrong(format!("no {kind} in {named}{seen}"))
    }

    /// What the first text in PEM says that it is, as `CERTIFICATE`: the files may be mixed up.
    fn label(&self) -> Option<&str> {
        const BEGIN: &[u8] = b"-----BEGIN ";
        let begin = self.bytes.windows(BEGIN.len()).position(|at| at == BEGIN)?;
        let label = &self.bytes[begin + BEGIN.len()..];
        let end = label.windows(5).position(|at| at == b"-----")?;
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b' ';
        let label = label[..end].get(..end.min(MAX_LABEL))?;
        label.iter().all(is_word).then_some(())?;
        std::str::from_utf8(label).ok()
    }

    fn not_pem(&self, error: &pem::Error) -> TlsError {
        self.wrong(match self.has_encrypted_key() {
            // Its headers are what makes it no PEM for whoever reads a certificate beside it.
            true => format!(
                "{} has an encrypted private key: decrypt it with openssl pkey",
                self.named
            ),
            false => format!("{} is broken PEM: {error}", self.named),
        })
    }

    fn has_encrypted_key(&self) -> bool {
        let holds = |text: &[u8]| self.bytes.windows(text.len()).any(|at| at == text);
        holds(b"BEGIN ENCRYPTED PRIVATE KEY") || holds(b"Proc-Type: 4,ENCRYPTED")
    }

    pub(super) fn wrong(&self, what: String) -> TlsError {
        TlsError::new(what).about(self.part)
    }

    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        if self.has_encrypted_key() {
            return Err(self.wrong(format!(
                "{} is encrypted: decrypt it with openssl pkey",
                self.named
            )));
        }
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => self.without("private key"),
            error => self.not_pem(&error),
        })
    }
}
