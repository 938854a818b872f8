//! Who the program runs as: the image's `User`, looked up in the image's own files.
//!
//! `User` is `user`, `uid`, `user:group`, `uid:gid`, `uid:group` or `user:gid` (image-spec, config.md). By hand:
//! `grep ^www: rootfs/etc/passwd`. Numbers are numbers: a name is never tried for one, and what is neither an exact uid nor a
//! known name is an error, never 0 (CVE-2016-3697, CVE-2024-40635). getpwnam(3) is not used: it would read the host's files, or run
//! the image's NSS modules.

use crate::error;
use crate::error::Result;
use crate::input::config::User;

/// The most supplementary groups a process can have (`NGROUPS_MAX`, setgroups(2)).
const GROUPS: usize = 65_536;

/// Resolves `user` against the contents of `/etc/passwd` and `/etc/group` (empty where the image has none).
///
/// As Docker does: an empty `user` is uid 0; a uid found in passwd takes that line's group; memberships in
/// `/etc/group` count only where `user` names no group.
pub fn resolve(user: &str, passwd: &[u8], group: &[u8]) -> Result<User> {
    let (who, of) = match user.split_once(':') {
        Some((who, of)) => (who, Some(of)),
        None => (if user.is_empty() { "0" } else { user }, None),
    };
    let account = match Asked::parse(who, user)? {
        Asked::Number(uid) => accounts(passwd)
            .find(|line| number(line.uid) == Some(uid))
            .map_or(Ok(Found { uid, gid: 0, name: None }), |line| line.found())?,
        Asked::Name(name) => accounts(passwd)
            .find(|line| line.name == name.as_bytes())
            .ok_or_else(|| error!("user {name:?} is not in the image's /etc/passwd"))?
            .found()?,
    };
    let mut found = User { uid: account.uid, gid: account.gid, ..User::default() };
    match of.map(|of| Asked::parse(of, user)).transpose()? {
        Some(Asked::Number(gid)) => found.gid = gid,
        Some(Asked::Name(name)) => {
            let line = groups(group)
                .find(|line| line.name == name.as_bytes())
                .ok_or_else(|| error!("group {name:?} is not in the image's /etc/group"))?;
            found.gid = number(line.gid).ok_or_else(|| wrong("/etc/group", line.name, line.gid))?;
        }
        None => {
            for line in groups(group).filter(|line| account.name.is_some_and(|name| line.has(name))) {
                let gid = number(line.gid).ok_or_else(|| wrong("/etc/group", line.name, line.gid))?;
                if gid != found.gid && !found.additional_gids.contains(&gid) {
                    found.additional_gids.push(gid);
                }
                if found.additional_gids.len() > GROUPS {
                    return Err(error!("user {user:?} is in more than {GROUPS} groups"));
                }
            }
        }
    }
    Ok(found)
}

/// One half of `user:group`.
enum Asked<'a> {
    Number(u32),
    Name(&'a str),
}

impl<'a> Asked<'a> {
    fn parse(half: &'a str, whole: &str) -> Result<Self> {
        if half.bytes().all(|b| b.is_ascii_digit()) && !half.is_empty() {
            let number = number(half.as_bytes());
            return number.map(Asked::Number).ok_or_else(|| error!("user {whole:?}: {half} is not a valid id"));
        }
        if half.is_empty() || half.starts_with(['-', '+']) || half.contains(':') {
            return Err(error!("user {whole:?} is not user, uid, user:group or uid:gid"));
        }
        Ok(Asked::Name(half))
    }
}

/// Exactly a decimal u32, as it would be printed; the largest one means "no change" to chown(2) and setuid(2), and is none.
pub fn number(text: &[u8]) -> Option<u32> {
    let plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit) && (text == b"0" || text[0] != b'0');
    let number = plain.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()?;
    (number != u32::MAX).then_some(number)
}

struct Found<'a> {
    uid: u32,
    gid: u32,
    name: Option<&'a [u8]>,
}

/// A line of passwd(5).
struct Account<'a> {
    name: &'a [u8],
    uid: &'a [u8],
    gid: &'a [u8],
}

