//! Lines over an axis, drawn as SVG.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

pub(crate) type Points = Vec<(f64, f64)>;
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failure = Box<dyn std::error::Error>;

/// A chart with named lines.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    /// What the axis below is, and where it ends; both axes begin at 0.
    pub(crate) x: (&'a str, f64),
    pub(crate) y_end: f64,
    /// Whether the points of a line are marked.
    pub(crate) has_marks: bool,
    pub(crate) names_at: SeriesLabelPosition,
    /// A value that stands as a grey line.
    pub(crate) level: Option<f64>,
}

/// Fills an SVG of this size with what `draw` draws.
pub(crate) fn svg(
    path: &Path,
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    draw(&root)?;
    root.present()?;
    Ok(())
}

impl Chart<'_> {
    /// Draws up to three lines.
    pub(crate) fn draw(&self, area: &Area<'_>, lines: &[(&str, Points)]) -> Result<(), Failure> {
        const INKS: [RGBColor; 3] = [
            RGBColor(0x0d, 0x94, 0x88),
            RGBColor(0xc2, 0x57, 0x0c),
            RGBColor(0x62, 0x6b, 0x76),
        ];
        let (x_name, x_end) = self.x;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 16))
            .margin(10)
            .x_label_area_size(32)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..x_end, 0.0..self.y_end)?;
        chart
            .configure_mesh()
            .x_desc(x_name)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .light_line_style(TRANSPARENT)
            .draw()?;
        if let Some(level) = self.level {
            let ends = [(0.0, level), (x_end, level)];
            chart.draw_series(LineSeries::new(ends, BLACK.mix(0.4)))?;
        }
        for ((name, points), ink) in lines.iter().zip(INKS) {
            let mark = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], ink.stroke_width(2));
            chart
                .draw_series(LineSeries::new(points.clone(), ink.stroke_width(2)))?
                .label(*name)
                .legend(mark);
            if self.has_marks {
                let marks = points
                    .iter()
                    .map(|&point| Circle::new(point, 3, ink.filled()));
                chart.draw_series(marks)?;
            }
        }
        chart
            .configure_series_labels()
            .position(self.names_at.clone())
            .background_style(WHITE.mix(0.8))
            .border_style(TRANSPARENT)
            .draw()?;
        Ok(())
    }
}
