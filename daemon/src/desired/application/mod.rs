//! Applications: units of systemd, paths of cgroups, and globs over both. What is wrong is told
//! with what to write, and what is proposed is always right as it stands.

mod remedy;
mod unit_name;

use glob::Pattern as Glob;

use super::name::is_glob;
use super::problem::Problem;
use crate::cgroup::Pattern;
use crate::diagnostic::{Code, Remedy, quoted};
use remedy::{proposal, several};
use unit_name::{IDLE_KINDS, KINDS, may_be_in_unit, parent_slice};

/// Longest text of an application, bytes.
const MAX_BYTES: usize = 1024;

/// Directories below the root of a file system. No cgroup below the root is called so.
const FILES: [&str; 19] = [
    "bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "media", "mnt", "opt", "proc",
    "root", "run", "sbin", "srv", "sys", "usr", "var",
];

/// What an application is.
const NOTE: &str = "an application is a unit of systemd or the path of a cgroup, with all cgroups \
                    below it; \"systemctl status PID\" shows both for a process";

/// Why a text is no application, without what to write.
struct Wrong {
    code: Code,
    cause: String,
    /// If nothing can be proposed.
    advice: String,
}

impl Wrong {
    fn new(cause: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            code: CODE,
            cause: cause.into(),
            advice: advice.into(),
        }
    }

    fn glob(cause: &str, advice: &str) -> Self {
        Self {
            code: Code::BadGlob,
            ..Self::new(cause, advice)
        }
    }
}

/// What scripts match on.
const CODE: Code = Code::BadApplication;

/// One element of `application`: a unit such as `nginx.service`, or the path of a cgroup such as
/// `/system.slice/nginx.service`, which may begin without its slash. `*`, `?` and `[...]` stand
/// for characters, in a path of one directory.
pub(super) fn application(text: &str) -> Result<Pattern, Problem> {
    if text.is_empty() {
        return Err(Problem::new(
            Code::EmptyName,
            "which is empty",
            "write a unit such as \"nginx.service\"",
        ));
    }
    parse(text).map_err(|wrong| {
        let is_right = |one: &str| parse(one).is_ok();
        let (help, note) = if let Some(all) = several(text, is_right) {
            let all: Vec<String> = all.iter().map(|one| quoted(one)).collect();
            (Remedy::write(all.join(", ")), None)
        } else if let Some(one) = proposal(text).filter(|one| is_right(one)) {
            (Remedy::write_string(one), None)
        } else {
            (Remedy::from(wrong.advice), Some(NOTE.to_owned()))
        };
        Problem {
            code: wrong.code,
            cause: wrong.cause,
            help,
            note,
        }
    })
}

/// One application as the file has it; the error says what is wrong and what to write.
///
/// # Errors
/// It is none.
pub fn parsed(text: &str) -> Result<Pattern, String> {
    application(text).map_err(|problem| format!("{text:?}, {}; {}", problem.cause, problem.help))
}

/// Sorted, without duplicates: `system.slice/a.service` and `/system.slice/a.service` are one.
pub(super) fn normalized(mut patterns: Vec<Pattern>) -> Vec<Pattern> {
    patterns.sort();
    patterns.dedup();
    patterns
}

fn parse(text: &str) -> Result<Pattern, Wrong> {
    if text.len() > MAX_BYTES {
        return Err(Wrong::new(
            format!("which is {} bytes long", text.len()),
            format!("write at most {MAX_BYTES} bytes, with \"*\" in place of names"),
        ));
    }
    if text.starts_with('!') {
        return Err(Wrong::new(
            "but a \"!\" does not exclude",
            "write it in a filter with action = \"exclude\"",
        ));
    }
    // systemd escapes them (systemd-escape(1)), and the kernel allows no line feed
    let is_bad = |c: &char| c.is_whitespace() || c.is_control() || matches!(c, ',' | ';' | '"');
    if let Some(bad) = text.chars().find(is_bad) {
        return Err(Wrong::new(
            format!("but no application has {bad:?} in its name"),
            "write one unit or cgroup in each string of the list",
        ));
    }
    if text.contains('/') {
        path(text)
    } else {
        unit(text)
    }
}

