//! How the files of a crate depend on each other: no file imports in a circle. A directory's
//! `mod.rs` is its door, and names the rooms behind it: what a door imports from behind it makes no
//! circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The path of a module, from the crate's root on.
type Module = Vec<String>;

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.sort_unstable();
    files
}

/// `kernel/attach/mod.rs` is `kernel::attach`.
fn module(file: &Path) -> Module {
    let path = file.with_extension("");
    let mut parts: Module = path
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    parts.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
    parts
}

/// The paths that a tree such as `a::{b, c::{d, e}}` stands for.
fn paths(tree: &str) -> Vec<Module> {
    let tree = tree.trim();
    let Some((before, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![
            path.split("::")
                .map(|part| part.trim().to_owned())
                .collect(),
        ];
    };
    let group = group
        .strip_suffix('}')
        .unwrap_or_else(|| panic!("no end: {tree}"));
    let before: Module = before
        .split("::")
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect();
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for sign in group.chars() {
        match sign {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(sign);
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts
        .flat_map(|part| paths(part))
        .map(|path| [&before[..], &path[..]].concat())
        .collect()
}

/// What a file imports, as paths from the root on, without what its tests do.
fn imports(text: &str, module: &Module, children: &BTreeSet<String>) -> Vec<Module> {
    let text = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let uses = code.split('\n').enumerate().filter_map(|(number, line)| {
        let declaration = line.split("use ").nth(1)?;
        let visibility = line.split("use ").next()?;
        let is_use =
            visibility.is_empty() || visibility.starts_with("pub") && !visibility.contains('=');
        is_use.then_some((number, declaration))
    });
    let lines: Vec<&str> = code.split('\n').collect();
    let whole = |(number, declaration): (usize, &str)| {
        let mut tree = declaration.to_owned();
        let mut next = number + 1;
        while !tree.contains(';') {
            tree.push_str(lines[next]);
            next += 1;
        }
        tree.split(';').next().unwrap_or_default().to_owned()
    };
    let absolute = |path: Module| -> Option<Module> {
        match path[0].as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([&module[..], &path[1..]].concat()),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                Some([&module[..module.len().checked_sub(ups)?], &path[ups..]].concat())
            }
            first => children
                .contains(first)
                .then(|| [&module[..], &path[..]].concat()),
        }
    };
    uses.map(whole)
        .flat_map(|tree| paths(&tree))
        .filter_map(absolute)
        .collect()
}

/// Which module imports from which. What is re-exported by a door belongs to the file that it comes
/// from.
fn graph(texts: &BTreeMap<Module, String>) -> BTreeMap<Module, BTreeSet<Module>> {
    let children = |module: &Module| -> BTreeSet<String> {
        let below = texts
            .keys()
            .filter(|other| other.len() == module.len() + 1 && other.starts_with(module));
        below.map(|other| other[module.len()].clone()).collect()
    };
    let all: BTreeMap<&Module, Vec<Module>> = texts
        .iter()
        .map(|(module, text)| (module, imports(text, module, &children(module))))
        .collect();
    let owner = |path: &Module| -> Option<Module> {
        let mut path = path.clone();
        // as often as a re-export may be re-exported
        for _ in 0..4 {
            let door = (0..=path.len())
                .rev()
                .map(|length| path[..length].to_vec())
                .find(|part| texts.contains_key(part))?;
            let item = path.get(door.len())?.clone();
            let from = all[&door]
                .iter()
                .find(|import| import.last() == Some(&item) && import.starts_with(&door));
            match from {
                Some(from) if *from != path => path = from.clone(),
                _ => return Some(door),
            }
        }
        None
    };
    let of = |(module, imports): (&&Module, &Vec<Module>)| {
        let whole = imports.iter().filter_map(|path| {
            if texts.contains_key(path) {
                Some(path.clone())
            } else {
                owner(path)
            }
        });
        // a door and what is behind it
        let others = whole.filter(|other| other != *module && !other.starts_with(module));
        ((*module).clone(), others.collect())
    };
    all.iter().map(of).collect()
}

/// A circle, if there is one.
fn circle(graph: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    fn visit(
        graph: &BTreeMap<Module, BTreeSet<Module>>,
        at: &Module,
        done: &mut BTreeSet<Module>,
        way: &mut Vec<Module>,
    ) -> Option<Vec<Module>> {
        if let Some(start) = way.iter().position(|before| before == at) {
            return Some(way[start..].to_vec());
        }
        if !done.insert(at.clone()) {
            return None;
        }
        way.push(at.clone());
        let found = graph
            .get(at)
            .into_iter()
            .flatten()
            .find_map(|next| visit(graph, next, done, way));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    graph
        .keys()
        .find_map(|module| visit(graph, module, &mut done, &mut Vec::new()))
}

fn named(circle: &[Module]) -> Vec<String> {
    circle.iter().map(|module| module.join("::")).collect()
}

/// The files of a crate by their modules; programs have a root of their own.
fn texts(root: &Path) -> BTreeMap<Module, String> {
    let mut texts = BTreeMap::new();
    for file in files(root) {
        let text = fs::read_to_string(&file).unwrap();
        let inside = file.strip_prefix(root).unwrap();
        if !inside.starts_with("bin") {
            texts
                .entry(module(inside))
                .and_modify(|both: &mut String| both.push_str(&text))
                .or_insert(text);
        }
    }
    texts
}

/// Directories of `directory` that are a crate each: programs and tests of several files.
fn crates(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.join("main.rs").exists()).collect()
}

#[test]
fn no_file_imports_in_a_circle() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (directory, least) in [("daemon/src", 100), ("ebpf/src", 40), ("tests/src", 50)] {
        let texts = texts(&workspace.join(directory));
        assert!(texts.len() >= least, "{directory}: {} files", texts.len());
        let graph = graph(&texts);
        let arrows: usize = graph.values().map(BTreeSet::len).sum();
        assert!(
            arrows >= 2 * least,
            "{directory}: only {arrows} imports were found"
        );
        let found = circle(&graph).map(|circle| named(&circle));
        assert!(found.is_none(), "{directory}: {found:?}");
    }
    let several = ["tests/src/bin", "tests/tests"].map(|below| crates(&workspace.join(below)));
    assert!(
        several.iter().all(|crates| crates.len() >= 3),
        "{several:?}"
    );
    let found: Vec<_> = several
        .concat()
        .into_iter()
        .filter_map(|root| Some((circle(&graph(&texts(&root)))?, root)))
        .map(|(circle, root)| format!("{}: {:?}\n", root.display(), named(&circle)))
        .collect();
    assert!(found.is_empty(), "{}", found.concat());
}

