//! The configuration file, as its users meet it: each file of `golden/config` and what the daemon
//! makes of it. `BLESS=1` writes the expectations anew; their diff is reviewed like code.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

use traffic_mirror::attached::Attached;
use traffic_mirror::cgroup::Tree;
use traffic_mirror::chain::{Chain, Entry};
use traffic_mirror::desired::{self, Action, Desired, Filter, Order, Published, Undecided};
use traffic_mirror::diagnostic::{Code, Diagnostic, Severity, locate, render};
use traffic_mirror::network::Direction;
use traffic_mirror::preview::preview;
use traffic_mirror_resolver::Names;
use traffic_mirror_tests::oracle::configuration;
use traffic_mirror_tests::oracle::maps::Maps;

/// The parsed files of `golden/config/<kind>`, by name.
fn files(kind: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden/config")
        .join(kind);
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", directory.display());
    files
}

/// Compares with the `.txt` beside the file, or writes it.
fn assert_golden(file: &Path, got: &str) {
    let expectation = file.with_extension("txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&expectation, got).unwrap();
        return;
    }
    let want = fs::read_to_string(&expectation).unwrap_or_default();
    assert!(
        want == got,
        "{} differs; after a look at it run `make bless`\n--- want\n{want}--- got\n{got}",
        expectation.display()
    );
}

fn rendered(file: &Path, bytes: &[u8], diagnostics: &[Diagnostic]) -> String {
    let name = file.file_name().unwrap().to_string_lossy();
    render(diagnostics, &name, &String::from_utf8_lossy(bytes), false)
}

/// What is wrong with a file, or odd about it, on a host with the interfaces of [`HOST`] if it is
/// about the host.
fn found(file: &Path, bytes: &[u8]) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let (_, mut warnings) = desired::load_bytes(bytes)?;
    let is_of = |code: Code| file.file_stem().is_some_and(|name| name == code.as_str());
    let text = String::from_utf8_lossy(bytes);
    if is_of(Code::AbsentInterface) {
        warnings.extend(desired::absent(&text, &HOST));
    }
    if is_of(Code::UnresolvedName) {
        let known = Names::parse(NAMES).expect("a valid file");
        warnings.extend(desired::unresolved(&text, &known));
    }
    let about_cgroups = [Code::AbsentApplication, Code::SocketUnit].map(Code::as_str);
    if file
        .file_stem()
        .is_some_and(|name| about_cgroups.iter().any(|code| name == *code))
    {
        let text = String::from_utf8_lossy(bytes);
        warnings.extend(desired::absent_applications(&text, &cgroups()));
    }
    Ok(warnings)
}

const NAMES: &str = r#"
version = 1
[names."www.example.com"]
addresses = [{ address = "198.51.100.7", answered = 0, until = 3600 }]
[names."wwww.example.com"]
failing = { since = 0, reason = "no-such-name" }
"#;

/// Cgroups of a host.
fn cgroups() -> Tree {
    let mut tree = Tree::new(1);
    let slice = tree.add(0, "system.slice", 2);
    for (id, name) in (3..).zip(["nginx.service", "ssh.service", "ssh.socket"]) {
        tree.add(slice, name, id);
    }
    tree
}

const HOST: [&str; 4] = ["lo", "eth0", "eth1", "bond0"];

#[test]
fn wrong_files_say_what_to_write() {
    for file in files("bad") {
        let bytes = fs::read(&file).unwrap();
        let (Ok(diagnostics) | Err(diagnostics)) = found(&file, &bytes);
        assert_golden(&file, &rendered(&file, &bytes, &diagnostics));
    }
}

#[test]
fn each_code_has_a_file() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/config/bad");
    for code in Code::ALL {
        let file = directory.join(format!("{code}.toml"));
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let found = match (found(&file, &bytes), code.severity()) {
            (Err(errors), Severity::Error) => errors,
            (Ok(warnings), Severity::Warning) => warnings,
            (loaded, severity) => panic!("{code} is {severity:?}, but the file gave {loaded:?}"),
        };
        let found: BTreeSet<&str> = found.iter().map(|found| found.code.as_str()).collect();
        assert_eq!(found, BTreeSet::from([code.as_str()]), "{}", file.display());
    }
}

#[test]
fn every_message_is_in_house_style() {
    for file in files("bad") {
        let bytes = fs::read(&file).unwrap();
        let (Ok(found) | Err(found)) = found(&file, &bytes);
        assert!(!found.is_empty(), "{}", file.display());
        for found in found {
            let help = found.help.as_deref();
            assert!(help.is_some(), "no help: {found:?}");
            let texts = [Some(found.message.as_str()), help, found.note.as_deref()];
            for text in texts.into_iter().flatten() {
                assert!(!text.ends_with('.'), "{text}");
                assert!(!text.starts_with(char::is_uppercase), "{text}");
                assert!(!text.contains('\n'), "{text}");
            }
        }
    }
}

