//! How registries are reached: mirrors, plain HTTP, certificates, proxies, patience.
//!
//! Three places say so, the later beats the earlier: `/etc/corten/registries.toml`, the environment, flags.
//!
//! ```toml
//! plain-http = ["registry.lan:5000"]
//!
//! [mirrors]
//! "docker.io" = ["mirror.lan:5000", "cache.example/hub"]
//! ```
//!
//! A mirror is a host, with a port and a path in front of the repository where it has them. Mirrors are asked in order, and then the registry
//! itself. The environment: `SSL_CERT_FILE`, `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, `DOCKER_CONFIG`, and `CORTEN_REGISTRIES`, another file
//! in place of /etc/corten/registries.toml.
//!
//! What goes wrong: a key that is misspelt would leave a mirror unused or a connection unencrypted, silently. An unknown key is an error.

use super::named;
use crate::error;
use crate::error::{Error, Result, io_words};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where the file is unless `CORTEN_REGISTRIES` says otherwise.
pub const FILE: &str = "/etc/corten/registries.toml";
/// Where certificates of private authorities are: `HOST[:PORT]/ca.crt`.
pub const CERTS: &str = "/etc/corten/certs.d";

/// A variable of the environment, by name. Injected, so that tests need not change the process.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Everything that is known before a registry is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// By registry, as names have it: `docker.io`.
    pub mirrors: BTreeMap<String, Vec<Mirror>>,
    /// `HOST[:PORT]` that speak HTTP without TLS.
    pub plain_http: Vec<String>,
    /// The directory with `HOST[:PORT]/ca.crt`.
    pub certs: PathBuf,
    /// The file of trusted authorities in place of the system's.
    pub authorities: Option<PathBuf>,
    /// Who is asked in place of the registry.
    pub proxies: Proxies,
    /// The directory of Docker's config.json.
    pub docker: Option<PathBuf>,
    /// The environment's `PATH`, `HOME` and the like, for credential helpers.
    pub environment: Vec<(String, OsString)>,
    /// How long is waited, and how often tried.
    pub patience: Patience,
}

/// `HOST[:PORT][/PATH]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// `mirror.lan:5000`
    pub host: String,
    /// In front of the repository: ``, or `hub`.
    pub path: String,
}

/// Proxies by the scheme of what is asked for.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// `HTTPS_PROXY`
    pub https: Option<String>,
    /// `HTTP_PROXY`
    pub http: Option<String>,
    /// `NO_PROXY`: hosts that are asked directly.
    pub none: Vec<String>,
}

/// An address of a proxy may hold a password.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |proxy: &Option<String>| if proxy.is_some() { "set" } else { "not set" };
        write!(f, "Proxies {{ https: {}, http: {}, none: {:?} }}", shown(&self.https), shown(&self.http), self.none)
    }
}

/// How long is waited, and how often tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until there is a connection, TLS included.
    pub connect: Duration,
    /// Until the head of an answer is there.
    pub answer: Duration,
    /// Within this time of waiting for data, at least `least` bytes must come; and something must be taken of what we send.
    pub stall: Duration,
    /// Bytes.
    pub least: u64,
    /// Tries in all, where a further one may help.
    pub tries: u32,
    /// Before the second try; doubled for each further one.
    pub pause: Duration,
    /// The longest `Retry-After` that is obeyed; a longer one is an error.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            connect: Duration::from_secs(20),
            answer: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            least: 16 << 10,
            tries: 4,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
        }
    }
}

impl Default for Settings {
    /// No file and no environment.
    fn default() -> Self {
        Settings {
            mirrors: BTreeMap::new(),
            plain_http: Vec::new(),
            certs: CERTS.into(),
            authorities: None,
            proxies: Proxies::default(),
            docker: None,
            environment: Vec::new(),
            patience: Patience::default(),
        }
    }
}

impl Settings {
    /// The process's environment and the file that it names, or [`FILE`].
    pub fn load() -> Result<Self> {
        let mut settings = Settings::load_with(&|name| std::env::var_os(name))?;
        let all = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        settings.environment = all.collect();
        Ok(settings)
    }

    /// The same with this environment. Only [`FILE`] may be missing; a file that was named may not.
    pub fn load_with(environment: Environment<'_>) -> Result<Self> {
        let named = environment("CORTEN_REGISTRIES").filter(|path| !path.is_empty()).map(PathBuf::from);
        let path = named.as_deref().unwrap_or(Path::new(FILE));
        let mut settings = match std::fs::read_to_string(path) {
            Ok(text) => Settings::parse(&text).map_err(|e| e.at(path.display()))?,
            Err(e) if e.kind() == ErrorKind::NotFound && named.is_none() => Settings::default(),
            Err(e) => return Err(error!("{}: {}", path.display(), io_words(&e))),
        };
        settings.obey(environment);
        Ok(settings)
    }

