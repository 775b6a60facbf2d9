//! Packets that must not be cloned are counted, and go on as they came.

use crate::edge::Attach;
use crate::routed::{CLIENT, EDGE, Routed, WEB, address, count};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::traffic::udp_bind;

/// Packets of each run.
const PACKETS: u64 = 10;

/// pktgen sends and receives packets that it holds on to: a clone of one, and its original is
/// copied under somebody's hands, which the kernel answers with a panic.
#[test]
fn packets_that_others_hold_are_not_cloned() -> Result<()> {
    if !Command::new("modprobe")
        .args(["--quiet", "pktgen"])
        .status()
        .is_ok_and(|status| status.success())
    {
        println!("skipped: it takes the kernel module pktgen");
        return Ok(());
    }
    for &attach in Attach::all()? {
        let mut lab = Routed::new(WEB, attach, 1600)?;
        for (mode, sender) in [("queue_xmit", EDGE[0]), ("netif_receive", CLIENT[0])] {
            let before = lab.settle()?.1;
            let destination = if sender == EDGE[0] {
                CLIENT[0]
            } else {
                "10.2.0.1"
            };
            let mac = (if sender == EDGE[0] {
                &lab.client
            } else {
                &lab.edge
            })
            .mac("eth0")?;
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            pktgen(
                &lab.edge,
                &format!(
                    "xmit_mode {mode};count {PACKETS};dst {destination};src_min {sender};src_max {sender};dst_mac {mac}"
                ),
            )
            .with_context(|| format!("{attach:?} {mode}"))?;
            let after = lab.settle()?.1;
            for endpoint in ["four", "six"] {
                let of = |what: &str| {
                    let key = format!("endpoint {endpoint} {what}");
                    count(&after, &key) - count(&before, &key)
                };
                let (shared, sent) = (of("drop shared"), of("packets"));
                ensure!(
                    (shared, sent) == (PACKETS, 0),
                    "{attach:?} {mode} {endpoint}: {shared} shared, {sent} sent: {after:?}"
                );
            }
        }
    }
    Ok(())
}

/// Has pktgen run on `eth0` with these settings.
fn pktgen(netns: &Netns, settings: &str) -> Result<()> {
    let write = |file: &str, line: &str| {
        let path = format!("/proc/thread-self/net/pktgen/{file}");
        fs::write(&path, format!("{line}\n")).with_context(|| format!("write {line} to {path}"))
    };
    netns.enter(|| {
        write("kpktgend_0", "rem_device_all")?;
        write("kpktgend_0", "add_device eth0")?;
        for line in [
            "pkt_size 100",
            "udp_src_min 9",
            "udp_src_max 9",
            "udp_dst_min 443",
            "udp_dst_max 443",
        ] {
            write("eth0", line)?;
        }
        settings
            .split(';')
            .try_for_each(|line| write("eth0", line))?;
        write("pgctrl", "start")?;
        write("kpktgend_0", "rem_device_all")
    })
}

/// The NIC has one place for a packet whose time it is to tell.
#[test]
fn packets_that_wait_for_a_timestamp_of_the_nic_are_not_cloned() -> Result<()> {
    // include/uapi/linux/net_tstamp.h
    const TX_HARDWARE: u32 = 1;
    const TX_SOFTWARE: u32 = 1 << 1;
    for &attach in Attach::all()? {
        let mut lab = Routed::new(WEB, attach, 1600)?;
        let sink = udp_bind(&lab.client, address(CLIENT[0], 443))?;
        let [clock, program] = [319, 1319].map(|port| udp_bind(&lab.edge, address(EDGE[0], port)));
        let (clock, program) = (clock?, program?);
        let cases = [
            (&clock, 0, true),
            (&clock, TX_SOFTWARE, true),
            (&clock, TX_HARDWARE, false),
            (&program, TX_HARDWARE, true),
        ];
        for (socket, flags, is_cloned) in cases {
            let before = lab.settle()?.1;
            // SAFETY: the option is four bytes of a local variable.
            let done = unsafe {
                let size = size_of_val(&flags) as libc::socklen_t;
                let option = (&raw const flags).cast();
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_TIMESTAMPING,
                    option,
                    size,
                )
            };
            ensure!(
                done == 0,
                "SO_TIMESTAMPING: {}",
                std::io::Error::last_os_error()
            );
            for _ in 0..PACKETS {
                socket.send_to(b"when", address(CLIENT[0], 443))?;
                sink.recv(&mut [0; 16]).context("the original")?;
            }
            let after = lab.settle()?.1;
            for endpoint in ["four", "six"] {
                let of = |what: &str| {
                    let key = format!("endpoint {endpoint} {what}");
                    count(&after, &key) - count(&before, &key)
                };
                let expected = if is_cloned {
                    (0, PACKETS)
                } else {
                    (PACKETS, 0)
                };
                let found = (of("drop hardware-timestamp"), of("packets"));
                ensure!(
                    found == expected,
                    "{attach:?} flags {flags} {endpoint}: {found:?}, {after:?}"
                );
            }
        }
    }
    Ok(())
}
