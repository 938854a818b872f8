//! What the user is told when something cannot be done.
//!
//! Shape (docs/errors.md): `corten: <verb> <id>: <object>: <cause>`, then details, the step, and a hint. The verb and the id are
//! added where the error is printed, once (`main`). No cause begins with "failed to", and an errno always shows its name.

use nix::errno::Errno;
use std::fmt;

/// Everything that a verb returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An error as it is shown to a person or written to `--log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Their object and the plain cause: `mounts[3] /data: host path /srv/data does not exist`.
    pub cause: String,
    /// Further lines, indented below: the faults of a config.json, the step that was under way.
    pub details: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Exit code of the program; `None` takes the verb's (1, and 255 for `exec`).
    pub code: Option<u8>,
    /// The errno of the call that failed, where it was one.
    pub errno: Option<Errno>,
}

impl Error {
    /// An error with nothing but its cause.
    #[cold]
    #[inline(never)]
    pub fn new(cause: impl Into<String>) -> Self {
        Error { cause: cause.into(), details: Vec::new(), hint: None, code: None, errno: None }
    }

    /// Adds what to do about it.
    #[cold]
    #[inline(never)]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a line below.
    #[cold]
    #[inline(never)]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// Puts the object in front of the cause: `object: cause`.
    #[cold]
    #[inline(never)]
    pub fn at(mut self, object: impl fmt::Display) -> Self {
        self.cause = format!("{object}: {}", self.cause);
        self
    }

    /// What [`error!`](crate::error!) makes: the words are put together outside of the function that has the error.
    #[cold]
    #[inline(never)]
    pub fn told(cause: fmt::Arguments) -> Self {
        Error::new(cause.to_string())
    }

    /// Sets the exit code.
    pub fn code(mut self, code: u8) -> Self {
        self.code = Some(code);
        self
    }
}

/// The whole text without verb and id, several lines.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        for line in &self.details {
            write!(f, "\n  {line}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<crate::sys::Failure> for Error {
    #[cold]
    #[inline(never)]
    fn from(failure: crate::sys::Failure) -> Self {
        Error { errno: Some(failure.errno), ..Error::new(failure.to_string()) }
    }
}

/// Makes an [`Error`] the way `format!` makes a string.
#[macro_export]
macro_rules! error {
    ($($word:tt)*) => { $crate::error::Error::told(format_args!($($word)*)) };
}

/// An input or output error in plain words with the errno's name: `permission denied (EACCES)`.
pub fn io_words(e: &std::io::Error) -> String {
    match e.raw_os_error() {
        Some(number) => {
            let errno = Errno::from_raw(number);
            format!("{} ({})", crate::sys::plain(errno), crate::sys::name(errno))
        }
        None => e.to_string(),
    }
}
