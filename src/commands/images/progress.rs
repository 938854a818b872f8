//! How far a pull or a load is: bars on a terminal, plain lines elsewhere.
//!
//! On a terminal each layer has a line, and all lines are drawn again where they stand: `ESC [ n A` moves up n lines, `ESC [ K` clears to the end
//! of one (console_codes(4)). By hand: `printf 'a\nb\n'; sleep 1; printf '\033[2A\033[Kc\n\033[Kd\n'`. Ten times a second is all that an eye
//! wants; the rest of the events only change what the next drawing shows. Where there are more layers than lines, one line stands for all.
//!
//! What goes wrong: a line that is wider than the terminal takes two, and all above it would be drawn in the wrong place; so lines are cut. The cursor
//! is not hidden: who is killed could not show it again.

use super::verbs::short;
use crate::docker::human;
use crate::image::digest::Digest;
use crate::image::store::{Event, Progress};
use crate::sys::tty;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two drawings.
const PAUSE: Duration = Duration::from_millis(100);
/// The widest bar, and a terminal's size where it does not tell.
const BAR: usize = 50;
const SIZE: (u16, u16) = (24, 80);

/// What is shown, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On standard output; lines, too, where there is no terminal.
    Pull,
    /// On standard error, because standard output is the program's; lines, too.
    Run,
    /// On standard output; nothing where there is no terminal: Docker says no more either.
    Load,
}

/// What a layer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Queued,
    Waits,
    Reads(u64),
    Present,
    Done,
}

/// One layer.
#[derive(Clone, Debug)]
struct Layer {
    digest: Digest,
    size: u64,
    does: Does,
}

#[derive(Debug, Default)]
struct Layers {
    all: Vec<Layer>,
    /// Lines that the last drawing took.
    drawn: usize,
    last: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Bars,
    Lines,
    Nothing,
}

/// Standard output, or standard error.
trait Stream: Write + AsFd + Send {}
impl<T: Write + AsFd + Send> Stream for T {}

/// Shows it, from when it is made until it is dropped.
pub struct Shown {
    form: Form,
    inner: Mutex<(Layers, Box<dyn Stream>)>,
}

impl Shown {
    /// Bars on a terminal; elsewhere what the kind says.
    pub fn new(kind: Kind) -> Self {
        let (is_terminal, out): (bool, Box<dyn Stream>) = match kind {
            Kind::Run => (stderr().is_terminal(), Box::new(stderr())),
            Kind::Pull | Kind::Load => (stdout().is_terminal(), Box::new(stdout())),
        };
        let clever = is_terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let form = match (clever, kind) {
            (true, _) => Form::Bars,
            (false, Kind::Pull | Kind::Run) => Form::Lines,
            (false, Kind::Load) => Form::Nothing,
        };
        Shown { form, inner: Mutex::new((Layers::default(), out)) }
    }
}

