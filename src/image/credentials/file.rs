//! Docker's config.json: what of it is ours to read and change.
//!
//! It is kept as JSON, not as a type: keys that we do not know belong to others and are written back. Written to a temporary file beside it and
//! renamed, mode 0600, owner as before; where config.json is a symbolic link, what it leads to is replaced.

use super::{Credentials, Secret, from_pair, key, means};
use crate::error;
use crate::error::{Error, Result, io_words};
use crate::image::settings::Settings;
use crate::sys::Called;
use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// More than any config.json has, in bytes.
const LARGEST: u64 = 4 << 20;
/// Padding is left out by some who write these files.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// config.json, read.
pub struct Config {
    path: PathBuf,
    json: Map<String, Value>,
}

impl Config {
    /// `None`: there is none.
    pub fn load(settings: &Settings) -> Result<Option<Self>> {
        let Some(directory) = &settings.docker else { return Ok(None) };
        let path = directory.join("config.json");
        let at = |e: Error| e.at(path.display());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(e) => return Err(at(error!("{}", io_words(&e)))),
        };
        let mut text = Vec::new();
        file.take(LARGEST).read_to_end(&mut text).map_err(|e| at(error!("{}", io_words(&e))))?;
        if text.trim_ascii().is_empty() {
            return Ok(Some(Config { path, json: Map::new() }));
        }
        // The parser's own words may quote what it read.
        let parsed = serde_json::from_slice(&text)
            .map_err(|e| at(error!("line {}, column {}: it is no JSON object", e.line(), e.column())))?;
        Ok(Some(Config { path, json: parsed }))
    }

    /// As [`Config::load`], or an empty one where it belongs.
    pub fn load_or_new(settings: &Settings) -> Result<Self> {
        if let Some(config) = Config::load(settings)? {
            return Ok(config);
        }
        let Some(directory) = &settings.docker else {
            return Err(error!("there is no place for config.json").hint("set DOCKER_CONFIG or HOME"));
        };
        Ok(Config { path: directory.join("config.json"), json: Map::new() })
    }

    /// The helper that has this registry's credentials: `pass` means `docker-credential-pass`.
    pub fn helper(&self, registry: &str) -> Option<String> {
        let own = self.json.get("credHelpers").and_then(Value::as_object);
        let own = own.and_then(|all| all.iter().find(|(key, _)| means(key, registry)).map(|(_, name)| name));
        let name = own.or_else(|| self.json.get("credsStore"))?.as_str()?;
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// What `auths` has for this registry; the exact key before another that means it.
    pub fn entry(&self, registry: &str) -> Result<Option<Credentials>> {
        let Some(auths) = self.json.get("auths").and_then(Value::as_object) else { return Ok(None) };
        let exact = auths.get(key(registry));
        let Some(entry) = exact.or_else(|| auths.iter().find(|(key, _)| means(key, registry)).map(|(_, entry)| entry))
        else {
            return Ok(None);
        };
        credentials(entry).map_err(|e| e.at(format!("{}: auths.{registry:?}", self.path.display())))
    }

    /// Sets the entry of a registry; without credentials an empty one, as Docker does for what a helper keeps.
    pub fn put(&mut self, registry: &str, credentials: Option<&Credentials>) -> Result<()> {
        let entry = match credentials {
            None => json!({}),
            Some(Credentials::Password(user, Secret(password))) => {
                json!({"auth": STANDARD.encode(format!("{user}:{password}"))})
            }
            Some(Credentials::Identity(Secret(token))) => {
                json!({"auth": STANDARD.encode(format!("{}:", super::TOKEN_USER)), "identitytoken": token})
            }
        };
        let auths = self.json.entry("auths").or_insert_with(|| json!({}));
        let Some(auths) = auths.as_object_mut() else {
            return Err(error!("{}: auths is no object", self.path.display()));
        };
        auths.retain(|other, _| !means(other, registry));
        auths.insert(key(registry).to_owned(), entry);
        Ok(())
    }

    /// Removes the entries of a registry. Was there one?
    pub fn remove(&mut self, registry: &str) -> bool {
        let Some(auths) = self.json.get_mut("auths").and_then(Value::as_object_mut) else { return false };
        let before = auths.len();
        auths.retain(|other, _| !means(other, registry));
        auths.len() < before
    }

    /// Replaces the file. Says where it is.
    pub fn save(&self) -> Result<PathBuf> {
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let directory = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(directory).called(|| format!("mkdir({directory:?})"))?;
        let mut text = serde_json::to_vec_pretty(&self.json).map_err(|e| error!("{}: {e}", path.display()))?;
        text.push(b'\n');
        let temporary = directory.join(format!(".config.json.{}", std::process::id()));
        // What a killed login left: its process is gone.
        let _ = fs::remove_file(&temporary);
        let written = self.write(&temporary, &path, &text);
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.map(|()| path)
    }

    fn write(&self, temporary: &Path, path: &Path, text: &[u8]) -> Result<()> {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temporary)
            .called(|| format!("open({temporary:?}, O_EXCL)"))?;
        file.write_all(text).called(|| format!("write({temporary:?})"))?;
        // As root in a user's home: the file stays the user's.
        if let Ok(before) = fs::metadata(path) {
            let (user, group) = (Some(before.uid()), Some(before.gid()));
            std::os::unix::fs::fchown(&file, user, group).called(|| format!("fchown({temporary:?})"))?;
        }
        file.sync_all().called(|| format!("fsync({temporary:?})"))?;
        fs::rename(temporary, path).called(|| format!("rename({temporary:?}, {path:?})"))?;
        Ok(())
    }
}

