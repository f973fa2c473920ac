//! Refusals that are understood only with what the server has: its sketches, their windows, and its limits.

use super::CliError;
use super::asked::{Span, time};
use super::status::printable;
use rmbd_client::{Client, ClientError, SketchInfo};
use rmbd_proto::SketchName;
use rmbd_proto::compact::Problem;

/// What was asked about.
pub(super) enum About<'a> {
    /// A sketch, and windows of it.
    Sketch(&'a SketchName, Vec<Span>),
    /// A limit of the server's own.
    Limit(&'a str),
    /// The largest keys of a sketch, in a window.
    Top(&'a SketchName, Span),
}

/// Says more of a refusal. The server is asked for its sketches where that helps.
pub(super) fn explain(error: ClientError, client: &mut Client, about: About<'_>) -> CliError {
    match (problem(&error), about) {
        (Some(Problem::UnknownSketch), About::Sketch(sketch, _) | About::Top(sketch, _)) => {
            let Ok(known) = client.sketches() else {
                return error.into();
            };
            CliError::UnknownSketch {
                sketch: sketch.clone(),
                known: names(&known),
                done: done(&error),
            }
        }
        (Some(Problem::UnknownWindow), About::Sketch(sketch, asked)) => {
            let Ok(known) = client.sketches() else {
                return error.into();
            };
            let known = known.iter().find(|it| it.number == sketch.number());
            let missing = asked
                .iter()
                .find(|span| !known.is_some_and(|it| covers(it, **span)));
            match (known, missing) {
                (Some(known), Some(span)) => CliError::UnknownWindow {
                    sketch: sketch.clone(),
                    asked: time(span.ms),
                    kept: windows(known),
                    done: done(&error),
                },
                _ => error.into(),
            }
        }
        (Some(Problem::UnknownWindow), About::Top(sketch, span)) => {
            let Ok(known) = client.sketches() else {
                return error.into();
            };
            let known = known.iter().find(|it| it.number == sketch.number());
            CliError::NoTopWindow {
                sketch: sketch.clone(),
                asked: time(span.ms),
                kept: known.map_or_else(String::new, listed_windows),
            }
        }
        (Some(Problem::NoTopList), About::Top(sketch, _)) => CliError::NoTopList {
            sketch: sketch.clone(),
        },
        (Some(Problem::UnknownOperation), About::Top(..)) => CliError::OlderServer {
            version: env!("CARGO_PKG_VERSION"),
        },
        (Some(Problem::UnknownLimit), About::Limit(name)) => CliError::UnknownLimit {
            name: name.to_owned(),
        },
        _ => error.into(),
    }
}

fn problem(error: &ClientError) -> Option<Problem> {
    match error {
        ClientError::Problem { problem, .. } => Some(*problem),
        ClientError::Adds { source, .. } => problem(source),
        _ => None,
    }
}

/// What is known of the weights.
fn done(error: &ClientError) -> String {
    match error {
        ClientError::Adds { report, .. } => report.to_string(),
        other => other.fate().to_string(),
    }
}

fn covers(sketch: &SketchInfo, Span { ms }: Span) -> bool {
    let mut windows = sketch.windows.iter();
    let step_ms = |window: &rmbd_client::SketchWindow| window.step.as_millis().max(1);
    ms == 0
        || windows.any(|window| {
            u128::from(ms) <= window.span.as_millis()
                && u128::from(ms).is_multiple_of(step_ms(window))
        })
}

fn names(sketches: &[SketchInfo]) -> String {
    let names: Vec<_> = sketches.iter().map(|it| printable(&it.name)).collect();
    names.join(", ")
}

/// The windows of which there are lists, behind all time.
fn listed_windows(sketch: &SketchInfo) -> String {
    let windows = sketch.windows.iter();
    let words = windows.map(|window| format!(", in {}", time(window.span.as_millis() as u64)));
    words.collect()
}

/// The windows of a sketch in words.
fn windows(sketch: &SketchInfo) -> String {
    let words = sketch.windows.iter().map(|window| {
        let [span, step] = [window.span, window.step].map(|it| time(it.as_millis() as u64));
        format!("{span} in steps of {step}")
    });
    match words.collect::<Vec<_>>() {
        none if none.is_empty() => "none".to_owned(),
        some => some.join(", "),
    }
}
