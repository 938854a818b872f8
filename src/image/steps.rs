//! A path below a root, one component at a time, where openat2(2) cannot help: it makes nothing on the way, and does not say where it stopped.
//!
//! A stack of descriptors, which `..` pops and an absolute link empties, cannot be left.

use super::archive::show;
use crate::error;
use crate::error::Result;
use crate::sys::Called;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

/// How many symbolic links one path may lead through, as in the kernel (path_resolution(7)).
pub const LINKS: usize = 40;

/// What a component turned out to be.
pub enum Step {
    /// A directory.
    Into(OwnedFd),
    /// A symbolic link with this target.
    Link(Vec<u8>),
    /// The walk ends before it.
    Stop,
}

/// Where a walk ended.
pub struct Walked {
    /// The last directory.
    pub directory: OwnedFd,
    /// Its path without links, by components.
    pub path: Vec<Vec<u8>>,
    /// What was left of the path, the component that it stopped at first.
    pub rest: Vec<Vec<u8>>,
}

impl Walked {
    /// The whole path, as far as it is known without links.
    pub fn resolved(&self) -> Vec<u8> {
        let all: Vec<&[u8]> = self.path.iter().chain(&self.rest).map(Vec::as_slice).collect();
        all.join(&b'/')
    }
}

/// Says what a component is, or makes it.
pub type Ask<'a> = dyn FnMut(&OwnedFd, &[Vec<u8>], &OsStr) -> Result<Step> + 'a;

/// Goes along `path`. `step` is asked at each component: the open directory, its path, and the name in it.
pub fn walk(root: &OwnedFd, path: &[u8], step: &mut Ask<'_>) -> Result<Walked> {
    let words = |path: &[u8]| -> Vec<Vec<u8>> { path.split(|b| *b == b'/').rev().map(<[u8]>::to_vec).collect() };
    let duplicate = || root.try_clone().called(|| "fcntl(F_DUPFD_CLOEXEC, root)".into());
    let (mut here, mut above, mut names) = (duplicate()?, Vec::new(), Vec::new());
    let (mut todo, mut links) = (words(path), 0);
    while let Some(word) = todo.pop() {
        match &word[..] {
            b"" | b"." => continue,
            b".." => {
                here = above.pop().unwrap_or(here);
                names.pop();
                continue;
            }
            _ => {}
        }
        match step(&here, &names, OsStr::from_bytes(&word))? {
            Step::Into(below) => {
                above.push(std::mem::replace(&mut here, below));
                names.push(word);
            }
            Step::Link(target) => {
                links += 1;
                if links > LINKS {
                    return Err(error!("{:?} leads through more than {LINKS} symbolic links", show(path)));
                }
                if target.starts_with(b"/") {
                    (here, above, names) = (duplicate()?, Vec::new(), Vec::new());
                }
                todo.extend(words(&target));
            }
            Step::Stop => {
                todo.push(word);
                break;
            }
        }
    }
    todo.reverse();
    Ok(Walked { directory: here, path: names, rest: todo })
}
