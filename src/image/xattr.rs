//! Which extended attributes an image may set.
//!
//! By hand: `getfattr -d -m - FILE`. An attribute can be a setting of the host: SELinux labels, overlayfs's marks. What an image says
//! about those is data from a stranger, so it is passed over or refused.

use super::archive::show;
use crate::error;
use crate::error::Result;
use crate::sys::{Called, at};
use std::ffi::CString;
use std::os::fd::BorrowedFd;

/// What is done with an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Set,
    /// The host's policy decides, as if the image said nothing.
    Skip,
    Refuse,
}

/// The first prefix that fits decides.
const RULES: [(&str, Rule); 7] = [
    // Directories and files with these would have another content, or none, in an overlay.
    ("user.overlay.", Rule::Refuse),
    ("user.", Rule::Set),
    ("security.capability", Rule::Set),
    // security.selinux, security.ima, security.evm, security.SMACK64, security.apparmor
    ("security.", Rule::Skip),
    ("system.posix_acl_access", Rule::Set),
    ("system.posix_acl_default", Rule::Set),
    // trusted.overlay.*, and whatever else only the host's root may read
    ("", Rule::Refuse),
];

fn rule(name: &[u8]) -> Rule {
    RULES.iter().find(|(prefix, _)| name.starts_with(prefix.as_bytes())).map_or(Rule::Refuse, |(_, rule)| *rule)
}

/// Those that are to be set, as system calls want them; an error if one is refused.
pub fn decide(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<(CString, &[u8])>> {
    let mut set = Vec::new();
    for (name, value) in xattrs {
        match rule(name) {
            Rule::Set => {
                let name = CString::new(name.clone()).map_err(|_| error!("an attribute with a NUL in its name"))?;
                set.push((name, &value[..]));
            }
            Rule::Skip => {}
            Rule::Refuse => return Err(error!("attribute {} is not for an image to set", show(name))),
        }
    }
    Ok(set)
}

/// Sets them on a file or directory that was just made. Last of all: chown(2) and write(2) drop `security.capability`.
pub fn apply(fd: BorrowedFd<'_>, set: &[(CString, &[u8])]) -> crate::sys::Result<()> {
    for (name, value) in set {
        at::fsetxattr(fd, name, value).called(|| format!("fsetxattr({name:?}, {} bytes)", value.len()))?;
    }
    Ok(())
}

/// Gives `to` what an image may have set on `from`.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> crate::sys::Result<()> {
    for name in settable(from)? {
        let value = at::fgetxattr(from, &name).called(|| format!("fgetxattr({name:?})"))?;
        at::fsetxattr(to, &name, &value).called(|| format!("fsetxattr({name:?}, {} bytes)", value.len()))?;
    }
    Ok(())
}

fn settable(fd: BorrowedFd<'_>) -> crate::sys::Result<Vec<CString>> {
    let names = match at::flistxattr(fd) {
        Err(nix::errno::Errno::ENOTSUP) => Vec::new(),
        names => names.called(|| "flistxattr".into())?,
    };
    Ok(names.into_iter().filter(|name| rule(name.to_bytes()) == Rule::Set).collect())
}

/// Removes what an earlier layer set on a directory that a later layer describes anew.
pub fn clear(fd: BorrowedFd<'_>) -> crate::sys::Result<()> {
    for name in settable(fd)? {
        match at::fremovexattr(fd, &name) {
            Err(nix::errno::Errno::ENODATA) => {}
            removed => removed.called(|| format!("fremovexattr({name:?})"))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let names = |name: &str| {
            let xattrs = [(name.as_bytes().to_vec(), b"1".to_vec())];
            decide(&xattrs).map(|set| set.len()).ok()
        };
        for name in ["user.a", "security.capability", "system.posix_acl_default"] {
            assert_eq!(names(name), Some(1), "{name}");
        }
        for name in ["security.selinux", "security.ima", "security.evm"] {
            assert_eq!(names(name), Some(0), "{name}");
        }
        for name in
            ["user.overlay.whiteout", "trusted.overlay.opaque", "trusted.a", "system.nfs4_acl", "a", "user.a\0b"]
        {
            assert_eq!(names(name), None, "{name}");
        }
    }
}
