//! `load` and `save`: images in files.
//!
//! By hand: `docker save debian:12 | corten load`, `corten save debian:12 | docker load`.
//!
//! What goes wrong: half an archive looks like one until somebody loads it. So `save -o` writes beside the file and renames; a pipe has only our exit
//! code. Nobody wants an archive on his terminal, or to type one.

use super::progress::{Kind, Shown};
use super::verbs::{familiar, images, platform, say, store, stored};
use crate::cli::Invocation;
use crate::error;
use crate::error::{Result, io_words};
use crate::image::local;
use crate::image::named::Named;
use crate::image::save::{self, Form};
use crate::image::store::{Progress, Silent, Store, Stored};
use crate::sys::Called;
use std::fs::{self, File};
use std::io::{BufWriter, IsTerminal, Write, stdin, stdout};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The verb `load`.
pub fn load(invocation: &Invocation) -> Result<u8> {
    let args = &invocation.args;
    let platform = platform(args)?;
    let (file, source) = match args.get_one::<PathBuf>("input") {
        Some(path) => {
            (File::open(path).map_err(|e| error!("{}: {}", path.display(), io_words(&e)))?, path.display().to_string())
        }
        None if stdin().is_terminal() => {
            return Err(error!("standard input is a terminal").hint("corten load -i FILE, or corten load <FILE"));
        }
        None => {
            let own = stdin().as_fd().try_clone_to_owned().called(|| "fcntl(0, F_DUPFD_CLOEXEC)".into())?;
            (File::from(own), "standard input".to_owned())
        }
    };
    let store = store(invocation)?;
    let shown = (!args.get_flag("quiet")).then(|| Shown::new(Kind::Load));
    let progress: &dyn Progress = match &shown {
        Some(shown) => shown,
        None => &Silent,
    };
    let loaded = local::load(&store, file, &platform, progress);
    drop(shown);
    let loaded = loaded.map_err(|e| e.at(source))?;
    say(&loaded.iter().map(told).collect::<String>()).map(|()| 0)
}

/// Docker's lines.
fn told(image: &Stored) -> String {
    match image.names.is_empty() {
        true => format!("Loaded image ID: {}\n", image.id),
        false => image.names.iter().map(|name| format!("Loaded image: {}\n", familiar(name))).collect(),
    }
}

/// The verb `save`.
pub fn save(invocation: &Invocation) -> Result<u8> {
    let args = &invocation.args;
    let form = match args.get_one::<String>("format").map(String::as_str) {
        Some("oci") => Form::Oci,
        _ => Form::Docker,
    };
    let output = args.get_one::<PathBuf>("output");
    if output.is_none() && stdout().is_terminal() {
        return Err(error!("standard output is a terminal").hint("corten save -o FILE, or corten save … >FILE"));
    }
    let store = store(invocation)?;
    let _held = store.hold()?;
    let chosen = chosen(&store, &images(args))?;
    let listed: Vec<save::Named<'_>> = chosen.iter().map(|(image, names)| (image, names.clone())).collect();
    let write = |out: &mut dyn Write| save::save(&store, &listed, form, out);
    match output {
        Some(path) => into_file(path, &write).map_err(|e| e.at(path.display()))?,
        None => {
            let mut out = BufWriter::with_capacity(128 << 10, stdout().lock());
            write(&mut out).map_err(|e| e.at("standard output"))?;
        }
    }
    Ok(0)
}

/// The images, each once, with the names that they are to have.
fn chosen(store: &Store, texts: &[&str]) -> Result<Vec<(Stored, Vec<String>)>> {
    let mut chosen: Vec<(Stored, Vec<String>)> = Vec::new();
    for text in texts {
        for (image, names) in meant(store, text)? {
            match chosen.iter_mut().find(|(known, _)| known.manifest.digest() == image.manifest.digest()) {
                Some((_, known)) => {
                    let new: Vec<String> = names.into_iter().filter(|name| !known.contains(name)).collect();
                    known.extend(new);
                }
                None => chosen.push((image, names)),
            }
        }
    }
    Ok(chosen)
}

/// A name with a tag is that one; one without is all its tags, as with Docker; an id is an image without names.
fn meant(store: &Store, text: &str) -> Result<Vec<(Stored, Vec<String>)>> {
    let named = Named::parse(text).ok();
    if let Some(named) = named.as_ref().filter(|named| !is_tagged(text) && named.digest.is_none()) {
        let of_it = |image: &Stored| -> Vec<String> {
            let same = |full: &&String| Named::parse(full).is_ok_and(|other| other.name() == named.name());
            image.names.iter().filter(same).cloned().collect()
        };
        let all: Vec<_> = store.images()?.into_iter().map(|image| (of_it(&image), image)).collect();
        let some: Vec<_> =
            all.into_iter().filter(|(names, _)| !names.is_empty()).map(|(names, image)| (image, names)).collect();
        if !some.is_empty() {
            return Ok(some);
        }
    }
    let image = stored(store, text)?;
    let full = named.map(|named| named.to_string());
    let names = image.names.iter().filter(|name| Some(*name) == full.as_ref()).cloned().collect();
    Ok(vec![(image, names)])
}

/// Is there a tag behind the last slash?
fn is_tagged(text: &str) -> bool {
    text.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

/// Writes beside the file and renames; what is there and is no file (a pipe, `/dev/null`) is written to.
fn into_file(path: &Path, write: &dyn Fn(&mut dyn Write) -> Result<()>) -> Result<()> {
    if fs::metadata(path).is_ok_and(|about| !about.is_file()) {
        let mut file = File::options().write(true).open(path).called(|| format!("open({path:?})"))?;
        return write(&mut file);
    }
    let name = path.file_name().ok_or_else(|| error!("that is no name of a file"))?;
    let aside = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let mut options = File::options();
    // An image may hold what is nobody's business; so is Docker's.
    let made = options.write(true).create_new(true).mode(0o600).open(&aside);
    let file = made.called(|| format!("open({aside:?}, CREAT|EXCL)"))?;
    let mut out = BufWriter::with_capacity(128 << 10, &file);
    let written = write(&mut out).and_then(|()| {
        drop(out);
        fs::rename(&aside, path).called(|| format!("rename({aside:?}, {path:?})"))?;
        Ok(())
    });
    written.inspect_err(|_| drop(fs::remove_file(&aside)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_stand_behind_the_last_slash() {
        for (text, tagged) in [("debian", false), ("debian:12", true), ("h:5000/x", false), ("h:5000/x:1", true)] {
            assert_eq!(is_tagged(text), tagged, "{text}");
        }
    }

    #[test]
    fn a_file_is_whole_or_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        into_file(&path, &|out| Ok(out.write_all(b"first").called(|| "write".into())?)).unwrap();
        let half = into_file(&path, &|out| {
            out.write_all(b"half").called(|| "write".into())?;
            Err(error!("damaged"))
        });
        assert_eq!(half.unwrap_err().cause, "damaged");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        into_file(Path::new("/dev/null"), &|out| Ok(out.write_all(b"x").called(|| "write".into())?)).unwrap();
    }
}