fn unit(text: &str) -> Result<Pattern, Wrong> {
    let example = "write a unit such as \"nginx.service\", or a path such as \
                   \"/system.slice/nginx.service\"";
    let stem = match text.rsplit_once('.') {
        Some((stem, kind)) if KINDS.contains(&kind) => stem,
        Some((_, kind)) if IDLE_KINDS.contains(&kind) => {
            return Err(Wrong::new(
                format!("but a {kind} has no processes"),
                "write the services that it starts",
            ));
        }
        _ => return Err(nothing(text, example)),
    };
    if stem.is_empty() {
        return Err(Wrong::new("which has no name before its type", example));
    }
    if text == "-.slice" {
        return Err(Wrong::new("which systemd has for the root", example));
    }
    if stem.ends_with('@') {
        return Err(Wrong::new(
            "which is a template, and none of its instances",
            "write an instance, or \"*\" for all",
        ));
    }
    if let Some(bad) = stem.chars().find(|c| !may_be_in_unit(*c)) {
        return Err(Wrong::new(
            format!("but no unit has {bad:?} in its name"),
            "write the name that \"systemctl list-units\" shows",
        ));
    }
    Ok(Pattern::unit(glob(text)?))
}

/// A text without a slash that has no type of unit.
fn nothing(text: &str, example: &str) -> Wrong {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return process(text);
    }
    Wrong::new("which is neither a unit nor the path of a cgroup", example)
}

/// The number of a process.
fn process(number: &str) -> Wrong {
    Wrong::new(
        "which is one process, and the next has another number",
        format!("write the unit that \"systemctl status {number}\" shows"),
    )
}

fn path(text: &str) -> Result<Pattern, Wrong> {
    let example = "write the path from the root of the hierarchy on, such as \
                   \"/system.slice/nginx.service\"";
    if text == "/" {
        return Ok(Pattern::path(Vec::new()));
    }
    let components: Vec<&str> = text.strip_prefix('/').unwrap_or(text).split('/').collect();
    if components.iter().any(|one| one.is_empty()) {
        return Err(Wrong::new("but a \"/\" has nothing behind it", example));
    }
    if let Some(dots) = components.iter().find(|one| matches!(**one, "." | "..")) {
        return Err(Wrong::new(
            format!("but no cgroup is called {dots:?}"),
            example,
        ));
    }
    if let ["proc", number, ..] = components[..]
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(process(number));
    }
    if text.starts_with('/') && FILES.contains(&components[0]) {
        let name = components.last().copied().unwrap_or_default();
        return Err(Wrong::new(
            "which is the path of a file, not of a cgroup",
            format!("write the unit that runs it, such as \"{name}.service\""),
        ));
    }
    if components[0].ends_with(':') {
        return Err(Wrong::new(
            format!("but no cgroup is called {:?}", components[0]),
            example,
        ));
    }
    if components.contains(&"**") {
        return Err(Wrong::glob(
            "but \"**\" means nothing, as each \"*\" is one directory",
            "write one \"*\" for each directory, as in \"/*/*/docker-*.scope\"",
        ));
    }
    if let Some((slice, above)) = misplaced(&components) {
        return Err(Wrong::new(
            format!("but systemd has {slice:?} below {above:?}"),
            example,
        ));
    }
    let globs = components.into_iter().map(glob);
    Ok(Pattern::path(globs.collect::<Result<_, _>>()?))
}

fn glob(text: &str) -> Result<Glob, Wrong> {
    if text.contains("**") {
        return Err(Wrong::glob(
            "but \"**\" means nothing in a name",
            "write one \"*\"",
        ));
    }
    // "**" apart, a class that does not end is all that can be wrong
    Glob::new(text).map_err(|_| {
        Wrong::glob(
            "which has a \"[\" without its \"]\"",
            "write the characters that may stand there, as in \"web-[0-3].service\"",
        )
    })
}

/// A slice that is not below the one whose name is the beginning of its own, and that one
/// (systemd.slice(5)). What is below a glob may be anything.
fn misplaced<'a>(components: &[&'a str]) -> Option<(&'a str, String)> {
    components.iter().enumerate().find_map(|(index, slice)| {
        let above = parent_slice(slice)?;
        let before = index.checked_sub(1).map(|before| components[before]);
        let is_right = before.is_some_and(|before| before == above || is_glob(before));
        (!is_right).then_some((*slice, above))
    })
}

#[cfg(test)]
mod tests;