/// One entry of `auths`. An error says nothing of its content.
fn credentials(entry: &Value) -> Result<Option<Credentials>> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credentials::Identity(Secret(token.to_owned()))));
    }
    let (user, password) = match (text("auth"), text("username"), text("password")) {
        (Some(auth), ..) => {
            let decoded = LENIENT.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let decoded = decoded.ok_or_else(|| error!("auth is not base64"))?;
            let Some((user, password)) = decoded.split_once(':') else {
                return Err(error!("auth is not USER:PASSWORD in base64"));
            };
            (user.to_owned(), password.trim_end_matches('\0').to_owned())
        }
        (None, Some(user), Some(password)) => (user.to_owned(), password.to_owned()),
        _ => return Ok(None),
    };
    from_pair(user, password).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn settings(directory: &Path) -> Settings {
        Settings { docker: Some(directory.to_owned()), ..Settings::default() }
    }

    fn config(json: &str) -> Config {
        Config { path: "/config.json".into(), json: serde_json::from_str(json).unwrap() }
    }

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password(user.into(), Secret(password.into()))
    }

    #[test]
    fn entries_are_found() {
        let config = config(
            r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}, "https://quay.io/v2/": {"auth": "dTpwOnE"},
                "a.de": {"identitytoken": "t"}, "b.de": {}, "c.de": {"auth": "***"}, "d.de": {"username": "x", "password": "y"},
                "e.de:5000": {"auth": "PHRva2VuPjp4"}},
                "credsStore": "all", "credHelpers": {"quay.io": "own"}}"#,
        );
        assert_eq!(config.entry("docker.io").unwrap(), Some(password("u", "p")));
        assert_eq!(config.entry("quay.io").unwrap(), Some(password("u", "p:q")));
        assert_eq!(config.entry("a.de").unwrap(), Some(Credentials::Identity(Secret("t".into()))));
        assert_eq!(config.entry("b.de").unwrap(), None);
        let e = config.entry("c.de").unwrap_err().to_string();
        assert!(e.contains("auths.\"c.de\": auth is not base64") && !e.contains("***"), "{e}");
        assert_eq!(config.entry("d.de").unwrap(), Some(password("x", "y")));
        assert_eq!(config.entry("e.de:5000").unwrap(), Some(Credentials::Identity(Secret("x".into()))));
        assert_eq!(config.entry("e.de").unwrap(), None);
        assert_eq!((config.helper("quay.io").as_deref(), config.helper("x.de").as_deref()), (Some("own"), Some("all")));
    }

    #[test]
    fn other_entries_stay_and_the_mode_is_0600() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("real.json");
        let text = r#"{"auths": {"a.de": {"auth": "dTpw", "x": 1}, "http://b.de/": {}}, "unknown": [1, {"z": 2.5}]}"#;
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink("real.json", dir.path().join("config.json")).unwrap();
        let mut config = Config::load(&settings(dir.path())).unwrap().unwrap();
        config.put("b.de", Some(&password("user", "pa:ss"))).unwrap();
        assert_eq!(config.save().unwrap(), fs::canonicalize(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let expected = json!({"auths": {"a.de": {"auth": "dTpw", "x": 1}, "b.de": {"auth": STANDARD.encode("user:pa:ss")}},
            "unknown": [1, {"z": 2.5}]});
        assert_eq!(written, expected);
        let mut config = Config::load(&settings(dir.path())).unwrap().unwrap();
        assert_eq!(config.entry("b.de").unwrap(), Some(password("user", "pa:ss")));
        assert!(config.remove("b.de") && !config.remove("b.de"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_broken_file_is_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Config::load(&settings(&dir.path().join("nowhere"))).unwrap().is_none());
        for broken in ["{\"auths\": s3cret", "\"s3cret\"", "[\"s3cret\"]"] {
            fs::write(dir.path().join("config.json"), broken).unwrap();
            let Err(e) = Config::load(&settings(dir.path())) else { panic!("{broken}") };
            assert!(e.to_string().contains("no JSON object") && !e.to_string().contains("s3cret"), "{e}");
        }
    }
}
