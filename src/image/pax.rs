//! Extended headers of an archive: the records that pax puts before an entry (pax(1), "pax Extended Header").
//!
//! A record is `LENGTH KEY=VALUE\n`, its length counting itself. By hand: `tar --format=pax -cf - FILE | strings | head`.
//! The `tar` crate finds the end of a record by looking for the newline, which cuts every binary value that holds byte 10
//! (`security.capability` does) and then overlooks a size in the records after it. Here the length decides.

use crate::error;
use crate::error::Result;

/// What the records before an entry say; later ones win.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// `path`
    pub path: Option<Vec<u8>>,
    /// `linkpath`
    pub linkpath: Option<Vec<u8>>,
    /// `size`
    pub size: Option<u64>,
    /// `uid`
    pub uid: Option<u64>,
    /// `gid`
    pub gid: Option<u64>,
    /// `mtime`
    pub mtime: Option<Time>,
    /// `SCHILY.xattr.NAME`, the name and the value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A point in time, as timespec(3) has it: nanoseconds are 0 to 999,999,999 and count forward also before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanoseconds: u32,
}

/// Adds the records of one extended header to `records`.
pub fn read(mut bytes: &[u8], records: &mut Records) -> Result<()> {
    while !bytes.is_empty() {
        let (key, value, rest) = record(bytes).ok_or_else(|| error!("an extended header is malformed"))?;
        bytes = rest;
        let bad = || error!("{}={:?} is malformed", String::from_utf8_lossy(key), String::from_utf8_lossy(value));
        match key {
            b"path" => records.path = Some(text(value).ok_or_else(bad)?),
            b"linkpath" => records.linkpath = Some(text(value).ok_or_else(bad)?),
            b"size" => records.size = Some(decimal(value).ok_or_else(bad)?),
            b"uid" => records.uid = Some(decimal(value).ok_or_else(bad)?),
            b"gid" => records.gid = Some(decimal(value).ok_or_else(bad)?),
            b"mtime" => records.mtime = Some(time(value).ok_or_else(bad)?),
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(error!("sparse files in pax format are not supported")
                    .hint("make the archive with `tar --format=gnu`, or without --sparse"));
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let name = text(name).filter(|name| !name.is_empty()).ok_or_else(bad)?;
                    records.xattrs.retain(|(known, _)| *known != name);
                    records.xattrs.push((name, value.to_vec()));
                }
            }
        }
    }
    Ok(())
}

/// Refuses global records that would change the entries after them; what else they say (`git archive` puts a comment) is no matter.
///
/// Go's reader ignores global records and tar(1) applies them: an archive that depends on them means two things.
pub fn check_global(bytes: &[u8]) -> Result<()> {
    let mut records = Records::default();
    read(bytes, &mut records)?;
    records.mtime = None;
    match records == Records::default() {
        true => Ok(()),
        false => {
            Err(error!("a global extended header sets names, sizes, owners or attributes of all entries: refused"))
        }
    }
}

/// Key, value, rest.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    (equals > 0).then(|| (&body[..equals], &body[equals + 1..], rest))
}

fn text(value: &[u8]) -> Option<Vec<u8>> {
    (!value.contains(&0)).then(|| value.to_vec())
}

fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// `[-]SECONDS[.FRACTION]`; digits after the ninth are cut off.
fn time(value: &[u8]) -> Option<Time> {
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |rest| (true, rest));
    let dot = value.iter().position(|b| *b == b'.');
    let (whole, fraction) = dot.map_or((value, &b""[..]), |dot| (&value[..dot], &value[dot + 1..]));
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let nanoseconds = (0..9).fold(0, |sum, place| sum * 10 + fraction.get(place).map_or(0, |b| u32::from(b - b'0')));
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record with its length in front.
    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let mut length = body + body.to_string().len();
        if length.to_string().len() > body.to_string().len() {
            length += 1;
        }
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    fn parsed(bytes: &[u8]) -> Result<Records> {
        let mut records = Records::default();
        read(bytes, &mut records).map(|()| records)
    }

    #[test]
    fn a_newline_in_a_value_hides_nothing() {
        let value = b"\x01\x00\x00\x02\n\n10 size=1\n";
        let bytes = [record("SCHILY.xattr.security.capability", value), record("size", b"77")].concat();
        let records = parsed(&bytes).unwrap();
        assert_eq!(records.xattrs, [(b"security.capability".to_vec(), value.to_vec())]);
        assert_eq!(records.size, Some(77));
    }

    #[test]
    fn the_last_record_wins() {
        let records = parsed(&[record("path", b"a"), record("path", b"b")].concat()).unwrap();
        assert_eq!(records.path, Some(b"b".to_vec()));
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in [
            &b"5 a=b\n"[..],
            b"6 a=b",
            b"99 a=b\n",
            b"x a=b\n",
            b"6 a=bc",
            b"5 =b\n",
            b"0 ",
            b"2 ",
            b" ",
            b"18446744073709551616 a=b\n",
            b"11 size=-1\n",
            b"12 size=0x1\n",
            b"11 path=a\0\n",
            b"11 mtime=.\n",
        ] {
            assert!(parsed(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn times() {
        let time = |text: &str| super::time(text.as_bytes()).map(|t| (t.seconds, t.nanoseconds));
        assert_eq!(time("1700000000.5"), Some((1_700_000_000, 500_000_000)));
        assert_eq!(time("1.0000000019"), Some((1, 1)));
        assert_eq!(time("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time("-3"), Some((-3, 0)));
        assert_eq!(time("+3"), None);
        assert_eq!(time("99999999999999999999"), None);
    }

    #[test]
    fn global_records_may_only_comment() {
        assert_eq!(check_global(&record("comment", b"8f3a")), Ok(()));
        assert!(check_global(&record("path", b"etc/shadow")).is_err());
        assert!(check_global(&record("SCHILY.xattr.user.a", b"1")).is_err());
    }
}
