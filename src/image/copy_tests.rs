//! Copies beside the kernel's own stacking of the same layers: the oracle is an overlay.

use super::*;
use crate::sys::alone::is_root;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

struct Stack {
    home: tempfile::TempDir,
    lower: Vec<PathBuf>,
}

impl Stack {
    fn new(layers: usize) -> Stack {
        let home = tempfile::Builder::new().prefix("corten-copy-").tempdir().unwrap();
        let lower: Vec<PathBuf> = (0..layers).map(|n| home.path().join(n.to_string())).collect();
        lower.iter().chain([&home.path().join("root")]).for_each(|path| fs::create_dir(path).unwrap());
        Stack { home, lower }
    }

    fn file(&self, layer: usize, path: &str, text: &str) -> PathBuf {
        let file = self.lower[layer].join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        file
    }

    fn whiteout(&self, layer: usize, path: &str) {
        let place = self.lower[layer].join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        nix::sys::stat::mknod(&place, SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
    }

    fn opaque(&self, layer: usize, path: &str) {
        fs::create_dir_all(self.lower[layer].join(path)).unwrap();
        at::fsetxattr(fs::File::open(self.lower[layer].join(path)).unwrap(), marks::OPAQUE.0, marks::OPAQUE.1).unwrap();
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("root")
    }

    fn copy(&self) -> PathBuf {
        let root = fs::File::open(self.root()).unwrap();
        layers(&self.lower, root.as_fd()).unwrap_or_else(|failure| panic!("{failure}: {:?}", failure.because));
        self.root()
    }
}

/// Every path with all that is to be kept of it. Names of one file show as the first of them.
fn listing(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut first: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        // A whiteout with nothing below: overlay lists it, and finds nothing there.
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        let name = path.strip_prefix(root).unwrap().to_owned();
        let same = match about.nlink() > 1 && !about.is_dir() {
            true => first.entry((about.dev(), about.ino())).or_insert(name.clone()).clone(),
            false => PathBuf::new(),
        };
        let content = match about.file_type() {
            kind if kind.is_file() => fs::read_to_string(&path).unwrap(),
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
            _ => about.rdev().to_string(),
        };
        let mut attributes = Vec::new();
        if about.is_file() || about.is_dir() {
            let file = fs::File::open(&path).unwrap();
            let names = at::flistxattr(&file).unwrap();
            let images = names.into_iter().filter(|name| !name.as_bytes().starts_with(OVERLAYS_OWN));
            attributes = images.map(|name| format!("{name:?}={:?}", at::fgetxattr(&file, &name).unwrap())).collect();
            attributes.sort();
        }
        if about.is_dir() {
            let mut names: Vec<PathBuf> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            names.sort();
            todo.extend(names.into_iter().rev());
        }
        found.push(format!(
            "{} {:o} {}:{} {}.{} {content:?} {attributes:?} {}",
            name.display(),
            about.mode(),
            about.uid(),
            about.gid(),
            about.mtime(),
            about.mtime_nsec(),
            same.display()
        ));
    }
    found
}

/// The listing of the same layers, stacked by the kernel, in a mount namespace of this thread.
fn stacked(stack: &Stack) -> Vec<String> {
    let lower: Vec<String> = stack.lower.iter().rev().map(|path| path.display().to_string()).collect();
    let place = stack.home.path().join("oracle");
    fs::create_dir(&place).unwrap();
    let work = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let options = format!("lowerdir={}", lower.join(":"));
        mount(Some("overlay"), &place, Some("overlay"), MsFlags::empty(), Some(options.as_str())).unwrap();
        listing(&place)
    };
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap()
}

