//! Rules of the house that a compiler does not check.

use std::fs;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| sources(&path))
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect()
}

/// What a pure module must not name: the kernel, the file system, the clock.
const IMPURE: &[&str] = &[
    "aya::",
    "nix::",
    "libc::",
    "netlink_",
    "crate::kernel",
    "std::fs",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::process",
    "std::env",
    "Instant",
    "SystemTime",
    "std::thread",
];

fn impurities(text: &str) -> Vec<&'static str> {
    let code = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    let code: String = code.flat_map(|line| [line, "\n"]).collect();
    IMPURE
        .iter()
        .copied()
        .filter(|word| code.contains(word))
        .collect()
}

#[test]
fn pure_modules_know_neither_kernel_nor_clock_nor_files() {
    let pure = [
        "about.rs",
        "attached.rs",
        "cgroup/absence.rs",
        "cgroup/error.rs",
        "cgroup/hierarchy.rs",
        "cgroup/limits.rs",
        "cgroup/matcher.rs",
        "cgroup/pattern.rs",
        "cgroup/state.rs",
        "chain.rs",
        "compile",
        "config",
        "desired",
        "diagnostic",
        "health",
        "ipsec.rs",
        "metrics/endpoints.rs",
        "metrics/mod.rs",
        "metrics/process.rs",
        "network.rs",
        "obstacle.rs",
        "plan.rs",
        "preview",
        "quic",
        "reconciled.rs",
        "report",
        "tables",
        "verdict",
    ];
    let mut checked = 0;
    for path in pure
        .iter()
        .flat_map(|name| sources(&workspace().join("daemon/src").join(name)))
    {
        let found = impurities(&fs::read_to_string(&path).unwrap());
        assert!(found.is_empty(), "{} names {found:?}", path.display());
        checked += 1;
    }
    assert!(checked > 20, "only {checked} files were found");
}

#[test]
fn the_check_for_purity_sees_what_it_should() {
    assert_eq!(
        impurities("use std::fs;\nlet now = Instant::now();"),
        ["std::fs", "Instant"]
    );
    assert!(impurities("// the file system is not for std::fs here").is_empty());
}

#[test]
fn only_the_kernel_module_imports_aya() {
    for path in sources(&workspace().join("daemon/src")) {
        let kernel = path.components().any(|part| part.as_os_str() == "kernel");
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            kernel || !text.contains("aya::"),
            "{} imports aya",
            path.display()
        );
    }
}

