//! Ethernet between namespaces.

use super::netns::Netns;
use super::packet::Mac;
use super::{deadline, ethtool};
use anyhow::{Result, ensure};

/// What a veth pair is like.
#[derive(Clone, Debug)]
pub struct Veth {
    /// MTU of both ends in bytes.
    pub mtu: u32,
    /// Whether segmentation, receive aggregation and checksums are offloaded, as the kernel does by
    /// default. Without, what arrives at either end is what a wire would carry: segments within the
    /// MTU, checksums filled in.
    pub offload: bool,
    /// Transmit and receive queues of each end.
    pub queues: u32,
    /// Length of the transmit queue in packets, which queueing disciplines take as their limit.
    pub tx_queue_len: u32,
    /// MAC addresses of the two ends. By default they follow from the namespaces' prefixes and the
    /// interface names, and so are the same in each run.
    pub macs: Option<[Mac; 2]>,
}

impl Default for Veth {
    fn default() -> Self {
        Self {
            mtu: 1500,
            offload: true,
            queues: 1,
            tx_queue_len: 1000,
            macs: None,
        }
    }
}

/// Connects `a_name` in `a` with `b_name` in `b`, up, with an MTU of 1,500 bytes and the kernel's
/// default offloads.
pub fn veth(a: &Netns, a_name: &str, b: &Netns, b_name: &str) -> Result<()> {
    Veth::default().create(a, a_name, b, b_name)
}

impl Veth {
    /// Connects `a_name` in `a` with `b_name` in `b`, and waits until both are up and carry
    /// packets. The namespaces may be the same.
    pub fn create(&self, a: &Netns, a_name: &str, b: &Netns, b_name: &str) -> Result<()> {
        let macs = self
            .macs
            .unwrap_or_else(|| [mac_of(a.prefix(), a_name), mac_of(b.prefix(), b_name)]);
        ensure!(
            macs[0] != macs[1],
            "both ends have the MAC address {:02x?}: name the namespaces apart",
            macs[0]
        );
        let end = |name: &str, mac: Mac| {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            let (queues, length, mtu) = (self.queues, self.tx_queue_len, self.mtu);
            format!(
                "name {name} address {mac} mtu {mtu} txqueuelen {length} numtxqueues {queues} numrxqueues {queues}"
            )
        };
        // `ip` runs inside `a`: made from outside, a link may not have the name of one that is
        // outside
        let (left, right) = (end(a_name, macs[0]), end(b_name, macs[1]));
        a.run(&format!(
            "ip link add {left} type veth peer {right} netns {}",
            b.name()
        ))?;
        for (netns, name) in [(a, a_name), (b, b_name)] {
            if !self.offload {
                ethtool::offload(netns, name, false)?;
            }
            netns.run(&format!("ip link set {name} up"))?;
        }
        // The kernel's link watch takes a moment: until it has run, the first end drops what it
        // sends (`noop_qdisc`) and IPv6 is not ready.
        for (netns, name) in [(a, a_name), (b, b_name)] {
            let line = format!("ip -oneline link show dev {name}");
            netns.run_until(&line, |link| link.contains(" state UP "), deadline())?;
        }
        Ok(())
    }
}

/// A locally administered address from an FNV-1a hash.
fn mac_of(prefix: &str, interface: &str) -> Mac {
    let hash = prefix
        .bytes()
        .chain(*b"/")
        .chain(interface.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    [2, a, b, c, d, e]
}
