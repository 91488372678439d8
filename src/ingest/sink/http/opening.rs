//! A sink of options that can be: checks them, and makes of them what all requests have in common.

use std::io;

use rustls::pki_types::ServerName;
use ureq::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE,
    EXPECT, HOST, TRANSFER_ENCODING,
};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::Http;
use super::aside::Aside;
use super::options::HttpOptions;
use super::target::{Target, Trust};
use crate::ingest::sink::secrets::{MIN_SECRET, Secrets};

/// Headers that are made of what is sent.
const OWN: [HeaderName; 8] = [
    ACCEPT_ENCODING,
    AUTHORIZATION,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    TRANSFER_ENCODING,
];

impl HttpOptions {
    /// Checks all of it, reads certificates, and opens the file for what is refused. Connects to
    /// nobody: whether there is somebody shows with the first messages.
    ///
    /// # Errors
    /// A value is out of range or of the wrong form ([`io::ErrorKind::InvalidInput`]), or a file
    /// cannot be read or opened: one line says what.
    pub fn open(self) -> io::Result<Http> {
        self.check_ranges()?;
        self.dialect.check().map_err(|why| wrong(&why))?;
        let mut target = self.target()?;
        target.trust = self.trust(&target.uri)?;
        let aside = match &self.refused {
            Some((path, max_bytes)) => Some(Aside::open(path, *max_bytes)?),
            None => None,
        };
        Ok(Http::new(self, target, aside))
    }

    /// What all requests have in common, without TLS, for which files are read.
    pub(super) fn target(&self) -> io::Result<Target> {
        let uri = self.uri()?;
        let mut headers = self.header_map()?;
        let mut secrets = Vec::new();
        if let Some(value) = self.authorization(&mut secrets)? {
            headers.insert(AUTHORIZATION, value);
        }
        secrets.extend(self.secrets_of_query());
        secrets.extend(self.secrets_of_headers());
        Ok(Target {
            uri,
            headers,
            dialect: self.dialect.clone(),
            gzip: self.gzip,
            connect_timeout: self.connect_timeout,
            timeout: self.timeout,
            trust: None,
            secrets: Secrets::new(&secrets),
        })
    }

    /// As [`open`](HttpOptions::open), and leaves no trace: the file for what is refused is not
    /// made, and not opened.
    ///
    /// # Errors
    /// As [`open`](HttpOptions::open), as far as that can be said.
    pub fn check(mut self) -> io::Result<()> {
        self.refused = None;
        self.open().map(drop)
    }

    fn check_ranges(&self) -> io::Result<()> {
        let (least, most) = Self::BODY_BYTES_RANGE;
        let (shortest, longest) = Self::TIMEOUT_RANGE;
        let is_timeout = |timeout| shortest <= timeout && timeout <= longest;
        if !(1..=Self::MAX_REQUESTS).contains(&self.requests) {
            return Err(wrong("requests is not from 1 to 64"));
        }
        if !(least..=most).contains(&self.body_bytes) {
            return Err(wrong("body_bytes is not from 1 KiB to 64 MiB"));
        }
        if self.linger > Self::MAX_LINGER {
            return Err(wrong("linger is longer than 1 s"));
        }
        if !is_timeout(self.connect_timeout) || !is_timeout(self.timeout) {
            return Err(wrong("a timeout is not from 100 ms to 10 min"));
        }
        Ok(())
    }

    fn uri(&self) -> io::Result<Uri> {
        let no_url = |why: &str| wrong(&format!("no URL to send messages to: {why}"));
        // The parser of URLs drops a fragment without a word, and what was meant behind it.
        let query = self.query.as_deref().unwrap_or_default();
        let is_of_query = |byte: u8| byte.is_ascii_graphic() && !b"#<>\"".contains(&byte);
        if !query.bytes().all(is_of_query) {
            let text = "the query has a character that a URL has only escaped, as %20 for a space";
            return Err(wrong(text));
        }
        if self.url.contains('#') {
            return Err(no_url("a # in it is %23"));
        }
        let uri: Uri = self
            .url
            .parse()
            .map_err(|error| no_url(&format!("{error}")))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map(|authority| authority.as_str());
        let Some(authority) = authority.filter(|_| matches!(scheme, "http" | "https")) else {
            return Err(no_url("expected http://HOST or https://HOST"));
        };
        if authority.contains('@') {
            return Err(no_url("a user and a password are given by basic_auth"));
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(no_url("it has no host"));
        }
        let path = match uri.path() {
            "" | "/" => self.dialect.path(),
            path => path,
        };
        let own = self.dialect.query();
        let typed = [uri.query(), self.query.as_deref(), Some(&own)];
        let typed = typed.into_iter().flatten().filter(|part| !part.is_empty());
        let query = typed.collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        let whole = format!("{scheme}://{authority}{path}{mark}{query}");
        whole.parse().map_err(|error| no_url(&format!("{error}")))
    }

