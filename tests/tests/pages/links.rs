//! Each link of a page leads to a file and a heading that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::{pages, slug, workspace};

/// The lines of a page that are text, not code between fences.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence && !line.starts_with("    ")
    })
}

/// The anchors of a page: each heading's, with a number where several are the same.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    let headings = prose(page).filter_map(|line| {
        Some(line.trim_start_matches('#')).filter(|rest| rest.len() < line.len())
    });
    let titles = headings.filter_map(|rest| rest.strip_prefix(' '));
    titles
        .map(|title| {
            let slug = slug(title);
            let times = count.entry(slug.clone()).or_default();
            *times += 1;
            if *times == 1 {
                slug
            } else {
                format!("{slug}-{}", *times - 1)
            }
        })
        .collect()
}

/// Where the links and pictures of a page lead.
fn links(page: &str) -> Vec<&str> {
    let mut links = Vec::new();
    for line in prose(page) {
        // what is in backticks is no link
        for text in line.split('`').step_by(2) {
            links.extend(
                text.split("](")
                    .skip(1)
                    .filter_map(|rest| rest.split(')').next()),
            );
        }
        // the text of a link may be code
        for rest in line.split("`](").skip(1) {
            links.extend(rest.split(')').next());
        }
    }
    links.sort_unstable();
    links.dedup();
    links
}

/// Why a link of a page leads nowhere; `content` answers the text of a page, or `None` if there is
/// no such file.
fn dead(
    from: &Path,
    page: &str,
    link: &str,
    content: impl Fn(&Path) -> Option<String>,
) -> Option<String> {
    if link.starts_with("https://") || link.starts_with("http://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link
        .split_once('#')
        .map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = if path.is_empty() {
        Some(page.to_owned())
    } else {
        content(&from.parent()?.join(path))
    };
    let Some(target) = target else {
        return Some(format!("{}: {link}: no such file", from.display()));
    };
    let has = |anchor: &str| anchors(&target).contains(anchor);
    anchor
        .filter(|anchor| !has(anchor))
        .map(|_| format!("{}: {link}: no such heading", from.display()))
}

#[test]
fn each_link_leads_somewhere() {
    let content = |path: &Path| {
        let path = workspace().join(path);
        path.exists()
            .then(|| fs::read_to_string(path).unwrap_or_default())
    };
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (path, page) in pages() {
        for link in links(&page) {
            wrong.extend(dead(&path, &page, link, content));
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 30, "only {count} links were found");
}

#[test]
fn a_link_that_leads_nowhere_is_noticed() {
    let page = "# One & two\n[a](b.md) ![p](p.svg) `[no](x.md)` [`c`](#one--two)\n```\n[no](y.md)\n# No\n```\n    [no](z.md)\n# Same\n# Same\n[d](https://example.com)\n";
    assert_eq!(
        links(page),
        ["#one--two", "b.md", "https://example.com", "p.svg"]
    );
    assert_eq!(
        anchors(page),
        ["one--two", "same", "same-1"].map(str::to_owned).into()
    );
    let content = |path: &Path| (path == Path::new("docs/b.md")).then(|| "# Title".to_owned());
    let dead = |link: &str| dead(Path::new("docs/a.md"), page, link, content).is_some();
    assert!(
        !dead("b.md") && !dead("b.md#title") && !dead("#same-1") && !dead("https://example.com")
    );
    assert!(dead("c.md") && dead("b.md#other") && dead("#same-2"));
}
