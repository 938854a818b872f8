//! A connection that must bring something: a server that drips is left.
//!
//! A limit for each read(2) is not enough: a byte every 29 seconds passes it, and a megabyte takes a year. A limit for a whole answer does not
//! fit either, because it depends on the size and on how fast the reader takes it. So time is counted only while we wait for data, below TLS where
//! a drip cannot hide in a half-filled record, and within each `stall` of it at least `least` bytes must come. Sending something starts anew, and
//! a few long waits are no drip: a server may think before it answers, which has its own limit.
//!
//! By hand, against `nc -l` that is fed slowly: `curl --speed-time 30 --speed-limit 500 http://…`.

use crate::image::settings::Patience;
use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};
use ureq::{Error, Timeout};

/// Puts a [`Watched`] around the connection that the chain has made so far.
#[derive(Debug)]
pub struct Watch(pub Patience);

/// A connection and how it has done lately.
#[derive(Debug)]
pub struct Watched<T> {
    inner: T,
    pace: Pace,
}

/// Pure: what came within how much waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    stall: Duration,
    least: u64,
    waited: Duration,
    came: u64,
    reads: u32,
}

/// As many addresses of a host are tried at most: what a [`ResolvedSocketAddrs`] takes.
const MOST: usize = 16;

/// Fewer reads than these are no drip.
const FEW: u32 = 4;

/// What is thought of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Alive,
    Dripping,
}

impl Pace {
    fn new(patience: &Patience) -> Self {
        Pace { stall: patience.stall, least: patience.least, waited: Duration::ZERO, came: 0, reads: 0 }
    }

    fn begin(&mut self) {
        (self.waited, self.came, self.reads) = (Duration::ZERO, 0, 0);
    }

    /// Something came, or nothing.
    fn note(&mut self, waited: Duration, came: u64) -> Verdict {
        self.waited += waited;
        self.came += came;
        self.reads += 1;
        if self.came >= self.least {
            self.begin();
        }
        if self.waited > self.stall && self.reads >= FEW { Verdict::Dripping } else { Verdict::Alive }
    }
}

impl<T: Transport> Connector<T> for Watch {
    type Out = Watched<T>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<T>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| Watched { inner, pace: Pace::new(&self.0) }))
    }
}

impl<T: Transport> Transport for Watched<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.pace.begin();
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let (before, begun) = (self.inner.buffers().input().len(), Instant::now());
        let progress = self.inner.await_input(timeout)?;
        let came = self.inner.buffers().input().len().saturating_sub(before);
        match self.pace.note(begun.elapsed(), came as u64) {
            Verdict::Alive => Ok(progress),
            Verdict::Dripping => Err(Error::Timeout(Timeout::PerRead)),
        }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// Names are resolved in the calling thread: ureq's own way with a timeout leaves a thread behind where none may be, and a channel that every
/// thread keeps memory for. getaddrinfo(3) has its own limits (resolv.conf(5), `timeout` and `attempts`).
#[derive(Debug, Default)]
pub struct Here;

impl Resolver for Here {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let place = uri.scheme().zip(uri.authority());
        let place = place.and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        let mut addresses = self.empty();
        place.ok_or(Error::HostNotFound)?.to_socket_addrs()?.take(MOST).for_each(|one| addresses.push(one));
        if addresses.is_empty() { Err(Error::HostNotFound) } else { Ok(addresses) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        let resolved = |uri: &str| {
            let found = Here.resolve(&uri.parse().unwrap(), &Config::default(), NextTimeout::default());
            found.map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(resolved("https://127.0.0.1/v2/").unwrap(), "127.0.0.1:443");
        assert_eq!(resolved("http://127.0.0.1/v2/").unwrap(), "127.0.0.1:80");
        assert_eq!(resolved("http://[::1]:5000/").unwrap(), "[::1]:5000");
        assert!(resolved("https://localhost:5000/").unwrap().contains("127.0.0.1:5000"));
        assert!(resolved("/no/host").is_err());
    }

    #[test]
    fn a_drip_is_left_and_a_stream_is_not() {
        let second = Duration::from_secs(1);
        let patience = Patience { stall: 10 * second, least: 100, ..Patience::default() };
        let verdicts = |each: u64, times: u32| {
            let mut pace = Pace::new(&patience);
            (0..times).find(|_| pace.note(second, each) == Verdict::Dripping)
        };
        assert_eq!(verdicts(1, 1000), Some(10));
        assert_eq!(verdicts(0, 1000), Some(10));
        assert_eq!(verdicts(10, 1000), None);
        let mut pace = Pace::new(&patience);
        assert_eq!(pace.note(9 * second, 1), Verdict::Alive);
        pace.begin();
        assert_eq!([1; 3].map(|_| pace.note(9 * second, 1)), [Verdict::Alive; 3]);
        assert_eq!(pace.note(second, 1), Verdict::Dripping);
    }
}
