//! The log: what `--log`, `--log-format` and `--debug` choose, behind the `log` crate.
//!
//! runc's callers read it: text is logfmt (`time=… level=error msg="…"`), JSON has `level`, `msg` and `time` (RFC 3339).
//! Without `--log`, warnings go to standard error in plain words, and debug lines only when asked for.

use crate::cli::{Global, LogFormat};
use crate::error::{Error, Result};
use log::{LevelFilter, Log, Metadata, Record};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

struct Logger {
    file: Option<File>,
    format: LogFormat,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Opens the log before anything else can fail. A path that cannot be opened is an error.
pub fn open(global: &Global) -> Result<()> {
    let file = match &global.log {
        None => None,
        Some(path) => {
            // Non-blocking: a pipe without a reader must not hang us.
            let opened = File::options()
                .append(true)
                .create(true)
                .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
                .mode(0o644)
                .open(path);
            Some(opened.map_err(|e| Error::new(format!("--log {}: {}", path.display(), crate::error::io_words(&e))))?)
        }
    };
    let _ = LOGGER.set(Logger { file, format: global.log_format });
    if let Some(logger) = LOGGER.get() {
        let _ = log::set_logger(logger);
        log::set_max_level(if global.debug { LevelFilter::Debug } else { LevelFilter::Info });
    }
    Ok(())
}

/// Writes an error for the program that called us: one line, whole, to `--log` alone. Standard error is `main`'s.
pub fn error(text: &str) {
    if let Some(Logger { file: Some(file), format }) = LOGGER.get() {
        write_line(file, *format, "error", text);
    }
}

fn write_line(mut file: &File, format: LogFormat, level: &str, text: &str) {
    let time = rfc3339(SystemTime::now());
    let text = serde_json::Value::from(text);
    let line = match format {
        LogFormat::Text => format!("time=\"{time}\" level={level} msg={text}\n"),
        LogFormat::Json => format!("{{\"level\":\"{level}\",\"msg\":{text},\"time\":\"{time}\"}}\n"),
    };
    // A log that cannot be written is no reason to fail.
    let _ = file.write_all(line.as_bytes());
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let level = match record.level() {
            log::Level::Error => "error",
            log::Level::Warn => "warning",
            log::Level::Info => "info",
            log::Level::Debug | log::Level::Trace => "debug",
        };
        let text = record.args().to_string();
        match &self.file {
            Some(file) => write_line(file, self.format, level, &text),
            None => {
                let _ = writeln!(std::io::stderr(), "corten: {level}: {text}");
            }
        }
    }

    fn flush(&self) {}
}

/// A moment as RFC 3339, UTC, with nanoseconds: `2026-11-22T16:00:00.123456789Z`.
pub fn rfc3339(moment: SystemTime) -> String {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = ((since.as_secs() / 86_400) as i64, since.as_secs() % 86_400);
    // Days since 1970 to a date in the Gregorian calendar: years that begin in March make leap days the last ones.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second % 3_600 / 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{:09}Z", second % 60, since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_around_leap_days() {
        let at = |secs| rfc3339(UNIX_EPOCH + Duration::from_secs(secs));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000000000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000000000Z");
        assert_eq!(at(1_795_363_200), "2026-11-22T16:00:00.000000000Z");
    }
}
