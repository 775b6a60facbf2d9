//! Any bytes as the file: text -> Config -> Desired -> Tables -> Plan, what is said about errors,
//! and what `plan` prints.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use traffic_mirror::attached::Attached;
use traffic_mirror::compile::{Cache, new_maps, next_tables};
use traffic_mirror::desired::{self, Desired, Rereader};
use traffic_mirror::diagnostic::{Diagnostic, locate, render};
use traffic_mirror::network::{Network, Path, Route, RouteKind};
use traffic_mirror::plan::{Transition, difference};
use traffic_mirror::preview::preview;
use traffic_mirror::tables::Live;
use traffic_mirror::{report, status};
use traffic_mirror_tests::oracle::{configuration, load};

/// A file that is live before and after.
struct Other {
    desired: Desired,
    live: Live,
}

static OTHER: LazyLock<Other> = LazyLock::new(|| {
    let desired = load(include_str!("../../golden/plan/every-field.live.toml"));
    let live = live(&desired, &network(&desired));
    Other { desired, live }
});

fuzz_target!(|bytes: &[u8]| {
    let loaded = desired::load_bytes(bytes);
    let text = String::from_utf8_lossy(bytes);
    let (Ok((_, found)) | Err(found)) = &loaded;
    assert_can_be_shown(found, &text);
    assert_reread(bytes, &loaded);
    match loaded {
        Ok((desired, warnings)) => {
            assert!(
                warnings.iter().all(|warning| !warning.is_error()),
                "{warnings:?}"
            );
            take(&desired);
        }
        Err(errors) => assert!(errors.iter().any(Diagnostic::is_error), "{errors:?}"),
    }
});

/// For people and for programs; nothing of the file gets to the terminal that is no text.
fn assert_can_be_shown(found: &[Diagnostic], text: &str) {
    for color in [false, true] {
        let rendered = render(found, "mirror.toml", text, color);
        assert_eq!(rendered.is_empty(), found.is_empty());
        let is_text = |c: char| !c.is_control() || c == '\n' || color && c == '\u{1b}';
        assert!(rendered.chars().all(is_text), "{rendered:?}");
    }
    let located = locate(found, text);
    assert_eq!(located.len(), found.len());
    serde_json::to_string(&located).expect("data is JSON");
    for Diagnostic {
        message,
        help,
        note,
        ..
    } in found
    {
        let texts = [Some(message), help.as_ref(), note.as_ref()];
        assert!(
            texts.into_iter().flatten().all(|text| !text.contains('\n')),
            "{found:?}"
        );
    }
}

/// Who has read other files before, much like this one, reads the same.
fn assert_reread(bytes: &[u8], loaded: &desired::Loaded) {
    let mut rereader = Rereader::default();
    const HEADER: &[u8] = b"[[filter]]";
    let at = bytes
        .windows(HEADER.len())
        .rposition(|window| window == HEADER)
        .unwrap_or_default();
    let shorter = &bytes[..at];
    let longer = [bytes, b"\n", &bytes[at..]].concat();
    for (bytes, want) in [
        (bytes, loaded),
        (shorter, &desired::load_bytes(shorter)),
        (bytes, loaded),
        (&longer, &desired::load_bytes(&longer)),
        (bytes, loaded),
    ] {
        assert_eq!(rereader.load(bytes), *want);
    }
}

/// Takes a file that is right: into new maps, in place of another one, and out again.
fn take(desired: &Desired) {
    let other = &*OTHER;
    let network = network(desired);
    let live = live(desired, &network);
    let mut now = Some(live.clone());
    let want =
        next_tables(desired, &network, &mut now, &mut Cache::default()).expect("there is room");
    let change = difference(now.as_ref(), &want);
    assert!(
        matches!(&change, Transition::InPlace(plan) if plan.is_empty()),
        "not settled: {change:?}"
    );
    let attached = Attached {
        are_ours: true,
        mirrors: BTreeMap::new(),
        encaps: BTreeSet::new(),
    };
    for (want, live) in [
        (desired, None),
        (desired, Some(&live)),
        (desired, Some(&other.live)),
        (&other.desired, Some(&live)),
    ] {
        let preview = preview(want, &network, live, &attached).expect("there is room");
        assert!(
            preview
                .to_string()
                .chars()
                .all(|c| !c.is_control() || c == '\n'),
            "{preview}"
        );
        serde_json::to_string(&preview).expect("data is JSON");
    }
    let _ = (
        report::changes(&other.desired, desired),
        report::changes(desired, &other.desired),
    );
    let _ = status::summary(desired);
}

/// What is live when a file was taken.
fn live(desired: &Desired, network: &Network) -> Live {
    let compiled = new_maps(desired, network, &[], &mut Cache::default()).expect("there is room");
    let mut tables = (*compiled.tables).clone();
    (tables.control.generation, tables.control.secret) = (1, 1);
    Live {
        generation: 1,
        tables,
    }
}

/// A way to each endpoint, or something that is in the way.
fn network(desired: &Desired) -> Network {
    let mut network = configuration::network();
    let interfaces: Vec<u32> = network.links.keys().copied().collect();
    for (number, endpoint) in desired.endpoints.iter().enumerate() {
        let source: IpAddr = match endpoint.address {
            Some(IpAddr::V4(_)) | None => Ipv4Addr::new(192, 0, 2, 254).into(),
            Some(IpAddr::V6(_)) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe).into(),
        };
        let route = Route {
            interface: interfaces[number % interfaces.len()],
            gateway: None,
            source: (number % 7 != 6).then_some(source),
            mtu: (number % 3 == 2).then_some(1400),
            kind: if number % 11 == 10 {
                RouteKind::Local
            } else {
                RouteKind::Unicast
            },
            assumed: false,
        };
        let path = Path {
            own: number % 13 == 12,
            route: (number % 5 != 4).then_some(route),
            mac: (number % 2 == 0).then_some([2, 0, 0, 0, 1, number as u8]),
            silent: number % 4 == 1,
            path_mtu: (number % 6 == 5).then_some(1280),
        };
        network.paths.insert(endpoint.name.clone(), path);
    }
    network
}
