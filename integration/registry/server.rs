//! A small HTTP server that does as it is told, also when it is wrong: it cuts, drips, hangs, redirects.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Where `Range: bytes=N-` begins.
    pub fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What is sent back, and how.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub manner: Manner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Whole,
    /// Closes the connection after so many bytes of the body.
    Cut(usize),
    /// A byte at a time, head and all, with this pause.
    Drip(Duration),
    /// The head at once, then a byte of the body at a time.
    DripBody(Duration),
    /// Says nothing until the client goes.
    Hang,
    /// Closes the connection without a word.
    Close,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Reply { status, headers: Vec::new(), body: body.into(), manner: Manner::Whole }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn manner(mut self, manner: Manner) -> Self {
        self.manner = manner;
        self
    }
}

/// Answers on 127.0.0.1 until it goes out of scope, one request for each connection.
pub struct Server {
    pub host: String,
    seen: Arc<Mutex<Vec<Request>>>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (seen, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (requests, ended, answer) = (seen.clone(), over.clone(), Arc::new(answer));
        let thread = std::thread::spawn(move || {
            let mut workers = Vec::new();
            for stream in listener.incoming() {
                if ended.load(Relaxed) {
                    break;
                }
                let (stream, requests, answer, ended) =
                    (stream.unwrap(), requests.clone(), answer.clone(), ended.clone());
                workers.push(std::thread::spawn(move || {
                    let _ = serve(stream, &requests, &*answer, &ended);
                }));
            }
            workers.into_iter().for_each(|worker| worker.join().unwrap());
        });
        Server { host, seen, over, thread: Some(thread) }
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Those whose path holds this.
    pub fn count(&self, path: &str) -> usize {
        self.seen().iter().filter(|request| request.path.contains(path)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        let _ = TcpStream::connect(&self.host);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &(impl Fn(&Request) -> Reply + ?Sized),
    over: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let Some(request) = read(&mut BufReader::new(&stream))? else { return Ok(()) };
    seen.lock().unwrap().push(request.clone());
    let reply = answer(&request);
    let mut head = format!("HTTP/1.1 {} Test\r\nConnection: close\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| matches!(name.as_str(), "content-length" | "transfer-encoding")) {
        head += &format!("content-length: {}\r\n", reply.body.len());
    }
    reply.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    head += "\r\n";
    let body: &[u8] = if request.method == "HEAD" { b"" } else { &reply.body };
    let drip = |mut stream: &TcpStream, bytes: &[u8], pause: Duration| -> std::io::Result<()> {
        for byte in bytes {
            stream.write_all(&[*byte])?;
            std::thread::sleep(pause);
        }
        Ok(())
    };
    match reply.manner {
        Manner::Whole => stream.write_all(&[head.as_bytes(), body].concat())?,
        Manner::Cut(after) => stream.write_all(&[head.as_bytes(), &body[..after.min(body.len())]].concat())?,
        Manner::Drip(pause) => drip(&stream, &[head.as_bytes(), body].concat(), pause)?,
        Manner::DripBody(pause) => {
            stream.write_all(head.as_bytes())?;
            drip(&stream, body, pause)?;
        }
        Manner::Hang => {
            stream.set_read_timeout(Some(Duration::from_millis(50)))?;
            while !over.load(Relaxed) && !matches!(stream.read(&mut [0]), Ok(0)) {}
        }
        Manner::Close => {}
    }
    Ok(())
}

/// A request; `None`: not one of HTTP, or none at all.
pub fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = Vec::new();
    // A handshake of TLS has no line: give up after its first bytes.
    reader.by_ref().take(8192).read_until(b'\n', &mut line)?;
    let Ok(line) = String::from_utf8(line) else { return Ok(None) };
    let mut words = line.split(' ').map(str::to_owned);
    let (Some(method), Some(path), Some(_)) = (words.next(), words.next(), words.next()) else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, length)| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, headers, body }))
}