#[test]
fn circles_are_seen() {
    let by_module = |files: &[(&str, &str)]| -> BTreeMap<Module, String> {
        files
            .iter()
            .map(|(file, text)| (module(Path::new(file)), (*text).to_owned()))
            .collect()
    };
    let found =
        |files: &[(&str, &str)]| circle(&graph(&by_module(files))).map(|circle| named(&circle));
    let ring = [
        ("a.rs", "use crate::b::{One, two};\n"),
        ("b.rs", "use super::c;\n"),
        ("c.rs", "use crate::{\n    a::X,\n};\n"),
    ];
    assert_eq!(
        found(&ring),
        Some(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()])
    );
    // what a door shows comes from the room behind it
    let door = [
        ("lib.rs", "mod room;\n"),
        ("room/mod.rs", "mod table;\npub use table::Table;\n"),
        ("room/table.rs", "use crate::hall::Hall;\n"),
        ("hall.rs", "use crate::room::Table;\n"),
    ];
    assert_eq!(
        found(&door),
        Some(vec!["hall".to_owned(), "room::table".to_owned()])
    );
    assert_eq!(found(&door[..3]), None);
    assert_eq!(
        found(&[
            ("room/mod.rs", "use table::Table;\n"),
            ("room/table.rs", "use super::Room;\n")
        ]),
        None
    );
}
