//! `-u`, and an image's `User`: who shall run the program, as it was typed, and as the container's own files know them.
//!
//! Names live in the container's `/etc/passwd` and `/etc/group`, read below the root by descriptor and given here as bytes: the host's
//! files and its NSS modules never answer (a name of the host means nothing inside, and a library of the container must not be loaded by us).
//! Try it by hand: `docker run --rm -u 1000:1000 busybox id`, then `-u 4294967296`.
//!
//! What goes wrong elsewhere: a number that does not fit is taken for a name, or wraps around to 0, and the program runs as root
//! (CVE-2016-3697, CVE-2024-40635). Here digits are a number below 4294967295 or an error; a line of passwd whose numbers cannot be read is an
//! error when it is the one that was asked for, and never 0. Leading zeros are decimal, as with Docker: `007` is 7.

use super::config::User;
use super::place::quote;
use crate::error::{Error, Result};

/// The most supplementary groups a process can have (`NGROUPS_MAX`, setgroups(2)).
const GROUPS: usize = 65_536;

/// A user or a group as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A number.
    Number(u32),
    /// A name to look up.
    Name(String),
}

/// `-u user[:group]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRequest {
    /// The user.
    pub user: Who,
    /// The group; without one, the user's own of `/etc/passwd`.
    pub group: Option<Who>,
}

impl UserRequest {
    /// Reads `1000`, `1000:100`, `name`, `name:group`. Half a pair (`1:`, `:1`) and more than one (`1:2:3`) are errors.
    pub fn parse(text: &str) -> Result<UserRequest> {
        let wrong = |cause: String| Error::new(format!("user {}: {cause}", quote(text)));
        let mut parts = text.split(':');
        let user = parts.next().unwrap_or_default();
        let group = parts.next();
        if parts.next().is_some() {
            return Err(wrong("more than one colon; the form is user[:group]".into()));
        }
        let user = who(user, "user").map_err(wrong)?;
        let group = group.map(|group| who(group, "group").map_err(wrong)).transpose()?;
        Ok(UserRequest { user, group })
    }

    /// An image's `User` (image-spec, config.md): the same, and nothing is root.
    pub fn of_image(user: &str) -> Result<UserRequest> {
        UserRequest::parse(if user.is_empty() { "0" } else { user })
    }

    /// The user where nothing has to be looked up: two numbers.
    pub fn fixed(&self) -> Option<User> {
        match (&self.user, &self.group) {
            (Who::Number(uid), Some(Who::Number(gid))) => Some(User { uid: *uid, gid: *gid, ..User::default() }),
            _ => None,
        }
    }
}

fn who(text: &str, what: &str) -> std::result::Result<Who, String> {
    if text.is_empty() {
        return Err(format!("the {what} is empty"));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return id(text.as_bytes())
            .map(Who::Number)
            .ok_or_else(|| format!("the {what} is not between 0 and 4294967294"));
    }
    if text.starts_with(['-', '+']) {
        return Err(format!("the {what} is neither a number between 0 and 4294967294 nor a name"));
    }
    if text.bytes().any(|b| b.is_ascii_control()) {
        return Err(format!("the {what} holds a control character"));
    }
    Ok(Who::Name(text.to_owned()))
}

/// Digits as an id; 4294967295 is -1, which the kernel takes for "leave it".
fn id(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number != u32::MAX).then_some(number)
}