    /// What the text of registries.toml says. An error begins with `line N: `.
    pub fn parse(text: &str) -> Result<Self> {
        let line = |at: usize| 1 + text.get(..at).unwrap_or(text).matches('\n').count();
        let table = DeTable::parse(text).map_err(|e| {
            let at = e.span().map_or(0, |span| span.start);
            error!("{}", e.message()).at(format!("line {}", line(at)))
        })?;
        let mut settings = Settings::default();
        for (key, value) in table.get_ref() {
            let at = |e: Error| e.at(format!("line {}: {}", line(key.span().start), key.get_ref()));
            match key.get_ref().as_ref() {
                "plain-http" => {
                    settings.plain_http = hosts(value).map_err(at)?;
                    settings.plain_http.iter().try_for_each(|host| named::check_host(host)).map_err(at)?;
                }
                "mirrors" => {
                    let DeValue::Table(mirrors) = value.get_ref() else {
                        return Err(at(error!("it is no table").hint("[mirrors], then \"REGISTRY\" = [\"MIRROR\"]")));
                    };
                    for (registry, value) in mirrors {
                        let name = registry.get_ref().to_string();
                        let at = |e: Error| e.at(format!("line {}: mirrors.{name:?}", line(registry.span().start)));
                        named::check_host(&name).map_err(at)?;
                        let all: Result<_> = hosts(value).map_err(at)?.iter().map(|m| Mirror::parse(m)).collect();
                        settings.mirrors.insert(name.clone(), all.map_err(at)?);
                    }
                }
                _ => return Err(at(error!("this key is not known")).hint("there are: plain-http, mirrors")),
            }
        }
        Ok(settings)
    }

    /// Takes what the environment says.
    pub fn obey(&mut self, environment: Environment<'_>) {
        let path = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // Both spellings are in use.
        let either = |upper: &str| {
            let value = environment(upper).or_else(|| environment(&upper.to_ascii_lowercase()))?;
            Some(value.into_string().ok()?.trim().to_owned()).filter(|value| !value.is_empty())
        };
        self.authorities = path("SSL_CERT_FILE");
        self.docker = path("DOCKER_CONFIG").or_else(|| path("HOME").map(|home| home.join(".docker")));
        let none = either("NO_PROXY").unwrap_or_default();
        self.proxies = Proxies {
            https: either("HTTPS_PROXY"),
            http: either("HTTP_PROXY"),
            none: none.split(',').map(|host| host.trim().to_owned()).filter(|host| !host.is_empty()).collect(),
        };
    }

    /// Is this `HOST[:PORT]` to be asked without TLS?
    pub fn is_plain(&self, authority: &str) -> bool {
        self.plain_http.iter().any(|plain| plain == authority)
    }

    /// Where the certificate of the private authority of this `HOST[:PORT]` would be, there or not. The port of HTTPS may be written or not.
    pub fn authorities_of(&self, authority: &str) -> Vec<PathBuf> {
        let bare = authority.strip_suffix(":443").unwrap_or(authority);
        let mut names = vec![authority.to_owned()];
        if bare != authority {
            names.push(bare.to_owned());
        } else if authority.ends_with(']') || !authority.contains(':') {
            names.push(format!("{authority}:443"));
        }
        names.iter().map(|name| self.certs.join(name).join("ca.crt")).collect()
    }
}

impl Mirror {
    /// Parses `HOST[:PORT][/PATH]`.
    pub fn parse(text: &str) -> Result<Self> {
        if text.contains("://") {
            return Err(error!("{text:?} has a scheme")
                .hint("write HOST[:PORT][/PATH]; plain-http lists those that speak HTTP without TLS"));
        }
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        named::check_host(host)?;
        let path = path.trim_end_matches('/');
        let fits = |component: &str| {
            let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            component.bytes().all(known) && !matches!(component, "" | "." | "..")
        };
        match path.is_empty() || path.split('/').all(fits) {
            true => Ok(Mirror { host: host.to_owned(), path: path.to_owned() }),
            false => Err(error!("{text:?} has a path that no registry has")),
        }
    }
}

fn hosts(value: &Spanned<DeValue<'_>>) -> Result<Vec<String>> {
    let wrong = || error!("it is no list of texts").hint("[\"HOST\", \"HOST:PORT\"]");
    let DeValue::Array(all) = value.get_ref() else { return Err(wrong()) };
    let text = |one: &Spanned<DeValue<'_>>| one.get_ref().as_str().map(str::to_owned).ok_or_else(wrong);
    all.iter().map(text).collect()
}

