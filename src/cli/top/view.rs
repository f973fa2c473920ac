//! How the full screen of `rmbd top` looks, on terminals of any size.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table};

use super::model::Model;
use super::{name, share};
use crate::cli::asked::time;
use crate::cli::status::printable;
use crate::status::{ClusterStatus, LimitStatus};
use rmbd_client::{Top, TopKey};

/// From this width members and limits stand beside the keys.
const WIDE: u16 = 100;
/// From this height members and limits are shown below the keys, where they are not beside them.
const TALL: u16 = 18;
/// From this width there are all columns.
const COLUMNS_ALL: u16 = 60;
/// From this width there is a rank and a share.
const COLUMNS_SOME: u16 = 34;
/// From this height there is room for a line of rates.
const RATES_FROM: u16 = 5;
/// From this height the list of keys has a head.
const HEAD_FROM: u16 = 3;
/// Lines of the picture of the rate of adds, and the height from which it is there.
const PICTURE: (u16, u16) = (3, 24);

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    let has_rates = u16::from(area.height >= RATES_FROM);
    let picture = if area.height >= PICTURE.1 {
        PICTURE.0
    } else {
        0
    };
    let [head, rates, spark, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(has_rates),
        Constraint::Length(picture),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(title(model)), head);
    frame.render_widget(Paragraph::new(rate_line(model)), rates);
    let width = usize::from(spark.width);
    let skipped = model.history.len().saturating_sub(width);
    let history: Vec<u64> = model.history.iter().skip(skipped).copied().collect();
    let bars = Sparkline::default().data(&history).style(model.accent());
    frame.render_widget(bars, spark);
    draw_body(frame, model, body);
    frame.render_widget(Paragraph::new(foot_line(model)), foot);
}

fn draw_body(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    if area.width >= WIDE {
        let [keys, _, side] = Layout::horizontal([
            Constraint::Fill(3),
            Constraint::Length(3),
            Constraint::Fill(2),
        ])
        .areas(area);
        let [members, _, limits] = Layout::vertical([
            Constraint::Length(member_lines(model).min(area.height / 2)),
            Constraint::Length(1),
            Constraint::Min(0),
        ])
        .areas(side);
        draw_keys(frame, model, keys);
        draw_members(frame, model, members);
        draw_limits(frame, model, limits);
    } else if area.height >= TALL {
        let half = area.height / 4;
        let [keys, _, limits, _, members] = Layout::vertical([
            Constraint::Min(1),
            Constraint::Length(1),
            Constraint::Length(limit_lines(model).min(half)),
            Constraint::Length(1),
            Constraint::Length(member_lines(model).min(half)),
        ])
        .areas(area);
        draw_keys(frame, model, keys);
        draw_limits(frame, model, limits);
        draw_members(frame, model, members);
    } else {
        draw_keys(frame, model, area);
    }
}

/// Who is asked, and how it is.
fn title(model: &Model) -> Line<'static> {
    let mut spans = vec![
        Span::styled("rmbd ", bold()),
        Span::raw(model.server.clone()),
    ];
    match (&model.status, &model.status_error) {
        (_, Some(error)) => {
            spans.push(Span::styled(format!("  {}", printable(error)), model.bad()));
        }
        (None, None) => spans.push(Span::raw("  ...")),
        (Some(status), None) => {
            let is_ready = status.is_ready() && status.failure.is_none();
            let state = if is_ready { "  ready" } else { "  not ready" };
            let style = if is_ready {
                model.accent()
            } else {
                model.bad()
            };
            spans.push(Span::styled(state, style));
            let minutes = status.uptime_s as u64 / 60;
            spans.push(Span::styled(
                format!(
                    "  up {}h{:02}m  {}",
                    minutes / 60,
                    minutes % 60,
                    printable(&status.version)
                ),
                dim(),
            ));
        }
    }
    Line::from(spans)
}

fn rate_line(model: &Model) -> Line<'static> {
    let Some(rates) = model.rates else {
        return Line::styled("rates: a second look is awaited", dim());
    };
    let mut spans = Vec::new();
    for (what, rate) in [
        ("adds", rates.adds),
        ("hits", rates.hits),
        ("over", rates.over),
        ("counts", rates.counts),
    ] {
        let style = match what {
            "over" if rate > 0.0 => model.bad().add_modifier(Modifier::BOLD),
            _ => bold(),
        };
        spans.push(Span::styled(short(rate), style));
        spans.push(Span::raw(format!(" {what}/s  ")));
    }
    Line::from(spans)
}