/// The text after all edits that diagnostics propose.
fn fixed(text: &str, found: &[Diagnostic]) -> String {
    let mut fixes: Vec<_> = found
        .iter()
        .filter_map(|found| found.fix.as_ref())
        .collect();
    fixes.sort_by_key(|fix| std::cmp::Reverse(fix.span.start));
    let mut fixed = text.to_owned();
    for fix in fixes {
        fixed.replace_range(fix.span.clone(), &fix.text);
    }
    fixed
}

/// `bad/remedy-NAME.toml` is a mistake that many make, `remedied/remedy-NAME.toml` the same after
/// what the diagnostic says.
#[test]
fn a_remedy_is_right_at_once() {
    let is_remedy = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("remedy-")
    };
    let mut remedies = 0;
    for file in files("bad").into_iter().filter(is_remedy) {
        let text = fs::read_to_string(&file).unwrap();
        let errors = desired::load(&text).expect_err("a wrong file");
        let shown = rendered(&file, text.as_bytes(), &errors);
        assert_eq!(errors.len(), 1, "{shown}");
        let after = fs::read_to_string(files("remedied")[remedies].as_path()).unwrap();
        let name = file.file_name().unwrap();
        assert_eq!(files("remedied")[remedies].file_name().unwrap(), name);
        if errors[0].fix.is_some() {
            assert_eq!(fixed(&text, &errors), after, "{shown}");
        }
        let (_, warnings) = desired::load(&after).unwrap_or_else(|errors| {
            panic!("{}", rendered(&file, after.as_bytes(), &errors));
        });
        assert!(warnings.is_empty(), "{name:?}: {warnings:?}");
        remedies += 1;
    }
    assert_eq!(remedies, files("remedied").len());
}

/// What is written because a diagnostic said so is not wrong in turn.
#[test]
fn an_edit_leads_to_no_second_error_in_its_place() {
    let mut edits = 0;
    for file in files("bad") {
        let Ok(text) = String::from_utf8(fs::read(&file).unwrap()) else {
            continue;
        };
        for found in desired::load(&text).err().into_iter().flatten() {
            let Some(fix) = &found.fix else { continue };
            edits += 1;
            let after = fixed(&text, std::slice::from_ref(&found));
            let place = fix.span.start..fix.span.start + fix.text.len();
            let next = desired::load(&after).err().unwrap_or_default();
            let second = next
                .iter()
                .find(|next| next.span.start < place.end && place.start < next.span.end);
            assert!(
                second.is_none(),
                "{}: {found:?}: {second:?}",
                file.display()
            );
        }
    }
    assert!(edits > 30, "{edits}");
}

#[test]
fn right_files_mean_what_is_expected() {
    for file in files("ok") {
        let bytes = fs::read(&file).unwrap();
        match desired::load_bytes(&bytes) {
            Ok((desired, warnings)) => {
                let mut got = Dump(&desired).to_string();
                if !warnings.is_empty() {
                    write!(got, "\n{}", rendered(&file, &bytes, &warnings)).unwrap();
                }
                assert_golden(&file, &got);
            }
            Err(errors) => panic!("{}", rendered(&file, &bytes, &errors)),
        }
    }
}

#[test]
fn the_shipped_example_is_right() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/mirror.toml");
    let bytes = fs::read(&file).unwrap();
    match desired::load_bytes(&bytes) {
        Ok((desired, warnings)) => {
            assert!(
                warnings.is_empty(),
                "{}",
                rendered(&file, &bytes, &warnings)
            );
            assert!(!desired.filters.is_empty());
        }
        Err(errors) => panic!("{}", rendered(&file, &bytes, &errors)),
    }
}

/// `golden/plan/NAME.live.toml` is in the kernel, `NAME.want.toml` is in the file.
#[test]
fn plans_say_what_changes() {
    let network = configuration::network();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/plan");
    let mut pairs = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let want = entry.unwrap().path();
        let name = want.file_name().unwrap().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".want.toml") else {
            continue;
        };
        let load = |path: &Path| {
            desired::load_bytes(&fs::read(path).unwrap())
                .expect("a right file")
                .0
        };
        let mut maps = Maps::new(100);
        maps.reload(
            &load(&directory.join(format!("{name}.live.toml"))),
            &network,
        );
        let listed = maps
            .live
            .tables
            .hooks
            .iter()
            .filter(|hook| hook.interface != 0);
        let hook = |egress| {
            if egress == 0 {
                Direction::Ingress
            } else {
                Direction::Egress
            }
        };
        let ours = Entry {
            id: 1,
            names: vec!["mirror".to_owned()],
            priority: None,
            is_ours: true,
        };
        // somebody else's is behind ours
        let other = Entry {
            id: 2,
            names: vec!["policy".to_owned()],
            is_ours: false,
            ..ours.clone()
        };
        let chain = Chain {
            programs: vec![ours, other],
        };
        let mirrors = listed
            .map(|listed| ((listed.interface, hook(listed.egress)), chain.clone()))
            .collect();
        let attached = Attached {
            are_ours: true,
            mirrors,
            encaps: BTreeSet::new(),
        };
        let preview =
            preview(&load(&want), &network, Some(&maps.live), &attached).expect("enough slots");
        assert_golden(&directory.join(name), &preview.to_string());
        pairs += 1;
    }
    assert!(pairs > 0, "{} is empty", directory.display());
}

