//! `-v`, `--mount` and `--tmpfs`, and the mounts that every container has.
//!
//! By hand: `docker run --rm -v "$PWD:/src:ro" --tmpfs /run:size=1m busybox cat /proc/self/mountinfo`. `-v` splits at colons, `--mount` at commas;
//! the second is read as for bundles (`input::overrides`). A source that begins with `/` or `.` is a path of the host, and `-v` makes it where it is
//! missing; any other word is a volume, which this version does not have.
//!
//! What goes wrong: order. A mount at `/a` made after one at `/a/b` covers it, so mounts are sorted by depth, as Docker does. And one at
//! a place where every container has something (`/dev/shm`, `/etc/hosts`) replaces that.

use super::configure::Facts;
use super::defaults;
use super::options::Options;
use super::volumes::{Volume, volumes};
use super::{quote, wrong};
use crate::error;
use crate::error::Result;
use crate::input::config::Mount;
use crate::input::overrides::{Caller, bytes, parse_mount};
use oci_spec::image::Config as ImageConfig;
use serde_json::{Value, json};
use std::path::{Component, Path, PathBuf};

/// The words of a bind that take each other's place.
const BIND_WORDS: [&[&str]; 3] = [
    &["rw", "ro"],
    &["private", "rprivate", "shared", "rshared", "slave", "rslave"],
    // Labels of SELinux, and hints for Docker's desktop: nothing to do here.
    &["z", "Z"],
];
const BIND_HINTS: [&str; 4] = ["consistent", "cached", "delegated", "nocopy"];

/// What `--tmpfs` knows beside words with a value, and the default that each takes away.
const TMPFS_WORDS: [(&str, &str); 10] = [
    ("ro", "rw"),
    ("rw", "ro"),
    ("exec", "noexec"),
    ("noexec", "exec"),
    ("suid", "nosuid"),
    ("nosuid", "suid"),
    ("dev", "nodev"),
    ("nodev", "dev"),
    ("noatime", "relatime"),
    ("relatime", "noatime"),
];
const TMPFS_VALUES: [&str; 8] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "huge", "mpol"];
const TMPFS_DEFAULTS: [&str; 3] = ["noexec", "nosuid", "nodev"];

/// What was asked for.
#[derive(Debug, Default)]
pub struct Asked {
    /// In the order in which they are to be made.
    pub mounts: Vec<Mount>,
    /// Sources of `-v`, which are made as directories where they are missing.
    pub make: Vec<PathBuf>,
    /// The image's volumes, whose mounts are among the others.
    pub volumes: Vec<Volume>,
}

/// The mounts of the options, and the image's volumes, by depth.
pub fn asked(options: &Options, image: &ImageConfig, facts: &Facts) -> Result<Asked> {
    let mut asked = Asked::default();
    for text in &options.volume {
        let mount = volume(text, &facts.caller.dir).map_err(|e| e.at(format!("-v {}", quote(text))))?;
        asked.make.extend(mount.source.clone());
        asked.mounts.push(mount);
    }
    for text in &options.mount {
        asked.mounts.push(parse_mount(text, &facts.caller.dir).map_err(|e| e.at(format!("--mount {}", quote(text))))?);
    }
    // Docker refuses two of -v and --mount at one place.
    for (at, mount) in asked.mounts.iter().enumerate() {
        if asked.mounts[..at].iter().any(|old| parts(&old.destination) == parts(&mount.destination)) {
            return Err(error!("two mounts at {}", mount.destination.display()));
        }
    }
    for text in &options.tmpfs {
        let mount = tmpfs(text).map_err(|e| e.at(format!("--tmpfs {}", quote(text))))?;
        asked.mounts.retain(|old| parts(&old.destination) != parts(&mount.destination));
        asked.mounts.push(mount);
    }
    asked.volumes = volumes(image, &asked.mounts)?;
    asked.mounts.extend(asked.volumes.iter().map(|volume| volume.mount(facts.directory)));
    asked.mounts.sort_by_key(|mount| parts(&mount.destination).len());
    Ok(asked)
}

fn parts(path: &Path) -> Vec<Component<'_>> {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

fn target(text: &str) -> Result<PathBuf> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(error!("{} is not an absolute path", quote(text)));
    }
    match parts(path)[..] {
        [Component::RootDir] => Err(error!("/ is the root itself")),
        _ if parts(path).contains(&Component::ParentDir) => Err(error!("{} has .. in it", quote(text))),
        _ => Ok(path.to_owned()),
    }
}

