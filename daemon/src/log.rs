//! The daemon's log: lines of text, JSON, or entries of the journal with fields. Each line has an
//! `event`, one of a few words that never change, and the names of the objects that it is about.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display};
use std::path::Path;
use std::sync::OnceLock;

use serde::Serialize;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, event};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{self as lines, FmtContext};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::about::About;
use crate::diagnostic::{Diagnostic, locate, render};
use crate::journal;
use crate::printable::printable;
use crate::report::bounded;

/// How lines look that do not go to the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people; the journal gets its own fields.
    Text,
    /// One JSON object a line.
    Json,
}

/// What diagnostics are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sink {
    /// Blocks of lines, as `check` prints them.
    Lines,
    /// An entry of several lines each, with fields.
    Journal,
    /// An object each.
    Json,
}

static SINK: OnceLock<Sink> = OnceLock::new();

/// Begins the log. To be called once.
pub fn begin(level: Level, format: Format) {
    let level = LevelFilter::from_level(level);
    let text = || {
        lines::fmt()
            .with_max_level(level)
            .with_writer(journal::Log)
            .log_internal_errors(false)
            .with_target(false)
            .with_ansi(false)
            // the fields are for programs
            .fmt_fields(format::debug_fn(|writer, field, value| {
                if field.name() == MESSAGE {
                    writer.write_str(&printable(&format!("{value:?}")))
                } else {
                    Ok(())
                }
            }))
    };
    // without the socket the lines still have priorities
    let native = (format == Format::Text && journal::is_ours())
        .then(tracing_journald::layer)
        .and_then(Result::ok);
    let sink = match (format, native) {
        (Format::Json, _) => {
            text().event_format(JsonLine).init();
            Sink::Json
        }
        (Format::Text, Some(layer)) => {
            let layer = layer
                .with_field_prefix(None)
                .with_syslog_identifier(env!("CARGO_PKG_NAME").to_owned())
                .with_priority_mappings(PRIORITIES);
            tracing_subscriber::registry()
                .with(level)
                .with(layer)
                .init();
            Sink::Journal
        }
        // the journal adds the time itself
        (Format::Text, None) if journal::is_ours() => {
            text().without_time().init();
            Sink::Lines
        }
        (Format::Text, None) => {
            text().init();
            Sink::Lines
        }
    };
    let _ = SINK.set(sink);
}

/// As in journal.rs.
const PRIORITIES: PriorityMappings = PriorityMappings {
    error: Priority::Error,
    warn: Priority::Warning,
    info: Priority::Informational,
    debug: Priority::Debug,
    trace: Priority::Debug,
};

/// The field with the text of a line.
const MESSAGE: &str = "message";

/// Logs a line about objects of the file.
pub fn tell(level: Level, event: &'static str, about: &About, text: impl Display) {
    let About {
        filter,
        endpoint,
        interface,
    } = about;
    let (filter, endpoint, interface) =
        (filter.as_deref(), endpoint.as_deref(), interface.as_deref());
    // the level is part of what the macro makes static
    macro_rules! at {
        ($level:expr) => {
            event!($level, event, filter, endpoint, interface, "{text}")
        };
    }
    match level {
        Level::ERROR => at!(Level::ERROR),
        Level::WARN => at!(Level::WARN),
        Level::INFO => at!(Level::INFO),
        _ => at!(Level::DEBUG),
    }
}

/// Tells why the program ends, as all lines before if the log has begun.
pub fn failed(reason: &str) {
    match SINK.get() {
        None | Some(Sink::Lines) => journal::say(Level::ERROR, &format!("error: {reason}\n")),
        _ => tell(Level::ERROR, "failed", &About::default(), reason),
    }
}

/// Logs what is wrong with the file, or odd about it. All of `found` are of one level.
pub fn diagnostics(level: Level, path: &Path, text: &str, found: &[Diagnostic]) {
    if found.is_empty() || LevelFilter::current() < level {
        return;
    }
    let (shown, more) = bounded(found, "diagnostic");
    let path = path.display().to_string();
    let sink = SINK.get().copied().unwrap_or(Sink::Lines);
    if sink == Sink::Lines {
        journal::say(level, &render(shown, &path, text, false));
    } else {
        for (diagnostic, located) in shown.iter().zip(locate(shown, text)) {
            let message = match sink {
                Sink::Journal => render(std::slice::from_ref(diagnostic), &path, text, false),
                _ => located.message.to_owned(),
            };
            let (code, line, column, help) =
                (located.code, located.line, located.column, located.help);
            macro_rules! at {
                ($level:expr) => {
                    event!(
                        $level,
                        event = "diagnostic",
                        code,
                        file = path,
                        line,
                        column,
                        help,
                        "{}",
                        message.trim_end()
                    )
                };
            }
            if level == Level::ERROR {
                at!(Level::ERROR)
            } else {
                at!(Level::WARN)
            }
        }
    }
    if let Some(line) = more {
        tell(level, "diagnostic", &About::default(), line);
    }
}

/// One JSON object for each event.
struct JsonLine;

#[derive(Serialize)]
struct Object<'a> {
    /// UTC, RFC 3339.
    time: String,
    level: &'a str,
    #[serde(flatten)]
    fields: Fields,
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        let object = Object {
            time,
            level: &event.metadata().level().as_str().to_ascii_lowercase(),
            fields,
        };
        let line = serde_json::to_string(&object).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

/// The fields of an event, the message among them.
#[derive(Default, Serialize)]
#[serde(transparent)]
struct Fields(BTreeMap<&'static str, Value>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}").into());
    }
}
