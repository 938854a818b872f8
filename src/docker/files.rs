//! `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`: three files that every container finds, whatever its image has.
//!
//! By hand: `docker run --rm --add-host db:10.0.0.7 --dns 9.9.9.9 busybox cat /etc/hosts /etc/resolv.conf`. They lie in the container's own
//! directory on the host, and are bound into place. On the host's network they are copies of the host's; another container's network comes with that
//! container's very files.
//!
//! What goes wrong: a name with a line break would be a line of its own, so it is refused. A resolver of the host that only the host can reach
//! (systemd-resolved's 127.0.0.53) is of no use without the host's network; with it, it works.

use super::configure::{Facts, File};
use super::mounts;
use super::network::{Namespace, Namespaces};
use super::options::Options;
use super::wrong;
use crate::error::Result;
use crate::input::config::Mount;
use std::net::IpAddr;
use std::path::Path;

/// The three, as they are called in the container's directory, and where the container sees them. Resolver first, as Docker orders them.
const FILES: [(&str, &str); 3] =
    [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")];

/// What a machine without any network knows.
const LONELY: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// The files to write, and their mounts.
pub fn files(options: &Options, namespaces: &Namespaces, facts: &Facts) -> Result<(Vec<File>, Vec<Mount>)> {
    let directory = match &namespaces.network {
        Namespace::Of(other) => match &other.directory {
            Some(directory) => directory.as_path(),
            // A container of a bundle has the files of its root; so has this one.
            None => return Ok(Default::default()),
        },
        _ => facts.directory,
    };
    let mounted = FILES.iter().map(|(name, place)| mounts::file(directory.join(name), place, options)).collect();
    if matches!(namespaces.network, Namespace::Of(_)) {
        return Ok((Vec::new(), mounted));
    }
    let contents =
        [resolv_conf(options, facts)?, format!("{}\n", namespaces.hostname), hosts(options, namespaces, facts)?];
    let file = |((name, _), content): (&(&str, &str), String)| File {
        path: directory.join(name),
        content: content.into_bytes(),
    };
    Ok((FILES.iter().zip(contents).map(file).collect(), mounted))
}

/// A file of the host as text; none is an empty one.
fn host_file(path: &str, facts: &Facts) -> String {
    let bytes = (facts.read)(Path::new(path)).unwrap_or_default();
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn hosts(options: &Options, namespaces: &Namespaces, facts: &Facts) -> Result<String> {
    let mut text = match namespaces.network {
        Namespace::Host => host_file("/etc/hosts", facts),
        _ => LONELY.to_owned(),
    };
    for asked in &options.add_host {
        let (name, address) = add_host(asked, namespaces).map_err(|cause| wrong("--add-host", asked, cause))?;
        text.push_str(&format!("{address}\t{name}\n"));
    }
    Ok(text)
}

/// `NAME:IP` or `NAME=IP`; an address may stand in brackets.
fn add_host(text: &str, namespaces: &Namespaces) -> std::result::Result<(String, IpAddr), String> {
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or("the form is HOST:IP")?;
    if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '#') {
        return Err("the name is none".to_owned());
    }
    if address == "host-gateway" {
        return match namespaces.network {
            // Where the network is shared, the host is here.
            Namespace::Host => Ok((name.to_owned(), IpAddr::from([127, 0, 0, 1]))),
            _ => Err("there is no way to the host".to_owned()),
        };
    }
    let inner = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address = inner.parse().map_err(|_| format!("{} is not an address", super::quote(address)))?;
    Ok((name.to_owned(), address))
}

fn resolv_conf(options: &Options, facts: &Facts) -> Result<String> {
    let text = host_file("/etc/resolv.conf", facts);
    if options.dns.is_empty() {
        return Ok(text);
    }
    let mut replaced = String::new();
    for asked in &options.dns {
        let address: IpAddr = asked.parse().map_err(|_| wrong("--dns", asked, "not an address"))?;
        replaced.push_str(&format!("nameserver {address}\n"));
    }
    // The search list and the options stay the host's.
    for line in text.lines().filter(|line| !line.trim_start().starts_with("nameserver")) {
        replaced.push_str(line);
        replaced.push('\n');
    }
    Ok(replaced)
}
