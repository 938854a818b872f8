//! What a volume begins with: the content that an image has at its place.
//!
//! By hand: `mount -t overlay -o ro,lowerdir=B:A overlay /mnt; cp -a /mnt/var/lib/db/. volume/`.
//!
//! The place is looked up in the layers as the kernel would in their overlay, links included. `copy` does the rest: the directories of that
//! name are small layers themselves.

use super::copy;
use super::store::{Below, Found, Within, join};
use crate::error;
use crate::error::Result;
use crate::sys::Called;
use nix::fcntl::{OFlag, readlinkat};
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// How many symbolic links one path may lead through, as in the kernel (path_resolution(7)).
const LINKS: usize = 40;

/// Copies what layers, the lowest first, have at `place` into an empty directory, which takes owner and mode from there. Nothing there: nothing is done.
pub fn fill(layers: &[PathBuf], place: &Path, to: BorrowedFd<'_>) -> Result<()> {
    let Some((within, path)) = find(&Below::open(layers)?, place)? else { return Ok(()) };
    // `Below` counts from the topmost.
    let layer = |index: &usize| layers[layers.len() - 1 - index].join(OsStr::from_bytes(&path));
    let merged: Vec<PathBuf> = within.iter().rev().map(layer).collect();
    Ok(copy::layers(&merged, to)?)
}

/// The layers that have the directory, topmost first, and its path without links.
fn find(below: &Below, place: &Path) -> Result<Option<(Within, Vec<u8>)>> {
    let words = |path: &Path| -> Vec<Vec<u8>> {
        let name = |part: Component<'_>| part.as_os_str().as_bytes().to_vec();
        path.components().rev().filter(|part| *part != Component::RootDir).map(name).collect()
    };
    let root = || vec![(below.root(), Vec::new())];
    let (mut stack, mut todo, mut links) = (root(), words(place), 0);
    while let Some(word) = todo.pop() {
        if word == b".." {
            stack.truncate(stack.len().saturating_sub(1).max(1));
            continue;
        }
        let (within, directory) = stack.last().expect("the root stays");
        let path = join(directory, OsStr::from_bytes(&word));
        match below.child(within, directory, OsStr::from_bytes(&word))? {
            Found::Directory(merged) => stack.push((merged, path)),
            Found::Nothing => return Ok(None),
            Found::Other(index, found) if found.st_mode & libc::S_IFMT == libc::S_IFLNK => {
                links += 1;
                if links > LINKS {
                    return Err(error!("{} leads through more than {LINKS} symbolic links", place.display()));
                }
                let link = below.fetch(index, &path, OFlag::O_PATH)?;
                let target = PathBuf::from(readlinkat(&link, "").called(|| "readlinkat".into())?);
                if target.is_absolute() {
                    stack = root();
                }
                todo.extend(words(&target));
            }
            Found::Other(..) => return Err(error!("{} is no directory in the image", place.display())),
        }
    }
    Ok(stack.pop())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::alone::is_root;
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn it_begins_with_what_the_layers_have_there_together() {
        if !is_root() {
            return;
        }
        let home = tempfile::Builder::new().prefix("corten-volume-").tempdir().unwrap();
        let layers: Vec<PathBuf> = ["low", "high"].map(|name| home.path().join(name)).to_vec();
        for (layer, path, text) in
            [(0, "srv/db/a", "low"), (0, "srv/db/gone", "x"), (0, "srv/db/deep/b", "b"), (1, "srv/db/a", "high")]
        {
            let file = layers[layer].join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        nix::sys::stat::mknod(
            &layers[1].join("srv/db/gone"),
            nix::sys::stat::SFlag::S_IFCHR,
            nix::sys::stat::Mode::empty(),
            0,
        )
        .unwrap();
        fs::set_permissions(layers[1].join("srv/db"), fs::Permissions::from_mode(0o1770)).unwrap();
        symlink("/data/../srv/./db", layers[0].join("link")).unwrap();
        symlink("srv", layers[1].join("data")).unwrap();
        symlink("loop", layers[1].join("loop")).unwrap();
        let filled = |place: &str| -> std::result::Result<Vec<String>, String> {
            let volume = home.path().join("volume");
            fs::create_dir(&volume).unwrap();
            let done = fill(&layers, Path::new(place), File::open(&volume).unwrap().as_fd());
            let mut names: Vec<String> =
                fs::read_dir(&volume).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            if names.contains(&"a".to_owned()) {
                assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "high");
                assert_eq!(fs::metadata(&volume).unwrap().permissions().mode() & 0o7777, 0o1770);
            }
            fs::remove_dir_all(&volume).unwrap();
            done.map(|()| names).map_err(|e| e.to_string())
        };
        for place in ["/srv/db", "/link", "/data/db", "/link/../db"] {
            assert_eq!(filled(place), Ok(vec!["a".to_owned(), "deep".to_owned()]), "{place}");
        }
        for place in ["/nothing/here", "/srv/db/gone", "/srv/db/gone/x"] {
            assert_eq!(filled(place), Ok(vec![]), "{place}");
        }
        assert!(filled("/srv/db/a").unwrap_err().contains("is no directory in the image"));
        assert!(filled("/loop").unwrap_err().contains("more than 40 symbolic links"));
    }
}
