//! One registry, or one mirror of it, and who we are to it: who is asked, over TLS or not, and with which credentials.
//!
//! Nobody is asked for a password before a registry wants one: the first request goes without, its 401 says what would be accepted
//! (`challenge`), and what is granted serves the requests that follow. By hand:
//!
//! ```sh
//! curl -i https://registry-1.docker.io/v2/library/debian/manifests/12                 # 401, Bearer realm="https://auth.docker.io/token",…
//! curl 'https://auth.docker.io/token?service=registry.docker.io&scope=repository:library/debian:pull' | jq -r .token
//! ```
//!
//! What goes wrong: the realm is the registry's word. It may name another host, as Docker Hub does, but none without TLS where the registry has it,
//! and it may not redirect: name and password go there.

use super::challenge::{self, Challenge};
use super::http::{Again, Answer, Ask, Client, Content, Fault, Redirects, Tried};
use super::refusal;
use super::url::{Origin, Scheme, Url, escape};
use crate::error;
use crate::error::{Error, Result};
use crate::image::credentials::{self, Credentials, Secret};
use crate::image::named::HUB;
use crate::image::settings::is_loopback;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::Method;

/// Where Docker Hub answers.
const HUB_AUTHORITY: &str = "registry-1.docker.io";
/// The most that a token server may say, in bytes.
const TOKEN: u64 = 1 << 20;
/// How long a token is good where its server does not say (the token protocol's default), and what is taken off for the way.
const VALID: u64 = 60;
const MARGIN: u64 = 5;

/// One registry, or one mirror of it, for one repository.
pub struct Place {
    /// As names have it: `docker.io`, `127.0.0.1:5000`.
    pub host: String,
    /// With the mirror's path in front.
    pub repository: String,
    origin: OnceLock<Origin>,
    known: OnceLock<Option<Credentials>>,
    granted: Mutex<HashMap<String, Grant>>,
}

/// [`Client::send`] or [`Client::follow`].
type By = fn(&Client, &Ask<'_>) -> Tried<Answer>;

/// What was granted for a scope.
struct Grant {
    authorization: Secret,
    until: Option<Instant>,
}

/// What a request is about to do, as a token's scope has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing in particular: `login`.
    None,
    /// Read this repository.
    Pull(String),
    /// Read and write it.
    Push(String),
    /// Read and write the first, read the second.
    Mount(String, String),
}

