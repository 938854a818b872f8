//! Names and passwords for registries, where Docker keeps them: `$DOCKER_CONFIG/config.json`, or a helper that the file names.
//!
//! ```json
//! {"auths": {"registry.lan:5000": {"auth": "dXNlcjpwYXNzd29yZA=="}},
//!  "credsStore": "secretservice", "credHelpers": {"quay.io": "pass"}}
//! ```
//!
//! `auth` is base64 of `user:password`, which hides nothing: the file is of mode 0600. `identitytoken` stands for a password with token servers.
//! A helper is the program `docker-credential-NAME`; by hand: `echo quay.io | docker-credential-pass get`.
//! Docker Hub's key is `https://index.docker.io/v1/`, for historical reasons.
//!
//! What goes wrong: the file is other programs' too. What we do not know in it stays, and it is replaced in one piece.

mod file;
mod helper;
mod prompt;

pub use prompt::password;

use crate::error;
use crate::error::Result;
use crate::image::named::{self, HUB};
use crate::image::settings::Settings;
use std::fmt;
use std::path::PathBuf;

/// Docker Hub, as config.json and helpers have it.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user's name that says: the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Who we are to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Name and password.
    Password(String, Secret),
    /// What a token server gave in place of a password (OAuth 2, refresh token).
    Identity(Secret),
}

/// Where credentials were put, or taken from, for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In this file, readable by its owner alone, but not encrypted.
    File(PathBuf),
    /// By this helper.
    Helper(String),
}

/// The host that a person means by the argument of `login`: schemes and Docker Hub's other names are understood.
pub fn server(text: &str) -> Result<String> {
    let bare = host_of_key(text);
    if matches!(bare, "" | HUB | "index.docker.io" | "registry-1.docker.io") {
        return Ok(HUB.into());
    }
    named::check_host(bare)?;
    Ok(bare.to_owned())
}

/// What is known for this registry (`docker.io`, `HOST[:PORT]`): asked of the helper of this registry, of the helper of all, and of the file.
pub fn find(registry: &str, settings: &Settings) -> Result<Option<Credentials>> {
    let Some(config) = file::Config::load(settings)? else { return Ok(None) };
    if let Some(name) = config.helper(registry)
        && let Some(found) = helper::get(&name, key(registry), &settings.environment)?
    {
        return Ok(Some(found));
    }
    config.entry(registry)
}

/// Keeps credentials for this registry, where the configuration says.
pub fn keep(registry: &str, credentials: &Credentials, settings: &Settings) -> Result<Kept> {
    let mut config = file::Config::load_or_new(settings)?;
    match config.helper(registry) {
        Some(name) => {
            helper::store(&name, key(registry), credentials, &settings.environment)?;
            config.put(registry, None)?;
            config.save()?;
            Ok(Kept::Helper(name))
        }
        None => {
            config.put(registry, Some(credentials))?;
            Ok(Kept::File(config.save()?))
        }
    }
}

/// Forgets what is known for this registry. `None`: nothing was.
pub fn forget(registry: &str, settings: &Settings) -> Result<Option<Kept>> {
    let Some(mut config) = file::Config::load(settings)? else { return Ok(None) };
    let mut gone = None;
    if let Some(name) = config.helper(registry)
        && helper::erase(&name, key(registry), &settings.environment)? == helper::Erased::Yes
    {
        gone = Some(Kept::Helper(name));
    }
    if config.remove(registry) {
        let path = config.save()?;
        gone = gone.or(Some(Kept::File(path)));
    }
    Ok(gone)
}

/// The registry's key in config.json.
fn key(registry: &str) -> &str {
    if registry == HUB { HUB_KEY } else { registry }
}

/// The host of a key, which may be an address: `https://quay.io/v1/` is `quay.io`.
fn host_of_key(key: &str) -> &str {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    bare.split('/').next().unwrap_or(bare)
}

/// Does this key of config.json mean this registry?
fn means(key: &str, registry: &str) -> bool {
    let host = host_of_key(key);
    host == registry || registry == HUB && host == "index.docker.io"
}

/// What a file or a helper gave: a name and a secret.
fn from_pair(user: String, secret: String) -> Result<Credentials> {
    match user.as_str() {
        TOKEN_USER => Ok(Credentials::Identity(Secret(secret))),
        _ if user.contains(':') => Err(error!("a user's name with a colon")),
        _ => Ok(Credentials::Password(user, Secret(secret))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_understood() {
        for (text, host) in [
            ("", HUB),
            ("docker.io", HUB),
            ("https://index.docker.io/v1/", HUB),
            ("https://quay.io", "quay.io"),
            ("http://r.lan:5000/v2/", "r.lan:5000"),
        ] {
            assert_eq!(server(text).unwrap(), host, "{text}");
        }
        assert!(server("a b").is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let all = [
            Credentials::Password("u".into(), Secret("s3cret".into())),
            Credentials::Identity(Secret("s3cret".into())),
        ];
        assert!(!format!("{all:?}").contains("s3cret"));
    }
}