#[test]
fn as_the_kernel_stacks_them() {
    if !is_root() {
        return;
    }
    let stack = Stack::new(3);
    // Below.
    stack.file(0, "etc/hosts", "below");
    stack.file(0, "etc/passwd", "root");
    stack.file(0, "gone/deep/file", "x");
    stack.file(0, "cleared/old", "x");
    stack.file(0, "becomes/a/directory", "x");
    stack.file(0, "file", "becomes a directory");
    let tool = stack.file(0, "bin/tool", "tool");
    fs::hard_link(&tool, stack.lower[0].join("bin/again")).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o4755)).unwrap();
    // Not user.*, which memory keeps since Linux 6.6 only.
    at::fsetxattr(fs::File::open(&tool).unwrap(), c"trusted.note", b"a\0b").unwrap();
    at::fsetxattr(
        fs::File::open(&tool).unwrap(),
        c"security.capability",
        &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    )
    .unwrap();
    symlink("/etc/hosts", stack.lower[0].join("link")).unwrap();
    std::os::unix::fs::lchown(stack.lower[0].join("link"), Some(5), Some(6)).unwrap();
    nix::unistd::mkfifo(&stack.lower[0].join("pipe"), Mode::from_bits_truncate(0o622)).unwrap();
    nix::sys::stat::mknod(&stack.lower[0].join("null"), SFlag::S_IFCHR, Mode::S_IRWXU, nix::sys::stat::makedev(1, 3))
        .unwrap();
    at::fsetxattr(fs::File::open(stack.lower[0].join("etc")).unwrap(), c"trusted.lower", b"1").unwrap();
    // Between.
    stack.file(1, "etc/hosts", "between");
    std::os::unix::fs::chown(stack.lower[1].join("etc"), Some(7), Some(8)).unwrap();
    fs::set_permissions(stack.lower[1].join("etc"), fs::Permissions::from_mode(0o1750)).unwrap();
    stack.whiteout(1, "gone");
    stack.opaque(1, "cleared");
    stack.file(1, "cleared/new", "y");
    stack.file(1, "becomes", "a file");
    stack.file(1, "file/inner", "z");
    // Above.
    stack.whiteout(2, "etc/passwd");
    stack.whiteout(2, "nothing/was/here");
    stack.file(2, "gone/back", "again");
    fs::set_permissions(&stack.lower[2], fs::Permissions::from_mode(0o711)).unwrap();
    let expected = stacked(&stack);
    assert!(expected.len() > 15, "{expected:#?}");
    let found = listing(&stack.copy());
    assert_eq!(found, expected, "{found:#?}\n{expected:#?}");
}

#[test]
fn pipes_hide_as_well() {
    if !is_root() {
        return;
    }
    let stack = Stack::new(2);
    stack.file(0, "a/one", "1");
    stack.file(0, "a/two", "2");
    stack.file(0, "b/three", "3");
    stack.file(0, "b/below/four", "4");
    // A pipe of another mode is the image's own.
    stack.file(1, "a/two", "new");
    nix::unistd::mkfifo(&stack.lower[1].join("a/pipe"), Mode::from_bits_truncate(0o6666)).unwrap();
    stack.file(1, "b/below/five", "5");
    let at = |path: &str| fs::File::open(stack.lower[1].join(path)).unwrap();
    marks::whiteout(at("a").as_fd(), OsStr::new("one"), Form::Pipes).unwrap();
    marks::set_opaque(at("b"), Form::Pipes).unwrap();
    assert!(marks::is_opaque(at("b"), Form::Pipes).unwrap() && !marks::is_opaque(at("a"), Form::Pipes).unwrap());
    let root = stack.copy();
    let names: Vec<String> = listing(&root).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["", "a", "a/pipe", "a/two", "b", "b/below", "b/below/five"]);
    assert_eq!(fs::read_to_string(root.join("a/two")).unwrap(), "new");
}

#[test]
fn holes_stay_holes() {
    if !is_root() {
        return;
    }
    let stack = Stack::new(1);
    let path = stack.file(0, "sparse", "");
    let file = fs::File::options().write(true).open(&path).unwrap();
    use std::os::unix::fs::FileExt;
    file.write_at(b"begin", 0).unwrap();
    file.write_at(b"middle", 512 << 20).unwrap();
    file.set_len(1 << 30).unwrap();
    let copied = stack.copy().join("sparse");
    let about = fs::metadata(&copied).unwrap();
    assert_eq!(about.len(), 1 << 30);
    assert!(about.blocks() * 512 < 1 << 20, "{} blocks", about.blocks());
    let mut six = [0; 6];
    fs::File::open(&copied).unwrap().read_exact_at(&mut six, 512 << 20).unwrap();
    assert_eq!(&six, b"middle");
}

#[test]
fn deeper_than_any_path() {
    if !is_root() {
        return;
    }
    let stack = Stack::new(1);
    let mut here: OwnedFd = fs::File::open(&stack.lower[0]).unwrap().into();
    for _ in 0..1100 {
        mkdirat(&here, "directory", Mode::S_IRWXU).unwrap();
        here = open(&here, OsStr::new("directory")).unwrap();
    }
    drop(here);
    let root = stack.copy();
    let mut here: OwnedFd = fs::File::open(root).unwrap().into();
    for _ in 0..1100 {
        here = open(&here, OsStr::new("directory")).unwrap();
    }
    drop(here);
    let home: OwnedFd = fs::File::open(stack.home.path()).unwrap().into();
    for name in ["0", "root"] {
        prune::entry(home.as_fd(), OsStr::new(name), &prune::nothing).unwrap();
    }
}