/// `HOST:PATH[:OPTIONS]`. A relative host path begins with a dot and is the caller's.
fn volume(text: &str, caller_dir: &Path) -> Result<Mount> {
    let parts: Vec<&str> = text.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(error!("an empty part between colons"));
    }
    let (source, place, words) = match parts[..] {
        [only] => {
            let hint = format!("-v HOST:{only} binds a directory of the host, --tmpfs {only} mounts an empty one");
            return Err(error!("a volume without a name is not in this version").hint(hint));
        }
        [source, place] => (source, place, ""),
        [source, place, words] => (source, place, words),
        _ => return Err(error!("more than two colons; the form is HOST:PATH[:OPTIONS]")),
    };
    if !source.starts_with(['/', '.']) {
        let hint = format!("a path of the host begins with / or with .: -v ./{source}:{place}");
        return Err(error!("named volumes ({}) are not in this version", quote(source)).hint(hint));
    }
    let mut kept = [None; BIND_WORDS.len()];
    for word in words.split(',').filter(|_| !words.is_empty()) {
        match BIND_WORDS.iter().position(|group| group.contains(&word)) {
            Some(group) if kept[group].is_none() => kept[group] = Some(word),
            Some(_) => {
                return Err(error!(
                    "{word} contradicts {}",
                    kept[BIND_WORDS.iter().position(|g| g.contains(&word)).unwrap_or(0)].unwrap_or_default()
                ));
            }
            None if BIND_HINTS.contains(&word) => {}
            None => return Err(error!("{} is not an option of -v", quote(word))),
        }
    }
    let mut options = vec!["rbind".to_owned(), kept[1].unwrap_or("rprivate").to_owned()];
    if kept[0] == Some("ro") {
        // The mounts below too, as Docker does where the kernel can (5.12).
        options.push("rro".to_owned());
    }
    // Cleaned by hand: a source that is missing cannot be resolved, and `.` may be all of it.
    let source: PathBuf = caller_dir.join(source).components().filter(|part| *part != Component::CurDir).collect();
    Ok(Mount {
        destination: target(place)?,
        kind: "bind".to_owned(),
        source: Some(source),
        options,
        ..Mount::default()
    })
}

/// `PATH[:OPTIONS]`.
fn tmpfs(text: &str) -> Result<Mount> {
    let (place, words) = text.split_once(':').unwrap_or((text, ""));
    let mut options: Vec<String> = TMPFS_DEFAULTS.map(String::from).to_vec();
    for word in words.split(',').filter(|_| !words.is_empty()) {
        match word.split_once('=') {
            None => {
                let known = TMPFS_WORDS.iter().find(|(known, _)| *known == word);
                let (_, opposite) = known.ok_or_else(|| error!("{} is not an option of --tmpfs", quote(word)))?;
                options.retain(|old| old != opposite && old != word);
                options.push(word.to_owned());
            }
            Some((key, value)) => {
                if !TMPFS_VALUES.contains(&key) {
                    return Err(error!("{} is not an option of --tmpfs", quote(key)));
                }
                // The kernel counts in percent too, and knows no unit beyond one letter.
                let value = match (key, bytes(value)) {
                    ("size", Some(size)) => size.to_string(),
                    ("size", None) if value.strip_suffix('%').is_none_or(|n| n.parse::<u8>().is_err()) => {
                        return Err(error!("{} is not a size as 64m", quote(value)));
                    }
                    _ => value.to_owned(),
                };
                options.push(format!("{key}={value}"));
            }
        }
    }
    let source = Some("tmpfs".into());
    Ok(Mount { destination: target(place)?, kind: "tmpfs".to_owned(), source, options, ..Mount::default() })
}

/// `mounts`: what every container has, then what was asked for. `ours` are those of the files in /etc.
pub fn all(options: &Options, shm: Option<Mount>, mut asked: Vec<Mount>, ours: Vec<Mount>) -> Vec<Value> {
    let mut mounts: Vec<Mount> = defaults::MOUNTS.iter().map(|row| row.mount(options)).chain(shm).collect();
    // In place where every container has one: a new /dev at the end would cover /dev/pts.
    for mount in &mut mounts {
        if let Some(at) = asked.iter().position(|new| parts(&new.destination) == parts(&mount.destination)) {
            *mount = asked.remove(at);
        }
    }
    let ours: Vec<Mount> = ours
        .into_iter()
        .filter(|mount| !asked.iter().any(|new| parts(&new.destination) == parts(&mount.destination)))
        .collect();
    // Asked for at /etc, it would cover the files; those stand after it, as they are deeper.
    let covers = |mount: &Mount| ours.iter().any(|own| own.destination.starts_with(&mount.destination));
    let (before, after): (Vec<Mount>, Vec<Mount>) = asked.into_iter().partition(covers);
    mounts.into_iter().chain(before).chain(ours).chain(after).map(|mount| written(&mount)).collect()
}

