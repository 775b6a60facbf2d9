//! What `make fuzz` has found in the loaded programs.

use anyhow::Result;
use traffic_mirror::network::Direction;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::eth;
use traffic_mirror_tests::lab::testrun::{SkBuff, TestRun};
use traffic_mirror_tests::oracle::kernel::Loaded;
use traffic_mirror_tests::oracle::{compiled, configuration, load};

const FILE: &str = r#"
[[interface]]
name = "lo"
[endpoint.ids]
address = "192.0.2.1"
[[filter]]
name = "all"
to = ["ids"]
"#;

/// The interface of the file as a test run has it.
const LO: u32 = 1;

/// A superpacket of unknown segments that ends in its headers was counted as none, or as four
/// billion.
#[test]
fn a_superpacket_without_payload_is_one_packet() -> Result<()> {
    let mut network = configuration::network();
    let lo = network
        .link("lo")
        .map(|link| link.index)
        .and_then(|index| network.links.remove(&index));
    network
        .links
        .extend(lo.map(|link| (LO, traffic_mirror::network::Link { index: LO, ..link })));
    let tables = compiled(&load(FILE), &network).tables;
    let whole = eth().ip("2001:db8::1", "2001:db8::2").udp(1, 2).build();
    Netns::new("found")?.enter(|| {
        let loaded = Loaded::new(&tables, 1)?;
        for (runs, gso_size) in [1, 45, 1400].into_iter().enumerate() {
            let frame = &whole[..whole.len() - 3];
            let context = SkBuff {
                gso_size,
                ifindex: LO,
                ..SkBuff::default()
            };
            TestRun {
                context,
                ..TestRun::new(frame)
            }
            .run(loaded.mirror(Direction::Ingress))?;
            assert_eq!(
                loaded.matched()?[0].packets,
                1 + runs as u64,
                "segments of {gso_size} bytes"
            );
        }
        Ok(())
    })
}
