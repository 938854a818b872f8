//! Requests, with all that can go wrong between two machines: redirects, cut connections, busy servers.
//!
//! Three layers, each a function: `once` is one exchange, [`Client::follow`] goes where a redirect leads, [`Client::send`] tries again
//! where that may help. Redirects are followed here and not by the HTTP library, because what may not happen is ours to say: credentials never go to
//! another origin, and no way leads from `https` to `http`.
//!
//! By hand: `curl -v -H 'Accept: …' https://HOST/v2/NAME/manifests/TAG`.
//!
//! A further try may help after 429 and 5xx, a connection that was cut, and a time-out. It does not after a refused connection, a name that is not known,
//! or a certificate that is not trusted: those are told at once.

use super::discreet::Sent;
use super::url::{Origin, Scheme, Url};
use super::watch::{Here, Watch};
use super::{proxy, trust};
use crate::error;
use crate::error::{Error, Result, io_words};
use crate::image::credentials::Secret;
use crate::image::settings::Settings;
use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use ureq::http::{HeaderMap, Method, Request, Response};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector, TcpConnector};
use ureq::{Agent, Body, ProxyProtocol, SendBody, Timeout};

/// How many redirects are followed.
const REDIRECTS: usize = 5;

/// So many times as long as otherwise the answer to an upload may take: registries put a blob together and hash it before they answer.
const AFTER_UPLOAD: u32 = 10;

/// What is asked.
pub struct Ask<'a> {
    /// GET, HEAD, POST, PUT.
    pub method: Method,
    /// Where.
    pub url: Url,
    /// Besides those of every request.
    pub headers: Vec<(&'static str, String)>,
    /// The `Authorization`, for the origin of `url` alone.
    pub authorization: Option<Secret>,
    /// What is sent along.
    pub content: Content<'a>,
    /// What to do when sent elsewhere.
    pub redirects: Redirects,
}

/// What to do when sent elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// Go there.
    Follow,
    /// Take the redirect for the answer.
    Refuse,
}

/// What is sent along with a request. It can be sent again.
pub enum Content<'a> {
    /// Nothing at all.
    None,
    /// These bytes; empty ones too have a `Content-Length`.
    Bytes(&'a [u8]),
    /// So many bytes from what this opens.
    Stream(u64, &'a dyn Fn() -> Result<Box<dyn Read + Send>>),
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// `200`
    pub status: u16,
    /// All of them.
    pub headers: HeaderMap,
    /// Who answered, at last.
    pub url: Url,
    body: Body,
}

/// Why there is no answer, and whether to try again.
#[derive(Debug)]
pub struct Fault {
    /// For the person.
    pub error: Error,
    /// What another try would do.
    pub again: Again,
}

/// What a request came to.
pub type Tried<T> = std::result::Result<T, Fault>;

/// What another try would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Help, maybe.
    Maybe,
    /// Help only without TLS, which the other side does not speak.
    WithoutTls,
    /// Nothing.
    Never,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault { error, again: Again::Never }
    }
}

/// Connections to registries, kept while they are used.
pub struct Client {
    /// As it was told.
    pub settings: Settings,
    /// What no answer may repeat.
    pub sent: Sent,
    agents: Mutex<HashMap<Origin, Agent>>,
}