impl Scope {
    fn texts(&self) -> Vec<String> {
        match self {
            Scope::None => Vec::new(),
            Scope::Pull(name) => vec![format!("repository:{name}:pull")],
            Scope::Push(name) => vec![format!("repository:{name}:pull,push")],
            Scope::Mount(to, from) => vec![format!("repository:{to}:pull,push"), format!("repository:{from}:pull")],
        }
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Place {
    /// Nobody is asked yet.
    pub fn new(host: &str, repository: impl Into<String>) -> Self {
        Place {
            host: host.to_owned(),
            repository: repository.into(),
            origin: OnceLock::new(),
            known: OnceLock::new(),
            granted: Mutex::new(HashMap::new()),
        }
    }

    /// With these credentials, whatever config.json has.
    pub fn with(self, credentials: Credentials) -> Self {
        Place { known: OnceLock::from(Some(credentials)), ..self }
    }

    /// An address below `/v2/`: `library/debian/manifests/12`.
    pub fn url(&self, client: &Client, below: &str) -> Tried<Url> {
        Ok(Url::new(&self.origin(client)?, format!("/v2/{below}")))
    }

    /// Asks with what is granted, or gets it granted and asks again. The answer's status may be an error, also 401.
    pub fn ask(&self, client: &Client, ask: Ask<'_>, scope: &Scope) -> Tried<Answer> {
        self.ask_by(client, ask, scope, Client::send)
    }

    /// The same, but a busy server and a cut connection are an answer.
    pub fn ask_once(&self, client: &Client, ask: Ask<'_>, scope: &Scope) -> Tried<Answer> {
        self.ask_by(client, ask, scope, Client::follow)
    }

    fn ask_by(&self, client: &Client, mut ask: Ask<'_>, scope: &Scope, by: By) -> Tried<Answer> {
        let origin = self.origin(client)?;
        let ours = ask.url.origin == origin;
        if ours {
            ask.authorization = self.granted(scope);
        }
        let answer = by(client, &ask)?;
        // Who was redirected to says nothing about our credentials, and does not get them.
        if answer.status != 401 || !ours || answer.url.origin != origin {
            return Ok(answer);
        }
        let headers = answer.headers.get_all("www-authenticate");
        let challenges: Vec<_> =
            headers.iter().filter_map(|value| value.to_str().ok()).flat_map(challenge::parse).collect();
        ask.authorization = Some(self.grant(client, scope, &challenges, ask.authorization.as_ref())?);
        by(client, &ask)
    }

    /// Where the registry answers: over TLS, except where HTTP was asked for, or where this very machine does not speak TLS.
    pub fn origin(&self, client: &Client) -> Tried<Origin> {
        if let Some(origin) = self.origin.get() {
            return Ok(origin.clone());
        }
        let authority = if self.host == HUB { HUB_AUTHORITY } else { &self.host };
        let (plain, secure) = (Origin::new(Scheme::Http, authority), Origin::new(Scheme::Https, authority));
        let settings = &client.settings;
        let origin = if settings.is_plain(authority) {
            plain
        } else if !is_loopback(authority) || settings.authorities_of(authority).iter().any(|path| path.exists()) {
            secure
        } else {
            match client.follow(&Ask::new(Method::GET, Url::new(&secure, "/v2/")).redirects(Redirects::Refuse)) {
                Err(fault) if matches!(fault.again, Again::WithoutTls | Again::Maybe) => plain,
                Err(fault) => return Err(fault),
                Ok(_) => secure,
            }
        };
        Ok(self.origin.get_or_init(|| origin).clone())
    }

    /// Are there credentials for it?
    pub fn credentials(&self, client: &Client) -> Result<Option<&Credentials>> {
        if let Some(known) = self.known.get() {
            return Ok(known.as_ref());
        }
        let found = credentials::find(&self.host, &client.settings)?;
        Ok(self.known.get_or_init(|| found).as_ref())
    }

    fn granted(&self, scope: &Scope) -> Option<Secret> {
        let granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        let grant = granted.get(&scope.texts().join(" "))?;
        grant.until.is_none_or(|until| Instant::now() < until).then(|| grant.authorization.clone())
    }

    /// Gets what the challenges ask for. `stale`: what was just refused. One thread asks, the others wait for what it got.
    fn grant(&self, client: &Client, scope: &Scope, all: &[Challenge], stale: Option<&Secret>) -> Tried<Secret> {
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        let key = scope.texts().join(" ");
        if let Some(grant) = granted.get(&key).filter(|grant| Some(&grant.authorization) != stale) {
            return Ok(grant.authorization.clone());
        }
        let bearer = all.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        let grant = match bearer.or_else(|| all.first()) {
            Some(Challenge::Bearer { realm, service, scope: asked }) => {
                self.token(client, realm, service.as_deref(), scopes(scope, asked.as_deref()))?
            }
            Some(Challenge::Basic) if stale.is_some() => return Err(self.unwelcome().into()),
            Some(Challenge::Basic) => match self.credentials(client)? {
                Some(Credentials::Password(user, secret)) => Grant { authorization: basic(user, secret), until: None },
                Some(Credentials::Identity(_)) => {
                    return Err(error!("{}: it wants a password, and an identity token is known", self.host).into());
                }
                None => return Err(self.stranger().into()),
            },
            None => return Err(error!("{}: 401 without a challenge that is known (Basic, Bearer)", self.host).into()),
        };
        let authorization = grant.authorization.clone();
        granted.insert(key, grant);
        Ok(authorization)
    }

    /// Asks a token server.
    fn token(&self, client: &Client, realm: &str, service: Option<&str>, scopes: Vec<String>) -> Tried<Grant> {
        let origin = self.origin(client)?;
        let at = |e: Error| e.at(format!("{}: its token server", self.host));
        let url = Url::new(&origin, "/").join(realm).map_err(at)?;
        if url.origin.scheme < origin.scheme {
            return Err(at(error!("{} has no TLS, which is refused", url.origin)).into());
        }
        let credentials = self.credentials(client)?;
        let service = service.map(|service| ("service", service.to_owned()));
        let fields = service.into_iter().chain(scopes.into_iter().map(|scope| ("scope", scope)));
        let form: String;
        let ask = match credentials {
            Some(Credentials::Identity(Secret(token))) => {
                client.sent.secret(token);
                let more = [
                    ("grant_type", "refresh_token".into()),
                    ("client_id", "corten".into()),
                    ("refresh_token", token.clone()),
                ];
                // One field of scopes, divided by spaces, as OAuth 2 has it.
                let (scopes, others): (Vec<_>, Vec<_>) = fields.chain(more).partition(|(name, _)| *name == "scope");
                let scopes: Vec<String> = scopes.into_iter().map(|(_, scope)| scope).collect();
                let all = others.into_iter().chain((!scopes.is_empty()).then(|| ("scope", scopes.join(" "))));
                form = all.map(|(name, value)| format!("{name}={}", escape(&value))).collect::<Vec<_>>().join("&");
                Ask::new(Method::POST, url.clone())
                    .header("content-type", "application/x-www-form-urlencoded")
                    .content(Content::Bytes(form.as_bytes()))
            }
            other => {
                let full = fields.fold(url.clone(), |url, (name, value)| url.with(name, &value));
                match other {
                    Some(Credentials::Password(user, secret)) => {
                        let mut ask = Ask::new(Method::GET, full.with("account", user));
                        ask.authorization = Some(basic(user, secret));
                        ask
                    }
                    _ => Ask::new(Method::GET, full),
                }
            }
        };
        let answer = client.send(&ask.redirects(Redirects::Refuse))?;
        match answer.status {
            200 => {}
            400 | 401 | 403 if credentials.is_some() => return Err(self.unwelcome().into()),
            401 | 403 => return Err(self.stranger().into()),
            _ => return Err(at(refusal::refused(&Method::GET, answer)).into()),
        }
        let bytes = answer.bytes(TOKEN).map_err(|fault| Fault { error: at(fault.error), ..fault })?;
        grant(&bytes).map_err(|e| at(e).into())
    }

    fn unwelcome(&self) -> Error {
        error!("{}: the login is refused", self.host).hint(format!("`corten login {}` asks for another", self.host))
    }

    fn stranger(&self) -> Error {
        error!("{}: it wants a login", self.host).hint(format!("corten login {}", self.host))
    }
}

/// What a token server granted.
fn grant(bytes: &[u8]) -> Result<Grant> {
    // The parser's own words may quote the token.
    let token: Token = serde_json::from_slice(bytes).map_err(|_| error!("its answer is not understood"))?;
    let Some(text) = token.token.filter(|text| !text.is_empty()).or(token.access_token) else {
        return Err(error!("its answer holds no token"));
    };
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(error!("its token holds what no header may"));
    }
    let valid = token.expires_in.unwrap_or(VALID).max(VALID) - MARGIN;
    let until = Instant::now().checked_add(Duration::from_secs(valid));
    Ok(Grant { authorization: Secret(format!("Bearer {text}")), until })
}

fn basic(user: &str, Secret(password): &Secret) -> Secret {
    Secret(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// Ours, and what the registry named besides.
fn scopes(ours: &Scope, asked: Option<&str>) -> Vec<String> {
    let mut scopes = ours.texts();
    for asked in asked.unwrap_or_default().split_whitespace() {
        if !scopes.iter().any(|scope| scope == asked) {
            scopes.push(asked.to_owned());
        }
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_understood() {
        let bearer = |json: &str| grant(json.as_bytes()).map(|grant| grant.authorization.0);
        assert_eq!(bearer(r#"{"token": "a", "access_token": "b"}"#).unwrap(), "Bearer a");
        assert_eq!(bearer(r#"{"access_token": "b", "expires_in": 18446744073709551615}"#).unwrap(), "Bearer b");
        for wrong in
            [r#"{"token": "s3cret\r\nX: y"}"#, r#"{"token": 5, "x": "s3cret"}"#, "s3cret", "{}", r#"{"token": ""}"#]
        {
            let Err(e) = grant(wrong.as_bytes()) else { panic!("{wrong}") };
            assert!(!e.to_string().contains("s3cret"), "{e}");
        }
    }

    #[test]
    fn scopes_are_united() {
        let mount = Scope::Mount("a".into(), "b".into());
        assert_eq!(scopes(&mount, None), ["repository:a:pull,push", "repository:b:pull"]);
        let pull = Scope::Pull("a".into());
        assert_eq!(
            scopes(&pull, Some("repository:a:pull repository:x:pull")),
            ["repository:a:pull", "repository:x:pull"]
        );
        assert_eq!(basic("Aladdin", &Secret("open sesame".into())).0, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
