//! Addresses: where a request goes, and who may see the credentials.
//!
//! An origin is scheme, host and port (RFC 6454). What was given to one origin is never sent to another, and a redirect from `https` to `http` is
//! refused: it would show the rest to everybody on the way.
//!
//! What goes wrong: the query of an address may be a signature that opens a blob to anybody. No error and no log shows it.

use crate::error;
use crate::error::Result;
use std::fmt;
use ureq::http::Uri;

/// With TLS or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// With TLS or without.
    pub scheme: Scheme,
    /// `HOST[:PORT]` in lower case, without the scheme's own port.
    pub authority: String,
}

impl Origin {
    /// Of a `HOST[:PORT]`.
    pub fn new(scheme: Scheme, authority: &str) -> Self {
        let lower = authority.to_ascii_lowercase();
        let authority = match lower.strip_suffix(&format!(":{}", scheme.port())) {
            Some(host) => host.to_owned(),
            None => lower,
        };
        Origin { scheme, authority }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority)
    }
}

/// An address. `Display` leaves the query out.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// Who is asked.
    pub origin: Origin,
    /// Begins with `/`.
    path: String,
    /// Without `?`. May be secret.
    query: Option<String>,
}

impl Url {
    /// A path at an origin.
    pub fn new(origin: &Origin, path: impl Into<String>) -> Self {
        Url { origin: origin.clone(), path: path.into(), query: None }
    }

    /// An absolute address. An error does not repeat it.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.split('#').next().unwrap_or(text);
        let uri: Uri = text.parse().map_err(|_| error!("an address that is none"))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(other) => return Err(error!("an address that begins with {other}:")),
            None => return Err(error!("an address without a scheme")),
        };
        let authority = uri.authority().map(|a| a.as_str()).unwrap_or_default();
        if authority.is_empty() || authority.contains('@') {
            return Err(error!("an address without a host, or with a user"));
        }
        let path = if uri.path().is_empty() { "/" } else { uri.path() };
        Ok(Url { origin: Origin::new(scheme, authority), path: path.to_owned(), query: uri.query().map(str::to_owned) })
    }

    /// What a `Location` means that this address answered with (RFC 3986, 5.2; a path without a leading slash is below this one's directory).
    pub fn join(&self, location: &str) -> Result<Self> {
        let location = location.trim();
        let absolute = match location {
            _ if location.starts_with("//") => format!("{}:{location}", self.origin.scheme.name()),
            _ if location.starts_with('/') => format!("{}{location}", self.origin),
            _ if location.starts_with('?') => format!("{}{}{location}", self.origin, self.path),
            _ if location.split(['/', '?']).next().is_some_and(|first| first.contains(':')) => location.to_owned(),
            _ => {
                let directory = self.path.rfind('/').map_or("/", |slash| &self.path[..=slash]);
                format!("{}{directory}{location}", self.origin)
            }
        };
        Url::parse(&absolute)
    }

    /// Adds a parameter to the query; the value is escaped.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let query = self.query.get_or_insert_default();
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(&format!("{name}={}", escape(value)));
        self
    }

    /// The values of the query, as they are written.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        let all = self.query.as_deref().unwrap_or_default().split('&');
        all.map(|parameter| parameter.split_once('=').map_or(parameter, |(_, value)| value))
    }

    /// The whole of it, secrets included: for the request alone.
    pub fn whole(&self) -> String {
        let query = self.query.iter().map(|query| format!("?{query}"));
        format!("{}{}{}", self.origin, self.path, query.collect::<String>())
    }
}

/// For messages: without the query.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Percent-encoding of all but letters, digits and `-._~/:` (RFC 3986, 2.3 and 3.4).
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                escaped.push(byte.into())
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_told_apart() {
        let origin = |text: &str| Url::parse(text).unwrap().origin;
        assert_eq!(origin("https://Host.de:443/a"), origin("https://host.de"));
        for other in ["http://host.de", "https://host.de:444", "https://host.de.evil.org", "https://ost.de"] {
            assert_ne!(origin("https://host.de"), origin(other), "{other}");
        }
    }

    #[test]
    fn locations_are_joined() {
        let base = Url::parse("https://host:5000/v2/a/blobs/uploads/?x=1").unwrap();
        for (location, whole) in [
            ("/v2/u?s=2", "https://host:5000/v2/u?s=2"),
            ("//other/x", "https://other/x"),
            ("http://other:80/x#y", "http://other/x"),
            ("u1?s=2", "https://host:5000/v2/a/blobs/uploads/u1?s=2"),
            ("?s=2", "https://host:5000/v2/a/blobs/uploads/?s=2"),
            ("https://other", "https://other/"),
        ] {
            assert_eq!(base.join(location).unwrap().whole(), whole);
        }
        for wrong in ["ftp://x/y", "https://user@host/", "https:///x", "http://a b/"] {
            assert!(base.join(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn queries_are_not_shown() {
        let url = Url::parse("https://h/p?secret=1").unwrap().with("digest", "sha256:a&b c");
        assert_eq!(url.whole(), "https://h/p?secret=1&digest=sha256:a%26b%20c");
        assert_eq!(format!("{url} {url:?}"), "https://h/p https://h/p");
    }
}