/// Resolves a request against the contents of the container's `/etc/passwd` and `/etc/group` (empty where there are none), as Docker does:
///
/// - a number without an entry is that uid, with gid 0 unless a group is asked for;
/// - without a group, the gid is the entry's, and the groups that list the user's name become additional ones;
/// - with a group, there are no additional ones.
///
/// Pure; see passwd(5) and group(5). An unknown name is an error that says in which file it was looked for.
pub fn resolve(request: &UserRequest, passwd: &[u8], group: &[u8]) -> Result<User> {
    let entry = find_user(&request.user, passwd)?;
    let mut user = match (&request.user, &entry) {
        (_, Some(entry)) => User { uid: entry.uid, gid: entry.gid, ..User::default() },
        (Who::Number(uid), None) => User { uid: *uid, ..User::default() },
        (Who::Name(name), None) => {
            return Err(Error::new(format!("user {}: not in the container's /etc/passwd", quote(name))));
        }
    };
    match (&request.group, &entry) {
        (Some(Who::Number(gid)), _) => user.gid = *gid,
        (Some(Who::Name(name)), _) => user.gid = find_group(name, group)?,
        (None, Some(entry)) => user.additional_gids = groups_of(entry.name, group)?,
        (None, None) => {}
    }
    Ok(user)
}

struct Entry<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
}

/// The fields of each line; empty lines and comments are left out.
fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|b| *b == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && line[0] != b'#')
        .map(|line| line.split(|b| *b == b':').collect())
}

fn find_user<'a>(who: &Who, passwd: &'a [u8]) -> Result<Option<Entry<'a>>> {
    for fields in lines(passwd) {
        let [name, _, uid, gid, ..] = fields[..] else { continue };
        let is_it = match who {
            Who::Number(number) => id(uid) == Some(*number),
            Who::Name(wanted) => name == wanted.as_bytes(),
        };
        if is_it {
            let (Some(uid), Some(gid)) = (id(uid), id(gid)) else {
                let name = String::from_utf8_lossy(name);
                return Err(Error::new(format!(
                    "user {}: its line in the container's /etc/passwd has no valid ids",
                    quote(&name)
                )));
            };
            return Ok(Some(Entry { name, uid, gid }));
        }
    }
    Ok(None)
}

fn find_group(wanted: &str, group: &[u8]) -> Result<u32> {
    let found = lines(group).find_map(|fields| match fields[..] {
        [name, _, gid, ..] if name == wanted.as_bytes() => Some(id(gid)),
        _ => None,
    });
    match found {
        Some(Some(gid)) => Ok(gid),
        Some(None) => {
            Err(Error::new(format!("group {}: its line in the container's /etc/group has no valid id", quote(wanted))))
        }
        None => Err(Error::new(format!("group {}: not in the container's /etc/group", quote(wanted)))),
    }
}