/// Whatever lands in the file, the daemon answers with diagnostics.
#[test]
fn damaged_files_never_panic() {
    const ROUNDS: usize = 60;
    const MAX_EDITS: usize = 4;
    const TOKENS: [&[u8]; 12] = [
        b"\"",
        b"[",
        b"]",
        b"[[filter]]\n",
        b"\n",
        b"=",
        b"{",
        b",",
        b"'''",
        b"\xff",
        b"\xef\xbb\xbf",
        b"name = \"a\"\n",
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for file in files("bad").into_iter().chain(files("ok")) {
        let original = fs::read(&file).unwrap();
        for _ in 0..ROUNDS {
            let mut bytes = original.clone();
            for _ in 0..=random.below(MAX_EDITS) {
                let at = random.below(bytes.len() + 1);
                let to = (at + random.below(8)).min(bytes.len());
                let token = TOKENS[random.below(TOKENS.len())].to_vec();
                let insert = match random.below(4) {
                    0 => Vec::new(),
                    1 => vec![random.below(256) as u8],
                    2 => token,
                    _ => bytes[random.below(bytes.len() + 1)..]
                        .iter()
                        .take(20)
                        .copied()
                        .collect(),
                };
                bytes.splice(at..to, insert);
            }
            let (Ok((_, found)) | Err(found)) = desired::load_bytes(&bytes);
            let text = String::from_utf8_lossy(&bytes);
            let rendered = render(&found, "damaged.toml", &text, random.below(2) == 0);
            assert_eq!(rendered.is_empty(), found.is_empty());
            assert_eq!(locate(&found, &text).len(), found.len());
        }
    }
}

/// xorshift64 (Marsaglia 2003): the same damage on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// What a file means, one line for each object and condition.
struct Dump<'a>(&'a Desired);

impl fmt::Display for Dump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let desired = self.0;
        writeln!(f, "enabled {}", desired.enabled)?;
        if !desired.peers.is_empty() {
            writeln!(f, "peers {:?}", desired.peers)?;
        }
        if let Some(seed) = &desired.seed {
            writeln!(f, "seed {seed:?}")?;
        }
        if desired.published != Published::All {
            writeln!(f, "metrics {}", desired.published.words().join(" "))?;
        }
        for interface in &desired.interfaces {
            let order = if interface.order == Order::Last {
                String::new()
            } else {
                format!(" {}", interface.order)
            };
            writeln!(
                f,
                "interface {} {:?}{order}",
                interface.name, interface.direction
            )?;
        }
        for endpoint in &desired.endpoints {
            let by = endpoint.interface.as_deref().unwrap_or("route");
            writeln!(
                f,
                "endpoint {} {} port {} by {by}",
                endpoint.name,
                endpoint.host(),
                endpoint.port
            )?;
        }
        for filter in &desired.filters {
            dump_filter(f, filter, desired)?;
        }
        Ok(())
    }
}

fn dump_filter(f: &mut fmt::Formatter<'_>, filter: &Filter, desired: &Desired) -> fmt::Result {
    let verb = match filter.action {
        Action::Mirror => "mirror to",
        Action::Exclude => "exclude from",
    };
    let off = if filter.enabled { "" } else { " (disabled)" };
    let to = filter
        .to
        .iter()
        .map(|index| &desired.endpoints[*index].name);
    writeln!(f, "filter {}{off} {verb} {}", filter.name, list(to))?;
    let ports = |ranges: &[std::ops::RangeInclusive<u16>]| {
        list(ranges.iter().map(|range| format!("{range:?}")))
    };
    for (key, values) in [
        ("protocol", list(&filter.protocol)),
        ("source", list(&filter.source)),
        ("source by DNS name", list(&filter.source_name)),
        ("source_port", ports(&filter.source_port)),
        ("destination", list(&filter.destination)),
        ("destination by DNS name", list(&filter.destination_name)),
        ("destination_port", ports(&filter.destination_port)),
        ("server_name", list(&filter.server_name)),
        ("application", list(&filter.application)),
        ("interface", list(&filter.interface)),
    ] {
        if !values.is_empty() {
            writeln!(f, "  {key} {values}")?;
        }
    }
    if filter.undecided != Undecided::default() {
        writeln!(f, "  undecided {:?}", filter.undecided)?;
    }
    let both_ways = if filter.bidirectional {
        "bidirectional "
    } else {
        ""
    };
    writeln!(f, "  {both_ways}{:?}", filter.direction)
}

fn list<T: fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    values.join(" ")
}
