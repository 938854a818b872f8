//! A folder on a disk, where /tmp may be memory: memory has no rate, and before Linux 6.3 no mapped owners.

use nix::sys::stat::{major, stat};
use std::path::{Path, PathBuf};

/// Removed when dropped; before its bundle, which looks for what is left.
#[derive(Debug)]
pub struct OnDisk(PathBuf);

impl OnDisk {
    /// A new one with a bundle's name, and the number of its device; `None`: no disk is to be had.
    pub fn make(name: &str) -> Option<(OnDisk, u64)> {
        let device = |path: &str| stat(path).ok().map(|found| found.st_dev);
        let on_disk = |path: &&str| device(path).is_some_and(|device| major(device) != 0);
        let base = ["/tmp", "/var/tmp"].into_iter().find(on_disk)?;
        let folder = Path::new(base).join(format!("{name}-disk"));
        std::fs::create_dir(&folder).expect("a folder on a disk");
        Some((OnDisk(folder), device(base)?))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
