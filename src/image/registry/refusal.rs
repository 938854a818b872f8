//! A registry's "no" in plain words.
//!
//! Registries explain themselves as `{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "…"}]}` (distribution-spec, Error Codes); what stands between
//! us and them does not, and answers with a page. By hand: `curl -s https://HOST/v2/NAME/manifests/nope | jq .errors`.

use super::http::{Answer, printable};
use crate::error;
use crate::error::Error;
use serde::Deserialize;
use ureq::http::Method;

/// As much of an explanation as is read, in bytes.
const LONGEST: u64 = 64 << 10;

#[derive(Deserialize)]
struct Explanation {
    errors: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Statuses that say one thing everywhere, and what to do.
const PLAIN: [(u16, &str, Option<&str>); 8] = [
    (
        401,
        "it does not exist there, or a login is needed",
        Some("`corten login REGISTRY`, if you have an account there"),
    ),
    (403, "access is denied", Some("`corten login REGISTRY`, if you have an account there")),
    (404, "the registry does not have it", None),
    (405, "the registry does not allow this", None),
    (413, "it is too large for the registry", None),
    (416, "the registry has no such part of it", None),
    (429, "too many requests", Some("wait, or log in: registries allow more to users they know")),
    (503, "the registry is not available", None),
];

/// What an answer that is no success means. Reads its body.
pub fn refused(method: &Method, answer: Answer) -> Error {
    let (status, url) = (answer.status, answer.url.to_string());
    let later = answer.header("retry-after").map(printable).filter(|_| status == 429 || status == 503);
    let said = explanation(&answer.bytes(LONGEST).unwrap_or_default());
    let e = match PLAIN.iter().find(|(known, ..)| *known == status) {
        Some((_, words, None)) => error!("{words}"),
        Some((_, words, Some(hint))) => error!("{words}").hint(*hint),
        None if status >= 500 => error!("the registry has a fault of its own"),
        None => error!("the registry's answer is not expected"),
    };
    let e = e.detail(match said {
        Some(said) => format!("{method} {url} = {status}: {said}"),
        None => format!("{method} {url} = {status}"),
    });
    match later {
        Some(later) => e.detail(format!("it says: try again in {later} s")),
        None => e,
    }
}

/// The first of the errors that a registry names: `MANIFEST_UNKNOWN: manifest unknown`.
fn explanation(bytes: &[u8]) -> Option<String> {
    let explanation: Explanation = serde_json::from_slice(bytes).ok()?;
    let one = explanation.errors.first()?;
    let words = [one.code.as_str(), one.message.as_str()].into_iter().filter(|word| !word.is_empty());
    Some(printable(&words.collect::<Vec<_>>().join(": ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_are_understood() {
        let said = |text: &str| explanation(text.as_bytes());
        let known = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest\u001b unknown","detail":{}}]}"#;
        assert_eq!(said(known).unwrap(), "MANIFEST_UNKNOWN: manifest  unknown");
        for other in ["", "<html>", r#"{"errors":[]}"#, r#"{"errors":null}"#] {
            assert_eq!(said(other), None);
        }
    }
}