    /// What an answer may repeat of the query that the user gave: all of it, or a value.
    fn secrets_of_query(&self) -> Vec<String> {
        let of_url = self.url.split_once('?').map(|(_, query)| query);
        let queries = [of_url, self.query.as_deref()].into_iter().flatten();
        let mut secrets = Vec::new();
        for query in queries {
            secrets.push(query.to_owned());
            let values = query.split('&').filter_map(|pair| pair.split_once('='));
            secrets.extend(values.map(|(_, value)| value.to_owned()));
        }
        secrets.retain(|secret| secret.len() >= MIN_SECRET);
        secrets
    }

    /// What an answer may repeat of the headers that the user gave: values and parts of them, as of
    /// `Bearer TOKEN` and of `session=VALUE; other=VALUE`.
    fn secrets_of_headers(&self) -> Vec<String> {
        let mut secrets = Vec::new();
        for (_, value) in &self.headers {
            secrets.push(value.clone());
            for part in value.split([' ', ';', ',']) {
                secrets.push(part.to_owned());
                secrets.extend(part.split_once('=').map(|(_, value)| value.to_owned()));
                secrets.extend(part.split_once(':').map(|(_, secret)| secret.to_owned()));
            }
        }
        secrets.retain(|secret| secret.len() >= MIN_SECRET);
        secrets
    }

    /// Adds to `secrets` what may not be shown.
    fn authorization(&self, secrets: &mut Vec<String>) -> io::Result<Option<HeaderValue>> {
        let text = match (&self.login, &self.token) {
            (Some(_), Some(_)) => return Err(wrong("a password and a token are one too many")),
            (None, None) => return Ok(None),
            (Some((user, password)), None) => {
                if user.contains(':') {
                    return Err(wrong("a user's name has no colon"));
                }
                let login = base64(format!("{user}:{password}").as_bytes());
                // Whoever decodes it knows it without its padding, and in a URL.
                let bare = login.trim_end_matches('=');
                let in_url = bare.replace('+', "-").replace('/', "_");
                secrets.extend([bare.to_owned(), in_url, password.clone()]);
                format!("Basic {login}")
            }
            (None, Some(token)) => {
                secrets.push(token.clone());
                // `ID:KEY`.
                let key = token.split_once(':').map(|(_, key)| key);
                secrets.extend(key.filter(|key| key.len() >= MIN_SECRET).map(str::to_owned));
                let own = self.dialect.token_scheme();
                let scheme = self.token_scheme.as_deref().unwrap_or(own);
                format!("{scheme} {token}")
            }
        };
        let value = HeaderValue::from_str(&text);
        let mut value = value.map_err(|_| {
            wrong("a token, or its scheme, has a character that no header may have")
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// What the user gave, and what the dialect says of the body.
    fn header_map(&self) -> io::Result<HeaderMap> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            let parsed: HeaderName = name
                .parse()
                .map_err(|_| wrong(&format!("{name:?} is no name of a header")))?;
            if OWN.contains(&parsed) {
                let instead = if parsed == AUTHORIZATION {
                    ": give a token"
                } else {
                    ""
                };
                return Err(wrong(&format!("the header {name} is made here{instead}")));
            }
            let mut value = HeaderValue::from_str(value).map_err(|_| {
                wrong(&format!(
                    "the header {name} has a character that no header may have"
                ))
            })?;
            value.set_sensitive(true);
            map.append(parsed, value);
        }
        let own = HeaderValue::from_static(self.dialect.content_type());
        map.entry(CONTENT_TYPE).or_insert(own);
        if self.gzip {
            map.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(map)
    }

    pub(super) fn trust(&self, uri: &Uri) -> io::Result<Option<Trust>> {
        if uri.scheme_str() != Some("https") {
            return Ok(None);
        }
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name: ServerName<'static> = self.tls.name_of(host).map_err(io::Error::other)?;
        let config = self.tls.load().map_err(io::Error::other)?;
        Ok(Some(Trust { config, name }))
    }
}

fn wrong(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.to_owned())
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for nth in 0..4 {
            match nth <= chunk.len() {
                true => text.push(char::from(DIGITS[(bits >> (18 - 6 * nth)) as usize & 63])),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        let all = ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes()));
        assert_eq!(all, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }
}