fn groups_of(name: &[u8], group: &[u8]) -> Result<Vec<u32>> {
    let mut gids = Vec::new();
    for fields in lines(group) {
        let [group_name, _, gid, members, ..] = fields[..] else { continue };
        if !members.split(|b| *b == b',').any(|member| member.trim_ascii() == name) {
            continue;
        }
        let Some(gid) = id(gid) else {
            let group = String::from_utf8_lossy(group_name);
            return Err(Error::new(format!(
                "group {}: its line in the container's /etc/group has no valid id",
                quote(&group)
            )));
        };
        if !gids.contains(&gid) {
            gids.push(gid);
        }
        if gids.len() > GROUPS {
            return Err(Error::new(format!("the container's /etc/group has one user in more than {GROUPS} groups")));
        }
    }
    Ok(gids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # nobody:x:1:1::/:\n\
        bad:x:4294967296:0::/:\n\
        minus:x:-1:-1::/:\n\
        empty:x:::::\n\
        web:x:1000:100:Web:/home/web:/bin/sh\n\
        4294967296:x:0:0::/:\n\
        12:x:0:0::/:\n\
        short:x\n";
    const GROUP: &[u8] =
        b"root:x:0:\nwheel:x:10:root,web\nusers:x:100:\nvideo:x:44:other,web\nbad:x:99999999999:nobody\n007:x:0:\n";

    fn ids(text: &str) -> std::result::Result<(u32, u32, Vec<u32>), String> {
        let request = UserRequest::parse(text).map_err(|e| e.to_string())?;
        let user = resolve(&request, PASSWD, GROUP).map_err(|e| e.to_string())?;
        Ok((user.uid, user.gid, user.additional_gids))
    }

    #[test]
    fn numbers_and_names() {
        assert_eq!(ids("1000"), Ok((1000, 100, vec![10, 44])));
        assert_eq!(ids("web"), Ok((1000, 100, vec![10, 44])));
        assert_eq!(ids("web:wheel"), Ok((1000, 10, vec![])));
        assert_eq!(ids("web:7"), Ok((1000, 7, vec![])));
        assert_eq!(ids("5"), Ok((5, 0, vec![])));
        assert_eq!(ids("5:6"), Ok((5, 6, vec![])));
        assert_eq!(ids("0"), Ok((0, 0, vec![10])));
        assert_eq!(ids("007"), Ok((7, 0, vec![])));
        assert_eq!(ids("4294967294"), Ok((4_294_967_294, 0, vec![])));
        // A number is never a name: the line named 12 has uid 0.
        assert_eq!(ids("12"), Ok((12, 0, vec![])));
        assert_eq!(ids("5:007"), Ok((5, 7, vec![])));
    }

    #[test]
    fn what_is_no_user_is_an_error_and_never_0() {
        for (text, why) in [
            ("4294967296", "not between"),
            ("4294967295", "not between"),
            ("18446744073709551616", "not between"),
            ("-1", "neither"),
            ("+1", "neither"),
            ("1:", "the group is empty"),
            (":1", "the user is empty"),
            (":", "the user is empty"),
            ("", "the user is empty"),
            ("1:2:3", "more than one colon"),
            ("1:-1", "neither"),
            ("1:4294967295", "not between"),
            ("a", "not in the container's /etc/passwd"),
            ("0x0", "not in the container's /etc/passwd"),
            (" 0", "not in the container's /etc/passwd"),
            ("bad", "no valid ids"),
            ("minus", "no valid ids"),
            ("empty", "no valid ids"),
            ("short", "not in the container's /etc/passwd"),
            ("web:nogroup", "not in the container's /etc/group"),
            ("web:bad", "no valid id"),
            ("we\nb", "control character"),
        ] {
            let error = ids(text).expect_err(text);
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_image_that_names_nobody_means_root() {
        let of_image =
            |user| UserRequest::of_image(user).and_then(|r| resolve(&r, b"", b"")).map(|u| (u.uid, u.gid)).ok();
        assert_eq!(of_image(""), Some((0, 0)));
        assert_eq!(of_image("5:6"), Some((5, 6)));
        for user in ["root", ":", "1:", "4294967296", "-1", " 0", "0 ", "٠"] {
            assert_eq!(of_image(user), None, "{user}");
        }
    }

    #[test]
    fn only_two_numbers_need_no_files() {
        assert_eq!(UserRequest::parse("1:2").unwrap().fixed().map(|u| (u.uid, u.gid)), Some((1, 2)));
        assert_eq!(UserRequest::parse("1").unwrap().fixed(), None);
        assert_eq!(UserRequest::parse("web:2").unwrap().fixed(), None);
    }

    proptest! {
        #[test]
        fn root_only_for_who_asks_for_root(text in "[-+0-9a-z: ]{0,12}", passwd in "([a-z0-9]{0,3}:x:[-0-9]{0,11}:[0-9]{0,3}::\n){0,4}") {
            if let Ok(request) = UserRequest::parse(&text)
                && let Ok(user) = resolve(&request, passwd.as_bytes(), b"")
                && user.uid == 0 {
                let zero = request.user == Who::Number(0);
                let named = matches!(&request.user, Who::Name(name) if passwd.lines().any(|line| {
                    let fields: Vec<_> = line.split(':').collect();
                    fields[0] == name && !fields[2].is_empty() && fields[2].bytes().all(|b| b == b'0')
                }));
                prop_assert!(zero || named, "{text:?} {passwd:?}");
            }
        }

        #[test]
        fn any_bytes_are_read(user in any::<String>(), passwd in any::<Vec<u8>>(), group in any::<Vec<u8>>()) {
            if let Ok(request) = UserRequest::parse(&user) {
                let _ = resolve(&request, &passwd, &group);
            }
        }
    }
}