fn written(mount: &Mount) -> Value {
    json!({"destination": mount.destination, "type": mount.kind, "source": mount.source, "options": mount.options})
}

/// A bind of one of our files.
pub fn file(source: PathBuf, destination: &str, options: &Options) -> Mount {
    let mut words = vec!["rbind".to_owned(), "rprivate".to_owned()];
    if options.read_only {
        words.push("ro".to_owned());
    }
    Mount {
        destination: destination.into(),
        kind: "bind".into(),
        source: Some(source),
        options: words,
        ..Mount::default()
    }
}

/// `--cidfile`, relative to the caller.
pub fn cidfile(options: &Options, caller: &Caller) -> Result<Option<PathBuf>> {
    match options.cidfile.as_deref() {
        Some("") => Err(wrong("--cidfile", "", "is empty")),
        path => Ok(path.map(|path| caller.dir.join(path))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume_of(text: &str) -> std::result::Result<(String, String, String), String> {
        let mount = volume(text, Path::new("/here")).map_err(|e| e.to_string())?;
        let shown = |path: &Path| path.display().to_string();
        Ok((shown(&mount.source.unwrap()), shown(&mount.destination), mount.options.join(",")))
    }

    #[test]
    fn volumes() {
        for (text, source, place, words) in [
            ("/a:/b", "/a", "/b", "rbind,rprivate"),
            ("./a:/b:ro", "/here/a", "/b", "rbind,rprivate,rro"),
            (".:/b:rw,rslave,z", "/here", "/b", "rbind,rslave"),
            ("../a:/b:cached", "/here/../a", "/b", "rbind,rprivate"),
        ] {
            assert_eq!(volume_of(text), Ok((source.into(), place.into(), words.into())), "{text}");
        }
    }

    #[test]
    fn volumes_that_are_none() {
        for (text, why) in [
            ("/a", "without a name"),
            ("data:/b", "named volumes (data)"),
            ("/a:b", "b is not an absolute path"),
            ("/a:/", "/ is the root itself"),
            ("/a:/./", "/ is the root itself"),
            ("/a:/b/../c", "has .."),
            ("/a:/b:zz", "zz is not an option"),
            ("/a:/b:ro,rw", "rw contradicts ro"),
            ("/a:/b:shared,slave", "slave contradicts shared"),
            ("/a:/b:ro:z", "more than two colons"),
            (":/b", "an empty part"),
            ("/a:/b:", "an empty part"),
            ("", "an empty part"),
        ] {
            let error = volume_of(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn empty_file_systems() {
        for (text, place, words) in [
            ("/t", "/t", "noexec,nosuid,nodev"),
            ("/t:exec,size=1m,ro", "/t", "nosuid,nodev,exec,size=1048576,ro"),
            ("/t:size=50%,mode=1770,uid=1", "/t", "noexec,nosuid,nodev,size=50%,mode=1770,uid=1"),
        ] {
            let mount = tmpfs(text).unwrap();
            assert_eq!((mount.destination, mount.options.join(",")), (place.into(), words.to_owned()), "{text}");
        }
        for text in ["b", "/", "/b:foo", "/b:size=x", "/b:foo=1", "/b:,", ""] {
            assert!(tmpfs(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mount_over_one_of_every_container_takes_its_place() {
        let mount =
            |destination: &str| Mount { destination: destination.into(), kind: "bind".into(), ..Mount::default() };
        let asked = vec![mount("/etc"), mount("/dev"), mount("/a/"), mount("/etc/hosts")];
        let ours = vec![mount("/etc/hosts"), mount("/etc/hostname")];
        let all = all(&Options::default(), Some(mount("/dev/shm")), asked, ours);
        let places: Vec<&str> = all.iter().map(|mount| mount["destination"].as_str().unwrap()).collect();
        assert_eq!(
            places,
            [
                "/proc",
                "/dev",
                "/dev/pts",
                "/sys",
                "/sys/fs/cgroup",
                "/dev/mqueue",
                "/dev/shm",
                "/etc",
                "/etc/hostname",
                "/a/",
                "/etc/hosts"
            ]
        );
        assert_eq!(all[1]["type"], "bind");
    }
}
