//! Secrets that strangers repeat. A registry, a token server or what stands before them may answer with all that it was asked with: in its explanation,
//! in an address, in a document. What was sent is remembered, and an error is cut before it would be shown.
//!
//! By hand: `curl -u user https://httpbin.org/headers` is such an answer.
//!
//! What goes wrong: a mark in a secret's place, with all around it, would tell those who can guess what stood there (a password that is also the
//! image's name). So the rest of the line goes with it.

use super::url::Url;
use crate::error::Error;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Shorter ones are words that anybody says.
const SHORTEST: usize = 6;
/// What is shown in place of the rest.
const NOT_SHOWN: &str = "(what it says repeats a secret, and is not shown)";

/// All secrets that were sent.
#[derive(Default)]
pub struct Sent(Mutex<BTreeSet<String>>);

impl Sent {
    /// Remembers a secret.
    pub fn secret(&self, text: &str) {
        if text.len() >= SHORTEST {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned());
        }
    }

    /// Remembers a header: `Bearer TOKEN`, or `Basic` and the base64 of `user:password`, and what is in it.
    pub fn authorization(&self, header: &str) {
        let (scheme, word) = header.split_once(' ').unwrap_or(("", header));
        self.secret(word);
        let pair = STANDARD.decode(word).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let (true, Some((_, password))) = (scheme == "Basic", pair.as_deref().and_then(|pair| pair.split_once(':')))
        {
            self.secret(password);
        }
    }

    /// Remembers the values of an address that a stranger gave: one of them may be a signature.
    pub fn query(&self, url: &Url) {
        url.values().for_each(|value| self.secret(value));
    }

    /// The error without what repeats a secret.
    pub fn discreet(&self, mut e: Error) -> Error {
        e.cause = self.cut(e.cause);
        e.details = e.details.into_iter().map(|line| self.cut(line)).collect();
        e
    }

    /// A line up to the colon before the first secret.
    pub fn cut(&self, mut text: String) -> String {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = secrets.iter().filter_map(|secret| text.find(secret.as_str())).min() {
            text.truncate(text[..at].rfind(": ").map_or(0, |colon| colon + 2));
            text.push_str(NOT_SHOWN);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_a_secret_is_cut() {
        let sent = Sent::default();
        sent.authorization(&format!("Basic {}", STANDARD.encode("me:pass:word")));
        sent.authorization("Bearer t0ken-1");
        sent.secret("short");
        sent.query(&Url::parse("http://h/p?X-Signature=s1gned&n=1").unwrap());
        for (text, shown) in [
            ("r.lan: refused: DENIED: with bWU6cGFzczp3b3Jk", "r.lan: refused: DENIED: "),
            ("r.lan: you are pass:word", "r.lan: "),
            ("GET http://h/t0ken-1 = 500", ""),
            ("GET http://h/x = 500: t0ken-1: s1gned", "GET http://h/x = 500: "),
        ] {
            let e = sent.discreet(Error::new(text).detail(text));
            assert_eq!((e.cause.as_str(), &e.details[0]), (format!("{shown}{NOT_SHOWN}").as_str(), &e.cause));
        }
        assert_eq!(sent.discreet(Error::new("it is short: 1")).cause, "it is short: 1");
    }
}
