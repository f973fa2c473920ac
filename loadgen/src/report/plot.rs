//! A line plot as SVG, drawn by `plotters`.
//!
//! Colours in the drawing are those for a light ground, so that every viewer shows something. [`dark_rules`] replaces
//! them if the reader prefers dark, in a page and in a separate file.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use thiserror::Error;

const FONT: &str = "system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif";
/// Size of text in the units of plotters, which writes 1 / 1.24 of it: 12 pixels.
const TEXT_SIZE: u32 = 15;
const TITLE_SIZE: u32 = 18;
/// Average width of a letter in pixels, for text that is placed without asking a font.
const LETTER_PX: f64 = 6.6;
const LEGEND_LINE_PX: i32 = 18;
const LEGEND_ROW_PX: i32 = 19;
const LEGEND_LEFT_PX: i32 = 4;
const LEGEND_GAP_PX: i32 = 16;
const X_LABELS_PX: u32 = 26;
const TICK_PX: u32 = 5;
/// Number of points below which a line shows them: three points are no curve.
const DOTS_MAX: usize = 40;

/// The purpose of a colour. The colours are those of the node's own page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    /// The colour of titles.
    Text,
    /// The colour of labels.
    Dim,
    /// The colour of the grid.
    Grid,
    /// The colour of the plot's subject.
    Main,
    /// The colour of what the subject is compared with.
    Other,
    /// The colour of what must not be overlooked.
    Bad,
}

impl Ink {
    const ALL: [Self; 6] = [
        Self::Text,
        Self::Dim,
        Self::Grid,
        Self::Main,
        Self::Other,
        Self::Bad,
    ];

    /// The colours for a light and a dark ground.
    fn colors(self) -> (RGBColor, RGBColor) {
        match self {
            Self::Text => (RGBColor(0x16, 0x19, 0x1d), RGBColor(0xe6, 0xe9, 0xec)),
            Self::Dim => (RGBColor(0x62, 0x6b, 0x76), RGBColor(0x92, 0x9c, 0xa8)),
            Self::Grid => (RGBColor(0xe3, 0xe6, 0xe9), RGBColor(0x2a, 0x30, 0x37)),
            Self::Main => (RGBColor(0x0d, 0x94, 0x88), RGBColor(0x2d, 0xd4, 0xbf)),
            Self::Other => (RGBColor(0xc2, 0x57, 0x0c), RGBColor(0xfb, 0x92, 0x3c)),
            Self::Bad => (RGBColor(0xb4, 0x23, 0x18), RGBColor(0xff, 0x9b, 0x8e)),
        }
    }

    fn light(self) -> RGBColor {
        self.colors().0
    }
}

/// Style rules that replace the drawing's colours by those for a dark ground.
#[must_use]
pub(super) fn dark_rules() -> String {
    let rule = |ink: Ink| {
        let (light, dark) = ink.colors();
        let (light, dark) = (hex(light), hex(dark));
        format!("svg [fill=\"{light}\"]{{fill:{dark}}}svg [stroke=\"{light}\"]{{stroke:{dark}}}")
    };
    let rules: String = Ink::ALL.into_iter().map(rule).collect();
    format!("@media (prefers-color-scheme:dark){{{rules}}}")
}

/// A colour as plotters writes it.
fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// An axis: its range and its labels.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// The range of values.
    pub range: Range<f64>,
    /// The positions of grid lines, with their labels.
    pub ticks: Vec<(f64, String)>,
}

/// A line of a plot.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// The name in the legend.
    pub name: String,
    /// The colour.
    pub ink: Ink,
    /// The opacity, from 0 to 1.
    pub opacity: f64,
    /// The width in pixels.
    pub width_px: u32,
    /// The points in the units of the axes, ascending in x.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Debug, Clone)]
pub(super) struct Plot {
    /// The title, which is read to a person who hears the page.
    pub title: String,
    /// The axis from left to right.
    pub x: Axis,
    /// The axis from the bottom up.
    pub y: Axis,
    /// The lines; the first is at the bottom.
    pub lines: Vec<Line>,
}

/// The error for a plot that could not be drawn. Nothing was written.
#[derive(Debug, Error)]
#[error("can't draw the plot \"{title}\": {reason}")]
pub(super) struct PlotError {
    /// The title of the plot.
    pub title: String,
    /// The error of plotters.
    pub reason: String,
}

impl Plot {
    /// The plot as an `<svg>` element for a page. It scales with its box, and the page shows its title.
    ///
    /// # Errors
    /// Fails with [`PlotError`].
    pub(super) fn element(&self, (width, height): (u32, u32)) -> Result<String, PlotError> {
        Ok(self.scalable(&self.draw((width, height), None)?, "", (width, height)))
    }