fn foot_line(model: &Model) -> Line<'static> {
    if model.is_typing {
        let text = printable(&model.filter).to_string();
        return Line::from(vec![
            Span::styled("/", bold()),
            Span::raw(text),
            Span::styled(" ", Style::new().add_modifier(Modifier::REVERSED)),
        ]);
    }
    let mut spans = vec![Span::styled("q", bold()), Span::raw(" quit")];
    for (keys, what) in [
        ("\u{2190}\u{2192}", "window"),
        ("\u{2191}\u{2193}", "sketch"),
        ("/", "filter"),
    ] {
        spans.push(Span::styled(format!("  {keys}"), bold()));
        spans.push(Span::raw(format!(" {what}")));
    }
    Line::from(spans)
}

fn draw_keys(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let [head, note, list] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(u16::from(area.height >= 8)),
        Constraint::Min(0),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(keys_head(model)), head);
    match &model.top {
        None => frame.render_widget(Paragraph::new("asking ..."), list),
        Some(Err(error)) => {
            let text = Line::styled(printable(error).to_string(), model.bad());
            let wrap = ratatui::widgets::Wrap { trim: true };
            frame.render_widget(Paragraph::new(text).wrap(wrap), list);
        }
        Some(Ok(top)) => {
            frame.render_widget(Paragraph::new(Line::styled(worth(top), dim())), note);
            draw_list(frame, model, top, list);
        }
    }
}

/// Which keys these are.
fn keys_head(model: &Model) -> Line<'static> {
    let when = match model.question.window_ms {
        0 => "all time".to_owned(),
        ms => time(ms),
    };
    let sketch = printable(&model.question.sketch).to_string();
    let mut spans = vec![Span::styled(format!("{sketch}, {when}"), bold())];
    if !model.filter.is_empty() && !model.is_typing {
        spans.push(Span::raw(format!("  /{}", printable(&model.filter))));
    }
    Line::from(spans)
}

/// What the list is worth, in one line, with what matters most first.
fn worth(top: &Top) -> String {
    let mut parts = Vec::new();
    if top.redacted {
        parts.push("names not shown, see --show-keys".to_owned());
    }
    if top.incomplete {
        parts.push("incomplete".to_owned());
    }
    if top.age.is_none() {
        parts.push("no list yet".to_owned());
    } else {
        parts.push(format!("N {}", top.total_weight));
        parts.push(match top.complete_above {
            Some(above) => format!("complete above {above}"),
            None => "not complete".to_owned(),
        });
    }
    parts.join(", ")
}

fn draw_list(frame: &mut Frame<'_>, model: &Model, top: &Top, area: Rect) {
    let numbered = top.keys.iter().zip(1_usize..);
    let named = numbered.map(|(key, rank)| (rank, key, name(key, top.redacted)));
    let chosen: Vec<_> = named
        .filter(|(_, _, name)| model.filter.is_empty() || name.contains(&model.filter))
        .take(model.keys.unwrap_or(usize::MAX))
        .collect();
    if chosen.is_empty() {
        let what = match model.filter.is_empty() {
            true => "no keys yet",
            false => "no key has this text",
        };
        frame.render_widget(Paragraph::new(Line::styled(what, dim())), area);
        return;
    }
    let columns = Columns::of(area.width);
    let rows = chosen
        .iter()
        .map(|(rank, key, name)| columns.row(*rank, key, name, top));
    let widest = chosen
        .iter()
        .map(|(_, key, _)| columns.count(key).len())
        .max();
    let mut table = Table::new(rows, columns.widths(widest.unwrap_or_default() as u16));
    if area.height >= HEAD_FROM {
        table = table.header(columns.head().style(dim()));
    }
    frame.render_widget(table, area);
}

/// Which columns of the keys there is room for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Columns {
    All,
    Some,
    /// A count in short, and the key.
    Few,
}

impl Columns {
    fn of(width: u16) -> Self {
        match width {
            COLUMNS_ALL.. => Self::All,
            COLUMNS_SOME.. => Self::Some,
            _ => Self::Few,
        }
    }

    fn count(self, key: &TopKey) -> String {
        match self {
            Self::Few => short(key.estimate as f64),
            _ => key.estimate.to_string(),
        }
    }