impl<'a> Ask<'a> {
    /// A request without content.
    pub fn new(method: Method, url: Url) -> Self {
        Ask {
            method,
            url,
            headers: Vec::new(),
            authorization: None,
            content: Content::None,
            redirects: Redirects::Follow,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends this along.
    pub fn content(mut self, content: Content<'a>) -> Self {
        self.content = content;
        self
    }

    /// Says what to do when sent elsewhere.
    pub fn redirects(mut self, redirects: Redirects) -> Self {
        self.redirects = redirects;
        self
    }
}

impl Answer {
    /// A header as text, if it is one.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body, as it comes.
    pub fn into_reader(self) -> Box<dyn Read + Send> {
        // The default limit of the library is for documents; ours are those of who reads.
        Box::new(self.body.into_with_config().limit(u64::MAX).reader())
    }

    /// The whole body, of at most so many bytes.
    pub fn bytes(self, most: u64) -> Tried<Vec<u8>> {
        let mut bytes = Vec::new();
        self.into_reader().take(most + 1).read_to_end(&mut bytes).map_err(cut)?;
        match bytes.len() as u64 > most {
            true => Err(error!("the answer has more than {most} bytes").into()),
            false => Ok(bytes),
        }
    }
}

impl Client {
    /// No connection is made yet.
    pub fn new(settings: Settings) -> Self {
        Client { settings, sent: Sent::default(), agents: Mutex::new(HashMap::new()) }
    }

    /// Asks, as often as it may help and no more than `patience.tries` times. The answer's status may still be an error.
    pub fn send(&self, ask: &Ask<'_>) -> Tried<Answer> {
        let mut tries = 1;
        loop {
            let last = tries >= self.settings.patience.tries;
            let pause = match self.follow(ask) {
                Ok(answer) if !is_busy(answer.status) || last => return Ok(answer),
                Ok(answer) => match self.pause_of(&answer, tries) {
                    Some(pause) => pause,
                    None => return Ok(answer),
                },
                Err(fault) if fault.again != Again::Maybe || last => return Err(fault),
                Err(_) => self.pause(tries),
            };
            log::debug!("{}", self.sent.cut(format!("{} {}: once more in {pause:?}", ask.method, ask.url)));
            std::thread::sleep(pause);
            tries += 1;
        }
    }

    /// How long to wait after so many tries.
    pub fn pause(&self, tries: u32) -> Duration {
        self.settings.patience.pause * 2u32.saturating_pow(tries.saturating_sub(1).min(6))
    }

    /// The same, or as long as the answer asks for; `None` where that is too long.
    fn pause_of(&self, answer: &Answer, tries: u32) -> Option<Duration> {
        let asked = answer.header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let pause = asked.map_or(self.pause(tries), |asked| asked.max(self.pause(tries)));
        (pause <= self.settings.patience.longest_pause).then_some(pause)
    }

    /// Asks, and goes where it is sent.
    pub fn follow(&self, ask: &Ask<'_>) -> Tried<Answer> {
        let (mut url, mut method) = (ask.url.clone(), ask.method.clone());
        for _ in 0..=REDIRECTS {
            let answer = self.once(ask, &method, &url)?;
            let location = match answer.status {
                301 | 302 | 303 | 307 | 308 if ask.redirects == Redirects::Follow => {
                    answer.header("location").map(str::to_owned)
                }
                _ => None,
            };
            let Some(location) = location else { return Ok(answer) };
            let from = |e: Error| e.at(format!("redirected by {url}"));
            (method, url) = redirected(answer.status, &method, &url, &location).map_err(from)?;
            self.sent.query(&url);
        }
        Err(error!("{}: more than {REDIRECTS} redirects", ask.url).into())
    }

    /// One exchange. The `Authorization` goes along only where it was meant for.
    fn once(&self, ask: &Ask<'_>, method: &Method, url: &Url) -> Tried<Answer> {
        let mut request = Request::builder().method(method.clone()).uri(url.whole());
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some(Secret(authorization)) = &ask.authorization
            && url.origin == ask.url.origin
        {
            self.sent.authorization(authorization);
            request = request.header("authorization", authorization);
        }
        let wrong = |_| error!("{url}: a header or an address that HTTP cannot carry");
        let agent = self.agent(&url.origin)?;
        let content = if *method == ask.method { &ask.content } else { &Content::None };
        let answered = match content {
            Content::None => agent.run(request.body(()).map_err(wrong)?),
            Content::Bytes(bytes) => agent.run(request.body(*bytes).map_err(wrong)?),
            Content::Stream(length, open) => {
                let mut reader = open()?.take(*length);
                request = request.header("content-length", length.to_string());
                let request = request.body(SendBody::from_reader(&mut reader)).map_err(wrong)?;
                let patience = Some(self.settings.patience.answer * AFTER_UPLOAD);
                let config = agent.configure_request(request);
                agent.run(config.timeout_recv_response(patience).timeout_per_read(patience).build())
            }
        };
        match answered {
            Ok(answered) => Ok(answer(answered, url)),
            Err(e) => Err(fault(e, &url.origin, method)),
        }
    }

    /// One for each origin: its own authorities, its own proxy, its own connections.
    fn agent(&self, origin: &Origin) -> Result<Agent> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(origin) {
            return Ok(agent.clone());
        }
        let agent = self.new_agent(origin).map_err(|e| e.at(&origin.authority))?;
        agents.insert(origin.clone(), agent.clone());
        Ok(agent)
    }

    fn new_agent(&self, origin: &Origin) -> Result<Agent> {
        let patience = self.settings.patience;
        let proxy = proxy::proxy_for(origin, &self.settings.proxies)?;
        // The way to a proxy may have TLS where the rest has none.
        let tls =
            origin.scheme == Scheme::Https || proxy.as_ref().is_some_and(|p| p.protocol() == ProxyProtocol::Https);
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("corten/", env!("CARGO_PKG_VERSION")))
            // A blob is what its digest says: nobody shall compress it on the way.
            .accept_encoding("identity")
            .proxy(proxy)
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.answer))
            .timeout_per_read(Some(patience.stall.max(patience.answer)))
            .timeout_per_write(Some(patience.stall))
            .max_idle_connections(16)
            .max_idle_connections_per_host(8);
        if tls {
            config = config.tls_config(trust::trusted(&origin.authority, &self.settings)?);
        }
        let chain =
            ().chain(ConnectProxyConnector::default())
                .chain(TcpConnector::default())
                .chain(Watch(patience))
                .chain(RustlsConnector::default());
        Ok(Agent::with_parts(config.build(), chain, Here))
    }
}

