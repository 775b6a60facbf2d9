//! Sockets of this host.

use std::net::{TcpListener, TcpStream, UdpSocket};

use anyhow::{Result, ensure};
use traffic_mirror_tests::lab::cgroup::Cgroup;

use super::laboratory::{Carried, DATAGRAMS, Lab, Role, config, end, of, say};
use crate::edge::Attach;
use crate::routed::{EDGE, SERVER, address, count};

#[test]
fn connections_are_mirrored_by_the_cgroup_of_their_process() -> Result<()> {
    for &attach in Attach::all()? {
        let wanted = Cgroup::new("pk-app", ".service")?;
        let other = Cgroup::new("pk-other", ".service")?;
        let mut lab = Lab::new(&config(&[of(wanted.name())]), attach)?;
        let mut port = 7000;
        for role in [Role::Client, Role::Server] {
            for family in [0, 1] {
                port += 1;
                let ports = [&wanted, &other, &wanted]
                    .map(|cgroup| lab.connect(cgroup, role, family, port));
                let [first, unwanted, second] = ports;
                let (carried, counters) = lab.carried(port)?;
                let carried = |port: u16| carried.get(&port).copied().unwrap_or_default();
                for port in [first?, second?] {
                    ensure!(
                        carried(port).is_whole(),
                        "{attach:?} {role:?} {family}: {:?} {counters:?}",
                        carried(port)
                    );
                }
                let unwanted = carried(unwanted?);
                ensure!(
                    unwanted.is_nothing(),
                    "{attach:?} {role:?} {family}: {unwanted:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn datagrams_are_mirrored_by_the_cgroup_of_their_process() -> Result<()> {
    for &attach in Attach::all()? {
        let wanted = Cgroup::new("pk-app", ".service")?;
        let other = Cgroup::new("pk-other", ".service")?;
        let mut lab = Lab::new(&config(&[of(wanted.name())]), attach)?;
        let mut port = 7000;
        for role in [Role::Client, Role::Server] {
            for family in [0, 1] {
                port += 2;
                let first = lab.exchange(&wanted, role, family, port)?;
                let (carried, _) = lab.carried(port)?;
                let found = carried.get(&first).copied().unwrap_or_default();
                ensure!(
                    found.packets == [DATAGRAMS; 2],
                    "{attach:?} {role:?} {family}: {found:?}"
                );
                let unwanted = lab.exchange(&other, role, family, port + 1)?;
                let (carried, _) = lab.carried(port + 1)?;
                let found = carried.get(&unwanted).copied().unwrap_or_default();
                ensure!(
                    found.is_nothing(),
                    "{attach:?} {role:?} {family}: {found:?}"
                );
            }
        }
    }
    Ok(())
}

/// What nobody answers is copied no more than some times for each port.
#[test]
fn packets_to_nobody_are_copied_some_times_alone() -> Result<()> {
    for &attach in Attach::all()? {
        let wanted = Cgroup::new("pk-app", ".service")?;
        let mut lab = Lab::new(&config(&[of(wanted.name())]), attach)?;
        let to = address(EDGE[0], 9);
        let socket = lab.far.enter(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
        for _ in 0..100 {
            // an ICMP error for one of those before
            let _ = socket.send_to(b"anybody", to);
        }
        let (carried, counters) = lab.carried(9)?;
        let copies: usize = carried.values().map(Carried::copies).sum();
        ensure!(copies == 20, "{attach:?}: {copies}");
        let undecided = count(&counters, "eth0 ingress undecided");
        ensure!(undecided >= 80, "{attach:?}: {counters:?}");
    }
    Ok(())
}

/// What passes the host belongs to nobody.
#[test]
fn forwarded_packets_have_no_application() -> Result<()> {
    for &attach in Attach::all()? {
        let wanted = Cgroup::new("pk-app", ".service")?;
        let mut lab = Lab::new(&config(&[of(wanted.name())]), attach)?;
        let to = address(SERVER[0], 7000);
        let listener = lab.routed.server.enter(|| Ok(TcpListener::bind(to)?))?;
        let client = lab.far.enter(|| Ok(TcpStream::connect(to)?))?;
        let (server, _) = listener.accept()?;
        let connection = [client, server];
        let port = connection[0].local_addr()?.port();
        say(&connection)?;
        end(connection)?;
        let (carried, counters) = lab.carried(7000)?;
        let found = carried.get(&port).copied().unwrap_or_default();
        ensure!(found.is_nothing(), "{attach:?}: {found:?} {counters:?}");
    }
    Ok(())
}
