//! The tables `[[sketch]]` of a configuration file.

use super::fields::{Fields, Value, parse};
use super::place::{FileError, Place, Places};
use crate::config::number::{any_whole, with_point};
use crate::config::sketches::{SKETCHES_MAX, SketchError, SketchWish, WindowConfig};
use crate::config::span;

pub(in crate::config) const KEYS: [&str; 7] = [
    "name",
    "width",
    "depth",
    "epsilon",
    "confidence",
    "window",
    "top",
];
pub(in crate::config) const WINDOW_KEYS: [&str; 3] = ["span", "step", "width"];

/// A sketch of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlacedSketch {
    pub(crate) place: Place,
    pub(crate) wish: SketchWish,
}

/// Reads the sketches. They are few, and have different names.
pub(super) fn read(
    places: &Places<'_>,
    tables: &[Value<'_>],
) -> Result<Vec<PlacedSketch>, FileError> {
    if let Some(beyond) = tables.get(SKETCHES_MAX) {
        let sketches = tables.len();
        return Err(places.error(&beyond.span(), SketchError::TooMany { sketches }));
    }
    let mut sketches: Vec<PlacedSketch> = Vec::with_capacity(tables.len());
    for table in tables {
        let sketch = sketch(places, table)?;
        let same = |other: &&PlacedSketch| other.wish.name == sketch.wish.name;
        if let Some(other) = sketches.iter().find(same) {
            let name = sketch.wish.name;
            let problem = format!(
                "{}; the other is at {}",
                SketchError::NameTwice { name },
                other.place
            );
            return Err(FileError::at(&sketch.place, problem));
        }
        sketches.push(sketch);
    }
    Ok(sketches)
}

fn sketch(places: &Places<'_>, table: &Value<'_>) -> Result<PlacedSketch, FileError> {
    let fields = Fields::of(places, table, "a sketch", &KEYS)?;
    let name = fields.required("name", "\"logins\"")?;
    let name = parse(places, "name", name, str::parse)?;
    let wish = SketchWish {
        name,
        width: fields.parsed_by("width", any_whole)?,
        depth: fields.parsed_by("depth", any_whole)?,
        epsilon: fields.parsed_by("epsilon", with_point)?,
        confidence: fields.parsed_by("confidence", with_point)?,
        windows: match fields.list("window")? {
            Some(windows) => Some(
                windows
                    .iter()
                    .map(|it| window(places, it))
                    .collect::<Result<_, _>>()?,
            ),
            None => None,
        },
        top: fields.parsed_by("top", any_whole)?,
    };
    Ok(PlacedSketch {
        place: fields.place(),
        wish,
    })
}

fn window(places: &Places<'_>, table: &Value<'_>) -> Result<WindowConfig, FileError> {
    let fields = Fields::of(places, table, "a window", &WINDOW_KEYS)?;
    let whole = fields.required("span", "\"60s\"")?;
    let step = fields.value("step");
    Ok(WindowConfig {
        span_ms: parse(places, "span", whole, span::parse)?,
        step_ms: step
            .map(|step| parse(places, "step", step, span::parse))
            .transpose()?,
        width: fields.parsed_by("width", any_whole)?,
    })
}