impl Progress for Shown {
    fn tell(&self, blob: &Digest, event: Event) {
        if self.form == Form::Nothing {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (layers, out) = &mut *inner;
        let Some(words) = layers.take(blob, event) else { return };
        match self.form {
            Form::Bars if layers.last.is_none_or(|last| last.elapsed() >= PAUSE) => layers.draw(out.as_mut()),
            Form::Lines if !words.is_empty() => put(out.as_mut(), &format!("{}: {words}\n", short(&blob.hex))),
            _ => {}
        }
    }
}

/// The end, whatever it is: an error's line is to stand below the last drawing.
impl Drop for Shown {
    fn drop(&mut self) {
        let (layers, out) = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        if self.form == Form::Bars && !layers.all.is_empty() {
            layers.draw(out.as_mut());
        }
    }
}

/// Who has stopped reading is found by the result's line.
fn put(out: &mut dyn Stream, text: &str) {
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

impl Layers {
    fn draw(&mut self, out: &mut dyn Stream) {
        let size = tty::size(out.as_fd()).ok().filter(|(rows, columns)| *rows > 2 && *columns > 0).unwrap_or(SIZE);
        let lines = lines(&self.all, size);
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        for line in &lines {
            let _ = write!(text, "\r\x1b[K{line}\n");
        }
        // From many lines to one: what stood below goes.
        if lines.len() < self.drawn {
            text.push_str("\x1b[J");
        }
        self.drawn = lines.len();
        self.last = Some(Instant::now());
        put(out, &text);
    }

    /// Takes the event in; the words of its plain line, if it has one. `None`: nothing is new.
    fn take(&mut self, blob: &Digest, event: Event) -> Option<String> {
        let known = self.all.iter_mut().find(|layer| layer.digest == *blob);
        let Some(layer) = known else {
            // Of the documents nobody wants to know.
            let Event::Expected { size } = event else { return None };
            self.all.push(Layer { digest: blob.clone(), size, does: Does::Queued });
            return Some(String::new());
        };
        let (does, words) = match event {
            // The same layer twice in one image.
            Event::Expected { .. } => return None,
            Event::Present => (Does::Present, "Already exists".to_owned()),
            Event::Waiting => (Does::Waits, "Waiting: another process pulls it".to_owned()),
            Event::Resumed { from } => (Does::Reads(from), format!("Resuming at {}", human::size(from))),
            Event::Read { bytes } => {
                let first = !matches!(layer.does, Does::Reads(_));
                (Does::Reads(bytes), if first { format!("Pulling {}", human::size(layer.size)) } else { String::new() })
            }
            Event::Unpacked if matches!(layer.does, Does::Present | Does::Done) => return None,
            Event::Unpacked => (Does::Done, "Pull complete".to_owned()),
        };
        layer.does = does;
        Some(words)
    }
}

/// What a terminal of so many rows and columns shows.
fn lines(layers: &[Layer], (rows, columns): (u16, u16)) -> Vec<String> {
    let columns = usize::from(columns);
    let all = if layers.len() + 1 < usize::from(rows) {
        layers.iter().map(|layer| line(layer, columns)).collect()
    } else {
        vec![sum(layers, columns)]
    };
    // One column is left free: some terminals wrap when the last is written.
    let cut = |line: String| line.chars().take(columns.saturating_sub(1)).collect();
    all.into_iter().map(cut).collect()
}

fn line(layer: &Layer, columns: usize) -> String {
    let id = short(&layer.digest.hex);
    match layer.does {
        Does::Queued => format!("{id}: Waiting"),
        Does::Waits => format!("{id}: Waiting: another process pulls it"),
        Does::Present => format!("{id}: Already exists"),
        Does::Done => format!("{id}: Pull complete"),
        Does::Reads(bytes) if bytes >= layer.size => format!("{id}: Unpacking"),
        Does::Reads(bytes) => {
            let sizes = format!("{}/{}", human::size(bytes), human::size(layer.size));
            format!("{id}: Pulling {} {sizes}", bar(bytes, layer.size, columns.saturating_sub(44)))
        }
    }
}

/// One line for all.
fn sum(layers: &[Layer], columns: usize) -> String {
    let read = |layer: &Layer| match layer.does {
        Does::Queued | Does::Waits => 0,
        Does::Reads(bytes) => bytes.min(layer.size),
        Does::Present | Does::Done => layer.size,
    };
    let done = layers.iter().filter(|layer| matches!(layer.does, Does::Present | Does::Done)).count();
    let (bytes, size) = (layers.iter().map(read).sum(), layers.iter().map(|layer| layer.size).sum());
    let sizes = format!("{}/{}", human::size(bytes), human::size(size));
    format!("{done} of {} layers {} {sizes}", layers.len(), bar(bytes, size, columns.saturating_sub(44)))
}

/// `[=====>    ]`, as wide as there is place for.
fn bar(bytes: u64, size: u64, place: usize) -> String {
    let width = place.min(BAR);
    if width < 5 {
        return String::new();
    }
    let full = if size == 0 { width } else { (bytes as u128 * width as u128 / u128::from(size)) as usize };
    let full = full.min(width);
    let head = if full < width { ">" } else { "" };
    format!("[{}{head}{}]", "=".repeat(full), " ".repeat(width - full - head.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::{Algorithm, of};

    fn events(layers: &mut Layers, digest: &Digest, all: &[Event]) -> Vec<Option<String>> {
        all.iter().map(|event| layers.take(digest, *event)).collect()
    }

    #[test]
    fn a_line_for_what_is_new() {
        let (mut layers, digest) = (Layers::default(), of(Algorithm::Sha256, b"a"));
        let told = events(
            &mut layers,
            &digest,
            &[
                Event::Expected { size: 2_000_000 },
                Event::Expected { size: 2_000_000 },
                Event::Read { bytes: 1000 },
                Event::Read { bytes: 2000 },
                Event::Resumed { from: 2000 },
                Event::Unpacked,
                Event::Unpacked,
            ],
        );
        let words = |text: &str| Some(text.to_owned());
        assert_eq!(
            told,
            [words(""), None, words("Pulling 2MB"), words(""), words("Resuming at 2kB"), words("Pull complete"), None]
        );
        let other = of(Algorithm::Sha256, b"b");
        let told = events(&mut layers, &other, &[Event::Expected { size: 1 }, Event::Present, Event::Unpacked]);
        assert_eq!(told, [words(""), words("Already exists"), None]);
    }

    #[test]
    fn lines_fit_the_terminal() {
        let digest = of(Algorithm::Sha256, b"a");
        let layer = |does| Layer { digest: digest.clone(), size: 10_000_000, does };
        let id = &digest.hex[..12];
        let all =
            [layer(Does::Queued), layer(Does::Reads(5_000_000)), layer(Does::Reads(10_000_000)), layer(Does::Done)];
        let shown = lines(&all, (24, 60));
        assert_eq!(shown[0], format!("{id}: Waiting"));
        assert_eq!(shown[1], format!("{id}: Pulling [========>       ] 5MB/10MB"));
        assert_eq!((&shown[2][14..], &shown[3][14..]), ("Unpacking", "Pull complete"));
        // Five rows hold three layers and the cursor's line; with the fourth, one line stands for all.
        let shown = lines(&all, (5, 60));
        assert_eq!(shown, ["1 of 4 layers [==========>     ] 25MB/40MB"]);
        for columns in 1..100 {
            assert!(lines(&all, (24, columns)).iter().all(|line| line.chars().count() < usize::from(columns)));
        }
    }

    #[test]
    fn bars() {
        assert_eq!(bar(0, 10, 5), "[>    ]");
        assert_eq!(bar(10, 10, 5), "[=====]");
        assert_eq!(bar(99, 10, 5), "[=====]");
        assert_eq!(bar(0, 0, 5), "[=====]");
        assert_eq!(bar(1, 10, 4), "");
    }
}
