//! Changes as they happen, and errors.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use traffic_mirror::kernel::netlink::{Event, Monitor, Netlink};
use traffic_mirror::network::Direction;
use traffic_mirror::triggers::{Trigger, queue, watch_network};

use crate::lab::{ABSENT, Lab, Netns, wait_for};

#[test]
fn an_error_names_request_object_and_cause() -> Result<()> {
    let namespace = Netns::new()?;
    namespace.inside(|| {
        let mut netlink = Netlink::open()?;
        let refused = netlink.neighbour(0, "10.9.0.5".parse()?).expect_err("no device");
        assert_eq!(
            refused.to_string(),
            "cannot read neighbour 10.9.0.5 on interface 0: Invalid argument (EINVAL): No device specified"
        );
        let refused = netlink.resolve(ABSENT, "10.9.0.5".parse()?).expect_err("no such device");
        assert_eq!(
            refused.to_string(),
            format!("cannot resolve neighbour 10.9.0.5 on interface {ABSENT}: No such device (ENODEV)")
        );
        Ok(())
    })
}

#[test]
fn changes_are_seen() -> Result<()> {
    let lab = Lab::new()?;
    let va = lab.near.index("va")?;
    let address = "10.9.0.5".parse()?;
    let mut monitor = lab.near.inside(|| Ok(Monitor::open()?))?;
    let neighbour = Event::Neighbour {
        interface: va,
        address,
    };
    for (command, event) in [
        ("ip link set va mtu 1400", Event::Link { index: va }),
        ("ip address add 10.20.0.1/24 dev va", Event::Address),
        ("ip address add fd20::1/64 dev va nodad", Event::Address),
        ("ip route add 10.21.0.0/24 via 10.9.0.2", Event::Route),
        ("ip route add fd21::/64 via fd09::2", Event::Route),
        ("ip rule add to 10.22.0.0/24 table 100", Event::Route),
        ("ip -6 rule add to fd22::/64 table 100", Event::Route),
        ("ip nexthop add id 1 via 10.9.0.2 dev va", Event::Route),
        (
            "ip neigh add 10.9.0.5 dev va lladdr 02:00:00:00:00:05 nud permanent",
            neighbour,
        ),
        (
            "ip neigh replace 10.9.0.5 dev va lladdr 02:00:00:00:00:06 nud permanent",
            neighbour,
        ),
        ("ip neigh del 10.9.0.5 dev va", neighbour),
        ("tc qdisc add dev va clsact", Event::Tc { interface: va }),
        (
            "tc filter add dev va egress prio 7 protocol ip u32 match ip dst 10.0.0.1 flowid :1",
            Event::Tc { interface: va },
        ),
        (
            "tc filter del dev va egress prio 7",
            Event::Tc { interface: va },
        ),
        ("tc qdisc del dev va clsact", Event::Tc { interface: va }),
        ("ip link set va down", Event::Link { index: va }),
        ("ip link del va", Event::Link { index: va }),
    ] {
        monitor.drain()?;
        match command.split_once(' ') {
            Some(("tc", arguments)) => lab.near.tc(arguments)?,
            Some((_, arguments)) => lab.near.ip(arguments)?,
            None => bail!("no arguments"),
        };
        wait_for(&mut monitor, event).context(command)?;
    }
    lab.near.ip("link add vc type veth peer name vd")?;
    wait_for(
        &mut monitor,
        Event::Link {
            index: lab.near.index("vc")?,
        },
    )?;
    // reading makes no events, or a reader would wake itself
    let vc = lab.near.index("vc")?;
    lab.near.tc("qdisc add dev vc clsact")?;
    wait_for(&mut monitor, Event::Tc { interface: vc })?;
    lab.near.inside(|| {
        let mut netlink = Netlink::open()?;
        monitor.drain()?;
        netlink.links()?;
        netlink.addresses()?;
        netlink.route((address, 6080).into(), None)?;
        netlink.policies()?;
        netlink.neighbour(vc, address)?;
        netlink.filters(vc, Direction::Ingress)?;
        netlink.clsact(vc)?;
        assert_eq!(monitor.drain()?, BTreeSet::new());
        assert!(!monitor.wait(Some(Duration::from_millis(1)))?);
        Ok(())
    })
}

#[test]
fn an_overrun_is_told_and_survived() -> Result<()> {
    let lab = Lab::new()?;
    let va = lab.near.index("va")?;
    let mut monitor = lab.near.inside(|| Ok(Monitor::open()?))?;
    setsockopt(&monitor, sockopt::RcvBuf, &4096)?;
    let entries: String = (1..200)
        .map(|n| format!("neigh add 10.100.0.{n} dev va lladdr 02:00:00:00:00:05 nud permanent\n"))
        .collect();
    lab.near.batch(&entries)?;
    ensure!(monitor.drain()?.contains(&Event::Overrun), "no overrun");
    assert_eq!(monitor.drain()?, BTreeSet::new());
    lab.near.ip("link set va mtu 1400")?;
    wait_for(&mut monitor, Event::Link { index: va })
}

#[test]
fn a_socket_that_fails_is_paused_for_and_opened_anew() -> Result<()> {
    let lab = Lab::new()?;
    let va = lab.near.index("va")?;
    let (sender, triggers) = queue();
    lab.near.inside(|| {
        let monitor = Monitor::open()?;
        // to be read at once, and no message of the kernel's: ENOTCONN for ever
        let broken = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::empty(),
            None,
        )?;
        // SAFETY: both descriptors are open; the second goes on being the monitor's.
        let replaced = unsafe { libc::dup2(broken.as_raw_fd(), monitor.as_fd().as_raw_fd()) };
        ensure!(replaced >= 0, "dup2");
        Ok(watch_network(monitor, sender)?)
    })?;
    let begin = Instant::now();
    let first = triggers.next(Duration::from_secs(10));
    ensure!(
        first == Some(Trigger::Network(BTreeSet::from([Event::Overrun]))),
        "{first:?}"
    );
    ensure!(
        begin.elapsed() >= Duration::from_millis(900),
        "no pause: {:?}",
        begin.elapsed()
    );
    // heard of by the new socket, in the same namespace
    let deadline = Instant::now() + Duration::from_secs(10);
    for mtu in 1300.. {
        lab.near.ip(&format!("link set va mtu {mtu}"))?;
        if let Some(Trigger::Network(events)) = triggers.next(Duration::from_millis(200))
            && events.contains(&Event::Link { index: va })
        {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "nothing is heard of");
    }
    Ok(())
}