    /// The plot as an SVG file, with its title, and its colours for light and dark.
    ///
    /// # Errors
    /// Fails with [`PlotError`].
    pub(super) fn file(&self, (width, height): (u32, u32)) -> Result<String, PlotError> {
        let svg = self.draw((width, height), Some(&self.title))?;
        let style = format!("<style>{}</style>", dark_rules());
        Ok(self.scalable(&svg, &style, (width, height)))
    }

    /// The drawing with another first tag than plotters', which has a view box, a name and a style.
    fn scalable(&self, svg: &str, style: &str, (width, height): (u32, u32)) -> String {
        let inner = svg
            .split_once("<svg")
            .and_then(|(_, rest)| rest.split_once('>'));
        let inner = inner.map_or(svg, |(_, inner)| inner);
        let title = escaped(&self.title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">{style}{inner}"
        )
    }

    fn draw(&self, size: (u32, u32), title: Option<&str>) -> Result<String, PlotError> {
        let mut svg = String::new();
        let drawn = self.draw_into(&mut svg, size, title);
        drawn.map_err(|reason| PlotError {
            title: self.title.clone(),
            reason,
        })?;
        Ok(svg)
    }

    fn draw_into(
        &self,
        svg: &mut String,
        size: (u32, u32),
        title: Option<&str>,
    ) -> Result<(), String> {
        let root = SVGBackend::with_string(svg, size).into_drawing_area();
        let title_px = if title.is_some() { 26 } else { 0 };
        if let Some(title) = title {
            let style = text(Ink::Text, TITLE_SIZE);
            root.draw_text(title, &style, (4, 4)).map_err(reason)?;
        }
        let legend_px = self.draw_legend(&root, title_px)?;
        let body = root.margin(title_px + legend_px, 0, 0, 0);
        self.draw_lines(&body)?;
        root.present().map_err(reason)
    }

    /// Draws the legend in as many rows as it takes, and returns its height.
    fn draw_legend(&self, root: &Area<'_>, top: i32) -> Result<i32, String> {
        let end = root.dim_in_pixel().0 as i32;
        let (mut left, mut middle) = (LEGEND_LEFT_PX, top + 9);
        for line in self.lines.iter().rev() {
            let name_px = (line.name.chars().count() as f64 * LETTER_PX) as i32;
            let width = LEGEND_LINE_PX + 6 + name_px;
            if left > LEGEND_LEFT_PX && left + width > end {
                (left, middle) = (LEGEND_LEFT_PX, middle + LEGEND_ROW_PX);
            }
            let mark = [(left, middle), (left + LEGEND_LINE_PX, middle)];
            let mark = PathElement::new(mark, line.style());
            root.draw(&mark).map_err(reason)?;
            let style = text(Ink::Dim, TEXT_SIZE).pos(Pos::new(HPos::Left, VPos::Center));
            let at = (left + LEGEND_LINE_PX + 6, middle);
            root.draw_text(&line.name, &style, at).map_err(reason)?;
            left += width + LEGEND_GAP_PX;
        }
        Ok(middle + LEGEND_ROW_PX - 3 - top)
    }

    fn draw_lines(&self, body: &Area<'_>) -> Result<(), String> {
        let labels = self.y.ticks.iter().map(|(_, label)| label.chars().count());
        let label_px = labels.max().unwrap_or(0) as f64 * LETTER_PX + 14.0;
        let mut chart = ChartBuilder::on(body)
            .margin_top(6)
            .margin_right(16)
            .x_label_area_size(X_LABELS_PX)
            .y_label_area_size(label_px as u32)
            .build_cartesian_2d(self.x.clone(), self.y.clone())
            .map_err(reason)?;
        chart
            .configure_mesh()
            .bold_line_style(Ink::Grid.light())
            .light_line_style(TRANSPARENT)
            .axis_style(Ink::Grid.light())
            .set_all_tick_mark_size(TICK_PX)
            .label_style(text(Ink::Dim, TEXT_SIZE))
            .draw()
            .map_err(reason)?;
        for line in &self.lines {
            let points = line.points.iter().copied();
            let series = LineSeries::new(points.clone(), line.style());
            chart.draw_series(series).map_err(reason)?;
            if line.points.len() <= DOTS_MAX {
                let dot = line.ink.light().mix(line.opacity).filled();
                let dots =
                    points.map(|point| Circle::new(point, (line.width_px as i32).max(3), dot));
                chart.draw_series(dots).map_err(reason)?;
            }
        }
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// In plotters an axis is a coordinate; this one has the ticks that it is given.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let part = (value - self.range.start) / (self.range.end - self.range.start);
        from + (f64::from(to - from) * part).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|(at, _)| at == value);
        tick.map(|(_, label)| label.clone()).unwrap_or_default()
    }
}

impl Line {
    fn style(&self) -> ShapeStyle {
        self.ink
            .light()
            .mix(self.opacity)
            .stroke_width(self.width_px)
    }
}

fn text(ink: Ink, size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&ink.light())
}

fn reason(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
