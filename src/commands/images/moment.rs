//! Moments as images have them, RFC 3339, and as lists show them.
//!
//! By hand: `date -u -d 2024-02-29T12:00:00+02:00 +%s`.

use crate::docker::human;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What lists show where nothing is known: reproducible builds often say nothing.
const UNKNOWN: &str = "N/A";

/// Seconds since 1970 of a moment as RFC 3339 has it: `2024-02-29T12:00:00.123Z`, `2024-02-29T12:00:00+02:00`.
pub fn parse(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i64>().ok()).flatten()
    };
    let bytes = text.as_bytes();
    let marks = [(4, "-"), (7, "-"), (10, "Tt "), (13, ":"), (16, ":")];
    if !marks.iter().all(|(at, any)| bytes.get(*at).is_some_and(|b| any.as_bytes().contains(b))) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    let offset = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let minutes = zone.get(1..3)?.parse::<i64>().ok()? * 60 + zone.get(4..6)?.parse::<i64>().ok()?;
            if *sign == b'+' { minutes * 60 } else { -minutes * 60 }
        }
        _ => return None,
    };
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

/// Days since 1970 of a date in the Gregorian calendar: years that begin in March make leap days the last ones.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// This moment, in seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// `2 weeks ago`, for the column CREATED.
pub fn since(created: Option<i64>, now: i64) -> String {
    let length = |at: i64| Duration::from_secs(u64::try_from(now - at).unwrap_or(0));
    created.map_or_else(|| UNKNOWN.into(), |at| human::ago(length(at)))
}

/// `2024-02-29 12:00:00 +0000 UTC`, as Docker writes it where it is in UTC.
pub fn at(created: Option<i64>) -> String {
    let Some(at) = created else { return UNKNOWN.into() };
    format!("{} +0000 UTC", rfc3339(at)[..19].replace('T', " "))
}

/// `2024-02-29T12:00:00Z`
pub fn rfc3339(at: i64) -> String {
    let moment = UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or(0));
    format!("{}Z", &crate::logger::rfc3339(moment)[..19])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1969-12-31T18:30:00.5-05:30", 0),
            ("2000-02-29T00:00:00.123456789Z", 951_782_400),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("0001-01-01T00:00:00Z", -62_135_596_800),
        ] {
            assert_eq!(parse(text), Some(seconds), "{text}");
        }
        for wrong in [
            "",
            "2024",
            "2024-13-01T00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:0xZ",
            "2024-01-01T00:00:00+1",
            "+024-01-01T00:00:00Z",
            "2024-01-01T00:00:00é",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_lists_show() {
        assert_eq!(at(Some(951_782_400)), "2000-02-29 00:00:00 +0000 UTC");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(
            (since(Some(0), 7200), since(Some(9), 0), since(None, 5)),
            ("2 hours ago".into(), "Less than a second ago".into(), "N/A".into())
        );
    }
}