/// What a redirect means for the next request (RFC 9110, 15.4). Never from `https` to `http`.
fn redirected(status: u16, method: &Method, url: &Url, location: &str) -> Result<(Method, Url)> {
    let next = url.join(location)?;
    if next.origin.scheme < url.origin.scheme {
        return Err(error!("from https to {}, which is refused", next.origin));
    }
    match (status, method) {
        (_, &Method::GET | &Method::HEAD) | (307 | 308, _) => Ok((method.clone(), next)),
        (303, _) => Ok((Method::GET, next)),
        (status, _) => Err(error!("{method} is answered with {status}")),
    }
}

fn answer(answered: Response<Body>, url: &Url) -> Answer {
    let (head, body) = answered.into_parts();
    Answer { status: head.status.as_u16(), headers: head.headers, url: url.clone(), body }
}

/// Statuses that may be others soon.
pub fn is_busy(status: u16) -> bool {
    matches!(status, 429 | 500 | 502 | 503 | 504)
}

/// What went wrong while a body was read.
pub fn cut(e: std::io::Error) -> Fault {
    let (error, again) = words(e.into(), "");
    Fault { error, again }
}

fn fault(e: ureq::Error, origin: &Origin, method: &Method) -> Fault {
    let (error, again) = words(e, &origin.authority);
    log::debug!("{method} {origin}: {}", error.cause);
    Fault { error: error.at(&origin.authority), again }
}

fn words(e: ureq::Error, authority: &str) -> (Error, Again) {
    use ureq::Error as E;
    match e {
        E::Rustls(e) => tls(&e, authority),
        E::Io(e) => match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(e) => tls(e, authority),
            None => io(&e),
        },
        E::Timeout(Timeout::Connect) => (error!("no connection in time"), Again::Never),
        E::Timeout(Timeout::PerRead | Timeout::RecvBody) => (error!("it sends too slowly, or nothing"), Again::Maybe),
        E::Timeout(Timeout::RecvResponse) => (error!("it does not answer in time"), Again::Maybe),
        E::Timeout(_) => (error!("it takes nothing in time"), Again::Maybe),
        E::HostNotFound => (error!("this host is not known"), Again::Never),
        E::ConnectProxyFailed(said) => (error!("the proxy does not connect: {}", printable(&said)), Again::Never),
        E::ConnectionFailed => (error!("no connection"), Again::Never),
        E::BodyStalled => (error!("the connection was cut"), Again::Maybe),
        E::Protocol(e) => (error!("it does not speak HTTP as it should: {e}"), Again::Never),
        E::LargeResponseHeader(..) => (error!("the head of its answer is too long"), Again::Never),
        // The others are of what we do not use; their words may hold an address, so they are not repeated.
        _ => (error!("HTTP failed"), Again::Never),
    }
}

fn tls(e: &rustls::Error, authority: &str) -> (Error, Again) {
    let again = if matches!(e, rustls::Error::InvalidMessage(_)) { Again::WithoutTls } else { Again::Never };
    (trust::words(e, authority), again)
}

fn io(e: &std::io::Error) -> (Error, Again) {
    match e.kind() {
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe => (error!("the connection was cut"), Again::Maybe),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => (error!("it sends too slowly, or nothing"), Again::Maybe),
        // std has no kind for what getaddrinfo(3) says.
        _ if e.raw_os_error().is_none() && e.to_string().contains("lookup") => (
            error!("this host is not known").hint("is there a network, and a name server in /etc/resolv.conf?"),
            Again::Never,
        ),
        _ => (error!("{}", io_words(e)), Again::Never),
    }
}

/// What a stranger says, on one line and not too long.
pub fn printable(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    clean.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_are_bounded() {
        let client = Client::new(Settings::default());
        let pauses: Vec<u128> = (1..5).map(|tries| client.pause(tries).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000]);
        assert_eq!(client.pause(u32::MAX), client.pause(7));
    }

    #[test]
    fn redirects_keep_to_tls_and_to_the_method() {
        let secure = Url::parse("https://r.de/v2/x").unwrap();
        let next = |status, method: Method, location: &str| {
            redirected(status, &method, &secure, location).map(|(method, url)| format!("{method} {url}"))
        };
        assert_eq!(next(307, Method::GET, "https://cdn.de/y?secret=1").unwrap(), "GET https://cdn.de/y");
        assert_eq!(next(302, Method::HEAD, "/y").unwrap(), "HEAD https://r.de/y");
        assert_eq!(next(303, Method::POST, "/y").unwrap(), "GET https://r.de/y");
        assert_eq!(next(308, Method::PUT, "/y").unwrap(), "PUT https://r.de/y");
        assert!(next(302, Method::PUT, "/y").unwrap_err().cause.contains("answered with 302"));
        for down in ["http://r.de/v2/x", "http://127.0.0.1/"] {
            assert!(next(307, Method::GET, down).unwrap_err().cause.contains("from https to http://"));
        }
        let plain = Url::parse("http://r.de/v2/x").unwrap();
        assert!(redirected(307, &Method::GET, &plain, "https://r.de/y").is_ok());
    }

    #[test]
    fn a_strangers_words_are_tamed() {
        assert_eq!(printable("a\x1b[2J\nb\r"), "a [2J b");
        assert_eq!(printable(&"x".repeat(1000)).len(), 300);
    }
}