/// Does `HOST[:PORT]` mean this machine, whatever the network?
pub fn is_loopback(authority: &str) -> bool {
    let host = host_of(authority);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `HOST[:PORT]` without the port and without brackets.
pub fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read() {
        let text = "# ours\nplain-http = [\"registry.lan:5000\"]\n[mirrors]\n\"docker.io\" = [\"m.lan:5000\", \"c.example/hub/\"]\n";
        let settings = Settings::parse(text).unwrap();
        assert!(settings.is_plain("registry.lan:5000") && !settings.is_plain("registry.lan"));
        let mirrors: Vec<_> =
            settings.mirrors["docker.io"].iter().map(|m| (m.host.as_str(), m.path.as_str())).collect();
        assert_eq!(mirrors, [("m.lan:5000", ""), ("c.example", "hub")]);
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        for (text, words) in [
            ("\nplain_http = []", "line 2: plain_http: this key is not known"),
            ("[mirror]\n\"docker.io\" = []", "line 1: mirror: this key is not known"),
            ("[mirrors]\n\n\"docker.io\" = \"m\"", "line 3: mirrors.\"docker.io\": it is no list"),
            ("mirrors = 1", "line 1: mirrors: it is no table"),
            ("plain-http = [5000]", "line 1: plain-http: it is no list"),
            ("plain-http = [\"http://x\"]", "line 1: plain-http: the host \"http://x\""),
            ("[mirrors]\n\"docker.io\" = [\"https://x\"]", "line 2: mirrors.\"docker.io\": \"https://x\" has a scheme"),
            ("[mirrors]\n\"docker.io\" = [\"x/../y\"]", "path that no registry has"),
            ("a = \n", "line 1: "),
            ("\n\n= 3\n", "line 3: "),
        ] {
            let e = Settings::parse(text).expect_err(text).to_string();
            assert!(e.contains(words), "{text}: {e}");
        }
    }

    #[test]
    fn the_environment_is_obeyed() {
        let mut settings = Settings::default();
        settings.obey(&|name| match name {
            "https_proxy" => Some("http://user:pass@proxy:3128".into()),
            "NO_PROXY" => Some("localhost, .lan ,".into()),
            "SSL_CERT_FILE" => Some("".into()),
            "HOME" => Some("/root".into()),
            _ => None,
        });
        assert_eq!(settings.proxies.https.as_deref(), Some("http://user:pass@proxy:3128"));
        assert_eq!(settings.proxies.none, ["localhost", ".lan"]);
        assert_eq!(
            (settings.authorities.clone(), settings.docker.as_deref()),
            (None, Some(Path::new("/root/.docker")))
        );
        assert!(!format!("{settings:?}").contains("pass"));
    }

    #[test]
    fn another_file_may_be_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let load = |path: &Path| Settings::load_with(&|name| (name == "CORTEN_REGISTRIES").then(|| path.into()));
        std::fs::write(file.path(), "plain-http = [\"r.lan:5000\"]").unwrap();
        assert!(load(file.path()).unwrap().is_plain("r.lan:5000"));
        std::fs::write(file.path(), "\nplain = 1").unwrap();
        let e = load(file.path()).unwrap_err().cause;
        assert_eq!(e, format!("{}: line 2: plain: this key is not known", file.path().display()));
        assert!(load(Path::new("/nowhere/registries.toml")).unwrap_err().cause.contains("ENOENT"));
    }

    #[test]
    fn authorities_are_by_host_and_port() {
        let settings = Settings::default();
        let names = |authority: &str| -> Vec<String> {
            let paths = settings.authorities_of(authority);
            paths.iter().map(|p| p.strip_prefix(CERTS).unwrap().display().to_string()).collect()
        };
        assert_eq!(names("a.de"), ["a.de/ca.crt", "a.de:443/ca.crt"]);
        assert_eq!(names("a.de:443"), ["a.de:443/ca.crt", "a.de/ca.crt"]);
        assert_eq!(names("[::1]"), ["[::1]/ca.crt", "[::1]:443/ca.crt"]);
        assert_eq!(names("[::1]:5000"), ["[::1]:5000/ca.crt"]);
    }

    #[test]
    fn this_machine_is_known() {
        for local in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(local), "{local}");
        }
        for other in ["localhost.de", "10.0.0.1:5000", "127.0.0.1.nip.io", "[::2]:5000"] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