    fn head(self) -> Row<'static> {
        match self {
            Self::All => row(["#", "count", "certain", "share"], "key"),
            Self::Some => row(["#", "count", "share"], "key"),
            Self::Few => row(["count"], "key"),
        }
    }

    fn row<'a>(self, rank: usize, key: &TopKey, name: &'a str, top: &Top) -> Row<'a> {
        let (rank, count) = (rank.to_string(), self.count(key));
        let share = share(key.estimate, top.total_weight);
        match self {
            Self::All => row([rank, count, key.certain.to_string(), share], name),
            Self::Some => row([rank, count, share], name),
            Self::Few => row([count], name),
        }
    }

    fn widths(self, count: u16) -> Vec<Constraint> {
        let count = count.max(5);
        let lengths: &[u16] = match self {
            Self::All => &[4, count, count.max(7), 7],
            Self::Some => &[3, count, 7],
            Self::Few => &[count],
        };
        let lengths = lengths.iter().map(|&length| Constraint::Length(length));
        lengths.chain([Constraint::Fill(1)]).collect()
    }
}

/// Numbers to the right, then a text.
fn row<'a, T: Into<String>, const N: usize>(numbers: [T; N], text: &'a str) -> Row<'a> {
    let numbers = numbers.map(|number| Cell::from(Line::from(number.into()).right_aligned()));
    Row::new(numbers.into_iter().chain([Cell::from(text)]))
}

fn member_lines(model: &Model) -> u16 {
    let cluster = model.status.as_ref().map(|status| &status.cluster);
    cluster.map_or(1, |cluster| cluster.members.len() as u16 + 1)
}

fn draw_members(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let Some(status) = &model.status else {
        return;
    };
    let ClusterStatus {
        enabled, members, ..
    } = &status.cluster;
    let alive = members.iter().filter(|it| it.state == "alive").count();
    let head = match (enabled, members.len()) {
        (false, _) => "cluster off".to_owned(),
        (true, 0) => "cluster: alone".to_owned(),
        (true, others) => format!("cluster: {} of {} alive", alive + 1, others + 1),
    };
    let mut lines = vec![Line::styled(head, bold())];
    lines.extend(members.iter().map(|member| {
        let style = match &*member.state {
            "alive" => Style::new(),
            _ => model.bad(),
        };
        let lag = match member.lag_versions {
            0 => String::new(),
            behind => format!("  behind {behind}, {:.1} s", member.lag_s),
        };
        let state = printable(&member.state).to_string();
        let address = printable(&member.address);
        Line::styled(format!("{state:<8} {address}{lag}"), style)
    }));
    frame.render_widget(Paragraph::new(lines), area);
}

fn limit_lines(model: &Model) -> u16 {
    let limits = model
        .status
        .as_ref()
        .map_or(0, |status| status.limits.len());
    if limits == 0 { 0 } else { limits as u16 + 1 }
}

/// The limits, those that were passed most often first.
fn draw_limits(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let Some(status) = model.status.as_ref().filter(|it| !it.limits.is_empty()) else {
        return;
    };
    let mut limits: Vec<&LimitStatus> = status.limits.iter().collect();
    limits.sort_by_key(|limit| std::cmp::Reverse(limit.over));
    let head = row(["asked", "over"], "limit").style(bold());
    let names: Vec<_> = limits
        .iter()
        .map(|limit| printable(&limit.name).to_string())
        .collect();
    let rows = limits.into_iter().zip(&names).map(|(limit, name)| {
        let numbers = [short(limit.asked as f64), short(limit.over as f64)];
        let style = if limit.over > 0 {
            model.bad()
        } else {
            Style::new()
        };
        row(numbers, name).style(style)
    });
    let widths = [
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Fill(1),
    ];
    frame.render_widget(Table::new(rows, widths).header(head), area);
}

/// A number of at most six characters.
fn short(number: f64) -> String {
    for (size, unit) in [
        (1e18, "E"),
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
    ] {
        if number >= size * 10.0 || (number >= size && size > 1e3) {
            let part = number / size;
            let digits = if part < 10.0 {
                2
            } else {
                usize::from(part < 100.0)
            };
            return format!("{part:.digits$}{unit}");
        }
    }
    match number {
        0.1..10.0 if number.fract() > 0.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

impl Model {
    fn accent(&self) -> Style {
        self.color(Color::Cyan)
    }

    fn bad(&self) -> Style {
        self.color(Color::Red)
    }

    fn color(&self, color: Color) -> Style {
        match self.has_colors {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }
}
