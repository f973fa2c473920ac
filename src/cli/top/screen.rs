//! The full screen of `rmbd top`: the terminal, its keys, and a thread that asks the server meanwhile.

use std::io::Write;
use std::mem::ManuallyDrop;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::model::{Look, Model, Next, Question};
use super::view;
use crate::cli::http::StatusSource;
use crate::cli::{CliError, ServerOptions, Streams};
use rmbd_client::{Client, TopQuestion};

/// How many keys are asked for, so that a filter has something to choose from.
const ASKED: u16 = 100;
/// How long a key may wait to be seen, and a signal, too.
const TICK: Duration = Duration::from_millis(50);
/// Signals that end it. The terminal is as before then, and the process ends as by the signal.
const ENDING: [i32; 4] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT];
/// How long the thread that draws may take to end by a signal itself.
const GRACE: Duration = Duration::from_millis(500);
/// What makes a terminal as it was: its own screen, and a cursor.
const RESTORE: &[u8] = b"\x1b[?1049l\x1b[?25h";

const NOBODY_ASKS: &str = "the thread that asks the server has ended";

/// What it is started with.
pub(super) struct Start<'o> {
    pub(super) server: &'o ServerOptions,
    pub(super) question: Question,
    /// How many keys are shown at most; `None` is as many as there is room for.
    pub(super) keys: Option<u16>,
    /// Time between two looks.
    pub(super) period: Duration,
    pub(super) has_colors: bool,
}

/// Shows it until a key or a signal ends it.
pub(super) fn run(start: &Start<'_>, streams: &mut Streams<'_>) -> Result<(), CliError> {
    // If the server cannot be found at all, that is said in plain text.
    let client = start.server.compact()?;
    let asked = ASKED.max(start.keys.unwrap_or_default());
    let status = StatusSource::new(&start.server.server, start.server.timeout());
    let asker = Asker {
        client,
        status,
        asked,
        period: start.period,
    };
    let ended_by = Arc::new(AtomicI32::new(0));
    let signals = Signals::new(ENDING).map_err(CliError::Output)?;
    let done = {
        let screen = Screen::open(&mut streams.output).map_err(CliError::Output)?;
        screen
            .end_by(signals, &ended_by)
            .map_err(CliError::Output)?;
        let (wishes, looks) = asker
            .start(start.question.clone())
            .map_err(CliError::Output)?;
        let mut model = Model::new(
            start.server.server.to_string(),
            start.question.clone(),
            start.has_colors,
        );
        model.keys = start.keys.map(usize::from);
        show(&mut model, &mut streams.output, &wishes, &looks, &ended_by)
    };
    let signal = ended_by.load(Ordering::Relaxed);
    if signal != 0 {
        let _ = emulate_default_handler(signal);
    }
    done.map_err(CliError::Output)
}

/// Draws, and does what keys say, until one of them or a signal ends it.
fn show(
    model: &mut Model,
    output: &mut dyn Write,
    wishes: &Sender<Question>,
    looks: &Receiver<Look>,
    ended_by: &AtomicI32,
) -> std::io::Result<()> {
    // Its own end would show the cursor, and panic where the terminal is gone. The screen's end does it.
    let mut terminal = ManuallyDrop::new(Terminal::new(CrosstermBackend::new(output))?);
    loop {
        terminal.draw(|frame| view::draw(frame, model))?;
        // Nothing is drawn anew until something has happened.
        loop {
            if ended_by.load(Ordering::Relaxed) != 0 {
                return Ok(());
            }
            match looks.try_recv() {
                Ok(look) => {
                    model.take(look);
                    break;
                }
                Err(TryRecvError::Empty) => {}
                // It has panicked, and the terminal is no screen any more.
                Err(TryRecvError::Disconnected) => return Err(std::io::Error::other(NOBODY_ASKS)),
            }
            if !event::poll(TICK)? {
                continue;
            }
            match event::read()? {
                Event::Key(key) => match model.press(key) {
                    Next::Quit => return Ok(()),
                    Next::Ask => drop(wishes.send(model.question.clone())),
                    Next::Nothing => {}
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            break;
        }
    }
}

/// Who asks the server, on a thread of its own, so that keys never wait for the network.
struct Asker {
    client: Client,
    status: StatusSource,
    asked: u16,
    period: Duration,
}

impl Asker {
    /// Starts to ask, until nobody listens.
    fn start(
        mut self,
        mut question: Question,
    ) -> std::io::Result<(Sender<Question>, Receiver<Look>)> {
        let (wishes, wished) = channel();
        let (tell, looks) = channel();
        thread::Builder::new()
            .name("rmbd-top".to_owned())
            .spawn(move || {
                while tell.send(self.look(&question)).is_ok() {
                    match wished.recv_timeout(self.period) {
                        // Of several only the last one counts.
                        Ok(wish) => question = wished.try_iter().last().unwrap_or(wish),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            })?;
        Ok((wishes, looks))
    }

    fn look(&mut self, question: &Question) -> Look {
        let window = Duration::from_millis(question.window_ms);
        let wish = TopQuestion::first(self.asked.into()).within(window);
        let top = self
            .client
            .sketch(question.sketch.as_str())
            .map_err(|error| error.to_string())
            .and_then(|mut sketch| sketch.top(wish).map_err(|error| error.to_string()));
        let status = self.status.status();
        Look {
            question: question.clone(),
            top,
            status: status.map(Box::new).map_err(|error| error.to_string()),
        }
    }
}

/// The terminal while it is a screen. It is as it was when this is dropped, and where any thread panics, before the
/// panic is told.
pub(super) struct Screen {
    is_open: Arc<AtomicBool>,
}

impl Screen {
    pub(super) fn open(output: &mut impl Write) -> std::io::Result<Self> {
        let is_open = Arc::new(AtomicBool::new(true));
        let screen = Self {
            is_open: Arc::clone(&is_open),
        };
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore(&is_open);
            before(info);
        }));
        enable_raw_mode()?;
        // `Terminal::clear` would ask where the cursor is, and not every terminal answers.
        execute!(
            output,
            EnterAlternateScreen,
            Clear(ClearType::All),
            cursor::Hide
        )?;
        Ok(screen)
    }

    /// Notes the first of these signals, and ends the process by it some time later, if nobody else has: whoever reads
    /// keys of a terminal that is gone may do so for ever.
    fn end_by(&self, mut signals: Signals, ended_by: &Arc<AtomicI32>) -> std::io::Result<()> {
        let (is_open, ended_by) = (Arc::clone(&self.is_open), Arc::clone(ended_by));
        let watch = move || {
            let Some(signal) = signals.forever().next() else {
                return;
            };
            ended_by.store(signal, Ordering::Relaxed);
            thread::sleep(GRACE);
            restore(&is_open);
            let _ = emulate_default_handler(signal);
        };
        let thread = thread::Builder::new().name("rmbd-top-ends".to_owned());
        thread.spawn(watch).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore(&self.is_open);
    }
}

/// Makes the terminal as it was, once.
fn restore(is_open: &AtomicBool) {
    if !is_open.swap(false, Ordering::Relaxed) {
        return;
    }
    let _ = disable_raw_mode();
    // Standard output may be locked by the thread that draws.
    if let Ok(mut terminal) = std::fs::File::options().write(true).open("/dev/tty") {
        let _ = terminal.write_all(RESTORE);
    }
}
