//! The files of code that pages name are there, and the configurations that they show are right.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::{files, pages};

/// Files of code that a page names, be it by the end of their path.
fn named_files(page: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let words = page
        .split(|c: char| !is_part(c))
        .map(|word| word.trim_end_matches('.'));
    let words = words
        .map(|word| word.trim_start_matches("../"))
        .filter(|word| word.ends_with(".rs"));
    words.filter(|word| *word != ".rs").collect()
}

/// Those that are not there.
fn lost_files<'n>(named: &BTreeSet<&'n str>, there: &[PathBuf]) -> Vec<&'n str> {
    named
        .iter()
        .filter(|name| !there.iter().any(|path| path.ends_with(name)))
        .copied()
        .collect()
}

#[test]
fn the_files_that_pages_name_are_there() {
    let there = files(Path::new(""), "rs");
    let mut count = 0;
    for (path, page) in pages() {
        let named = named_files(&page);
        let lost = lost_files(&named, &there);
        assert!(
            lost.is_empty(),
            "{path:?} names files that are not there: {lost:#?}"
        );
        count += named.len();
    }
    assert!(count > 30, "only {count} files are named");
}

#[test]
fn a_file_that_is_gone_is_noticed() {
    let page = "In `a/b.rs` and (c.rs), see ../d/e.rs::f and g.rs. No .rs";
    let named = named_files(page);
    assert_eq!(named, ["a/b.rs", "c.rs", "d/e.rs", "g.rs"].into());
    let there = ["x/a/b.rs", "x/ac.rs", "d/e.rs", "y/g.rs"].map(PathBuf::from);
    assert_eq!(lost_files(&named, &there), ["c.rs"]);
}

/// The blocks of a language in a page.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let fence = format!("```{language}\n");
    page.split(&*fence)
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect()
}

#[test]
fn the_files_that_pages_show_are_right() {
    let mut count = 0;
    for (path, page) in pages() {
        for text in blocks(&page, "toml")
            .into_iter()
            .filter(|text| text.contains("[[interface]]"))
        {
            let loaded = traffic_mirror::desired::load_bytes(text.as_bytes());
            let render = |problems: &[_]| {
                traffic_mirror::diagnostic::render(
                    problems,
                    &path.display().to_string(),
                    text,
                    false,
                )
            };
            let (_, warnings) = loaded.unwrap_or_else(|errors| panic!("{}", render(&errors)));
            assert!(warnings.is_empty(), "{}", render(&warnings));
            count += 1;
        }
    }
    assert!(count > 0, "no page shows a file");
}