#[test]
fn the_shipped_examples_are_valid() {
    for path in ["etc/mirror.toml", "packaging/deb/mirror.toml"] {
        let bytes = fs::read(workspace().join(path)).unwrap();
        let loaded = traffic_mirror::desired::load_bytes(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let render = |d: &[_]| traffic_mirror::diagnostic::render(d, path, &text, false);
        let (_, warnings) = loaded.unwrap_or_else(|errors| panic!("{}", render(&errors)));
        assert!(warnings.is_empty(), "{}", render(&warnings));
    }
}

/// The layout of the maps without comments, blanks and tests.
fn layout() -> u64 {
    let source = workspace().join("ebpf/src");
    let mut files = sources(&source.join("abi"));
    files.sort_unstable();
    let code = [source.join("bpf/maps.rs")]
        .into_iter()
        .chain(files)
        .map(|path| {
            let text = fs::read_to_string(path).unwrap();
            let text = text
                .split("#[cfg(test)]")
                .next()
                .unwrap_or_default()
                .to_owned();
            let lines = text.lines().filter(|line| !line.contains("const LAYOUT"));
            lines
                .map(|line| {
                    line.split("//")
                        .next()
                        .unwrap_or_default()
                        .trim()
                        .to_owned()
                })
                .collect::<String>()
        });
    // FNV-1a
    code.collect::<String>()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

#[test]
fn another_layout_has_another_version() {
    const KNOWN: (u32, u64) = (13, 0xaec7_f290_198e_8005);
    let found = (traffic_mirror_ebpf::abi::LAYOUT, layout());
    assert!(
        found == KNOWN,
        "{found:#x?}: raise LAYOUT in abi.rs if the layout has changed, and write both here"
    );
}

/// The test functions that the list of faults names, with the files that they are in.
fn named_faults(text: &str) -> Vec<(String, String)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter_map(|code| code.split_once(".rs::"))
        .map(|(file, test)| (format!("{file}.rs"), test.to_owned()))
        .collect()
}

#[test]
fn each_fault_has_a_section_and_its_tests_exist() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(tests.join("FAULTS.md")).unwrap();
    let named = named_faults(&text);
    assert!(named.len() > 60, "only {} tests are named", named.len());
    for (file, test) in &named {
        let source =
            fs::read_to_string(tests.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(
            source.contains(&format!("#[test]\nfn {test}("))
                || source.contains(&format!("#[test]\n    fn {test}("))
                // a row of a table, which a macro makes a test of
                || source.contains(&format!("\n    {test} => ")),
            "{file} has no test {test}"
        );
    }
    let (wrong, count) = unproved_faults(&text);
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(count >= 79, "only {count} faults");
}

/// What is wrong with the sections, one for each fault and in order; and how many they are.
fn unproved_faults(text: &str) -> (Vec<String>, usize) {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for section in text.split("\n## ").skip(1) {
        count += 1;
        if !section.starts_with(&format!("F{count}: ")) {
            wrong.push(format!(
                "F{count} has no section, or another stands in its place"
            ));
        }
        let missing = ["**Fault:** ", "**Cure:** "]
            .into_iter()
            .find(|part| !section.contains(part));
        wrong.extend(missing.map(|part| format!("F{count} has no {part}")));
        if !section.contains(".rs::") && !section.contains("\nNo test") {
            wrong.push(format!("F{count} has neither a test nor a reason"));
        }
    }
    (wrong, count)
}

#[test]
fn a_fault_without_a_test_or_a_section_is_noticed() {
    let good = "\n## F1: One\n\n**Fault:** a\n\n**Cure:** b\n\n- `tests/a.rs::b`\n";
    assert_eq!(unproved_faults(good), (Vec::new(), 1));
    let wrong = unproved_faults(&format!("{good}\n## F3: Three\n\n**Fault:** a\n")).0;
    assert_eq!(wrong.len(), 3, "{wrong:?}");
}

#[test]
fn the_list_of_faults_is_read_as_it_is_written() {
    let text = "`tests/house.rs::one`, `make bench` and `../daemon/src/report.rs::two`";
    let expected = [
        ("tests/house.rs", "one"),
        ("../daemon/src/report.rs", "two"),
    ];
    assert_eq!(
        named_faults(text),
        expected.map(|(file, test)| (file.to_owned(), test.to_owned()))
    );
}

/// Words of our own that had a standard term in their place: see the glossary in ARCHITECTURE.md.
const RETIRED: &[(&str, &str)] = &[
    ("lane", "segmenter"),
    ("fuse", "circuit breaker"),
    ("blown", "tripped"),
    ("unseen", "skipped"),
    ("parcel", "clone request"),
    ("gardener", "trie writer"),
    ("planter", "trie builder"),
    ("blueprint", "source"),
    ("parity", "bank"),
    ("kin", "lookup"),
    ("recall", "fragment cache"),
    ("twin", "reverse"),
    ("seat", "position"),
    ("spot", "anchor"),
    ("ticket", "sequence number"),
];

/// Where they may stand: pins of earlier versions have them in their names, and this list.
const RETIRED_IN: &[&str] = &[
    "daemon/src/kernel/claim/earlier.rs",
    "tests/tests/daemon/segmenter.rs",
    "tests/tests/house.rs",
];

/// The words of names and of prose, in small letters; of `is_a_Word` and `aWord`, too. Words in
/// capitals are constants or the names of others.
fn words(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split(|c: char| !c.is_ascii_alphabetic());
    parts.flat_map(|part| {
        let mut found: Vec<String> = Vec::new();
        let mut before = ' ';
        for letter in part.chars() {
            if found.is_empty() || letter.is_ascii_uppercase() && before.is_ascii_lowercase() {
                found.push(String::new());
            }
            found.last_mut().expect("there is one").push(letter);
            before = letter;
        }
        found.retain(|word| {
            word.chars()
                .skip(1)
                .all(|letter| letter.is_ascii_lowercase())
        });
        found.into_iter().map(|word| word.to_ascii_lowercase())
    })
}

fn retired(text: &str) -> Vec<(String, &'static str)> {
    let one = |word: String| {
        let is_it = |old: &str| word == old || word.strip_suffix('s') == Some(old);
        let (_, new) = RETIRED.iter().find(|(old, _)| is_it(old))?;
        Some((word, *new))
    };
    words(text).filter_map(one).collect()
}

#[test]
fn retired_words_do_not_come_back() {
    let places = [
        "daemon",
        "ebpf",
        "tests",
        "docs",
        "etc",
        "packaging",
        "systemd",
    ];
    let pages = fs::read_dir(workspace())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|e| e == "md"));
    let below = places
        .iter()
        .flat_map(|place| texts(&workspace().join(place)));
    let mut checked = 0;
    for path in below.chain(pages) {
        let name = path.strip_prefix(workspace()).unwrap();
        if RETIRED_IN.iter().any(|there| Path::new(there) == name) {
            continue;
        }
        let found = retired(&fs::read_to_string(&path).unwrap());
        assert!(found.is_empty(), "{} has {found:?}", name.display());
        checked += 1;
    }
    assert!(checked > 400, "only {checked} files were found");
}

/// Files that people write, below a directory.
fn texts(path: &Path) -> Vec<PathBuf> {
    const WRITTEN: [&str; 8] = ["rs", "md", "toml", "sh", "service", "yaml", "yml", "conf"];
    if path.is_file() {
        let is_text = path
            .extension()
            .is_some_and(|e| WRITTEN.iter().any(|known| e == *known));
        return Vec::from_iter(is_text.then(|| path.to_owned()));
    }
    let is_made = |path: &Path| path.ends_with("target") || path.ends_with("tests/golden");
    let entries = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| !is_made(path))
        .flat_map(|path| texts(&path))
        .collect()
}

#[test]
fn a_retired_word_is_noticed_wherever_it_stands() {
    let names = [
        "Lane",
        "has_lane",
        "the_lanes",
        "hasLane",
        "a lane.",
        "`lane`",
    ];
    for name in names {
        assert_eq!(retired(name).len(), 1, "{name}");
    }
    for name in [
        "planet",
        "FUSE",
        "the airlane",
        "refuse",
        "kind",
        "spotless",
        "recalled",
    ] {
        assert_eq!(retired(name), [], "{name}");
    }
}
