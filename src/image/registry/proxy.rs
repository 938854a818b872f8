//! Which proxy is asked in place of a host: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`.
//!
//! There is no standard; what curl and Go have in common is followed. `HTTPS_PROXY` is for `https` addresses, `HTTP_PROXY` for `http`. `NO_PROXY`
//! lists hosts that are asked directly: `*` is all of them, `example.org` and `.example.org` also mean what is below, `10.0.0.0/8` is a
//! network, `host:5000` one port. This machine is always asked directly.
//!
//! Every request goes through the proxy by CONNECT, also those without TLS. By hand: `curl -p -x http://proxy:3128 …`.

use super::url::{Origin, Scheme};
use crate::error;
use crate::error::Result;
use crate::image::settings::{Proxies, host_of, is_loopback};
use std::net::IpAddr;
use ureq::Proxy;

/// The proxy for this origin, if it has one. An error does not show the proxy's address, which may hold a password.
pub fn proxy_for(origin: &Origin, proxies: &Proxies) -> Result<Option<Proxy>> {
    let (name, address) = match origin.scheme {
        Scheme::Https => ("HTTPS_PROXY", &proxies.https),
        Scheme::Http => ("HTTP_PROXY", &proxies.http),
    };
    let Some(address) = address else { return Ok(None) };
    if is_loopback(&origin.authority) || proxies.none.iter().any(|entry| means(entry, &origin.authority)) {
        return Ok(None);
    }
    match address.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).as_deref() {
        None | Some("http" | "https") => {}
        Some(scheme) => return Err(error!("{name}: proxies of kind {scheme}:// are not supported (http:// is)")),
    }
    Proxy::new(address).map(Some).map_err(|_| error!("{name} is not the address of a proxy").hint("http://HOST:PORT"))
}

/// Does an entry of `NO_PROXY` mean this `HOST[:PORT]`?
fn means(entry: &str, authority: &str) -> bool {
    let (entry, host) = (entry.to_ascii_lowercase(), host_of(authority));
    if entry == "*" || entry == authority {
        return true;
    }
    if let (Some((network, bits)), Ok(address)) = (entry.split_once('/'), host.parse::<IpAddr>()) {
        return match (network.parse(), bits.parse()) {
            (Ok(network), Ok(bits)) => within(address, network, bits),
            _ => false,
        };
    }
    let bare = entry.trim_start_matches('*');
    let bare = bare.strip_prefix('.').unwrap_or(bare);
    let below = || host.strip_suffix(bare).is_some_and(|front| front.ends_with('.'));
    !bare.is_empty() && (host == bare || below() || host == host_of(bare) && bare.parse::<IpAddr>().is_ok())
}

fn within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            bits <= 32 && (a.to_bits() ^ n.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            bits <= 128 && (a.to_bits() ^ n.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_mean_hosts() {
        for (entry, authority, expected) in [
            ("*", "a.de", true),
            ("a.de", "a.de:5000", true),
            ("a.de", "x.a.de", true),
            ("a.de", "xa.de", false),
            (".a.de", "x.a.de", true),
            ("*.a.de", "x.a.de", true),
            ("A.DE", "a.de", true),
            ("a.de:5000", "a.de:5000", true),
            ("a.de:5000", "a.de:5001", false),
            ("10.0.0.0/8", "10.9.9.9:5000", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "11.0.0.1", true),
            ("10.0.0.1", "10.0.0.1:5000", true),
            ("fd00::/8", "[fd12::1]:5000", true),
            ("fd00::/8", "[fe80::1]", false),
            ("fd12::1", "[fd12::1]:5000", true),
            ("", "a.de", false),
            (".", "a.de", false),
        ] {
            assert_eq!(means(entry, authority), expected, "{entry} {authority}");
        }
    }

    #[test]
    fn a_proxy_is_chosen_by_scheme() {
        let proxies = Proxies {
            https: Some("http://user:pass@secure:3128".into()),
            http: Some("plain:3128".into()),
            none: vec!["lan".into()],
        };
        let chosen = |scheme, host: &str| {
            proxy_for(&Origin::new(scheme, host), &proxies).unwrap().map(|p| format!("{}:{}", p.host(), p.port()))
        };
        assert_eq!(chosen(Scheme::Https, "quay.io").as_deref(), Some("secure:3128"));
        assert_eq!(chosen(Scheme::Http, "quay.io").as_deref(), Some("plain:3128"));
        assert_eq!(chosen(Scheme::Https, "r.lan:5000"), None);
        assert_eq!(chosen(Scheme::Https, "127.0.0.1:5000"), None);
        let socks = Proxies { https: Some("socks5://user:pass@p:1".into()), ..Proxies::default() };
        let e = proxy_for(&Origin::new(Scheme::Https, "quay.io"), &socks).unwrap_err().to_string();
        assert!(e.contains("socks5://") && !e.contains("pass"), "{e}");
    }
}