impl<'a> Account<'a> {
    fn found(&self) -> Result<Found<'a>> {
        let uid = number(self.uid).ok_or_else(|| wrong("/etc/passwd", self.name, self.uid))?;
        let gid = number(self.gid).ok_or_else(|| wrong("/etc/passwd", self.name, self.gid))?;
        Ok(Found { uid, gid, name: Some(self.name) })
    }
}

/// A line of group(5).
struct Group<'a> {
    name: &'a [u8],
    gid: &'a [u8],
    members: &'a [u8],
}

impl Group<'_> {
    fn has(&self, name: &[u8]) -> bool {
        self.members.split(|b| *b == b',').any(|member| member.trim_ascii() == name)
    }
}

fn wrong(file: &str, name: &[u8], id: &[u8]) -> error::Error {
    let (name, id) = (String::from_utf8_lossy(name), String::from_utf8_lossy(id));
    error!("the image's {file} gives {name:?} the id {id:?}, which is not one")
}

fn accounts(passwd: &[u8]) -> impl Iterator<Item = Account<'_>> {
    lines(passwd).filter_map(|mut field| {
        let (name, _, uid, gid) = (field.next()?, field.next()?, field.next()?, field.next()?);
        Some(Account { name, uid, gid })
    })
}

fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|mut field| {
        let (name, _, gid) = (field.next()?, field.next()?, field.next()?);
        Some(Group { name, gid, members: field.next().unwrap_or_default() })
    })
}

/// Each line's fields; comments and blank lines fall out.
fn lines(file: &[u8]) -> impl Iterator<Item = impl Iterator<Item = &[u8]>> {
    file.split(|b| *b == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && line[0] != b'#')
        .map(|line| line.split(|b| *b == b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# note\n\nwww:x:33:33::/:/bin/sh\n4294967296:x:0:0::/:/bin/sh\nbad:x:007:0::/:\nmax:x:4294967295:0::/:\n1000:x:5:5::/:\n";
    const GROUP: &[u8] = b"root:x:0:\nwww:x:33:\nmail:x:8:root,www\nwheel:x:10: www \nodd:x:-1:nobody\n";

    fn ids(user: &str) -> Option<(u32, u32, Vec<u32>)> {
        resolve(user, PASSWD, GROUP).ok().map(|u| (u.uid, u.gid, u.additional_gids))
    }

    #[test]
    fn names_numbers_and_groups() {
        for (user, expected) in [
            ("", (0, 0, vec![8])),
            ("0", (0, 0, vec![8])),
            ("www", (33, 33, vec![8, 10])),
            ("33", (33, 33, vec![8, 10])),
            ("www:mail", (33, 8, vec![])),
            ("www:77", (33, 77, vec![])),
            ("4000:wheel", (4000, 10, vec![])),
            ("4000", (4000, 0, vec![])),
            ("1000", (1000, 0, vec![])),
            ("4294967294:4294967294", (4_294_967_294, 4_294_967_294, vec![])),
        ] {
            assert_eq!(ids(user), Some(expected), "{user}");
        }
    }

    #[test]
    fn never_root_by_mistake() {
        for user in [
            "4294967296",
            "4294967295",
            "-1",
            "+1",
            "007",
            "00",
            "1:",
            ":1",
            ":",
            "1:2:3",
            "a",
            "0x0",
            " 0",
            "0 ",
            "bad",
            "max",
            "www:no",
            "www:-1",
            "www:odd",
            "1:4294967296",
            "99999999999999999999999",
            "٠",
        ] {
            assert_eq!(ids(user), None, "{user}");
        }
    }

    #[test]
    fn an_image_without_files_has_numbers_only() {
        assert_eq!(resolve("5:6", b"", b"").map(|u| (u.uid, u.gid)), Ok((5, 6)));
        assert_eq!(resolve("", b"", b"").map(|u| (u.uid, u.gid)), Ok((0, 0)));
        assert!(resolve("root", b"", b"").is_err());
    }
}
