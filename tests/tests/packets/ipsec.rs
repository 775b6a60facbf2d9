//! IPsec policies of the host: copies pass none, so where one is for them nothing is sent, unless
//! the file says otherwise.

use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::status::Status;

use crate::edge::{Attach, Direction, Edge, SkbLayout, frame};
use crate::policy::policy;
use crate::routed::count;
use crate::{config, filter};

/// What the kernel must have.
const MODULES: &str = "modprobe -a xfrm_user esp4 esp6 xfrm_interface";

/// Of a security association.
pub(crate) const KEYS: &str = "auth-trunc hmac(sha256) 0x3132333435363738393031323334353637383930313233343536373839303132 128 \
                               enc cbc(aes) 0x31323334353637383930313233343536";

fn is_there() -> Result<bool> {
    if let Err(error) = Netns::new("pk-modules")?.run(MODULES) {
        let must_be = std::env::var("TEST_MODULES")
            .is_ok_and(|modules| modules.split(' ').any(|one| one == "xfrm_user"));
        ensure!(!must_be, "{error:#}");
        println!("skipped: needs a kernel with IPsec, such as Debian's; `make vm` has two");
        return Ok(false);
    }
    Ok(true)
}

/// From this host to endpoint "a", and to "six".
const HOSTS: [(&str, [&str; 2]); 2] = [
    ("a", ["10.9.0.1", "10.9.0.11"]),
    ("six", ["fd09::1", "fd09::13"]),
];

fn is(status: &Status, endpoint: &str, state: &str) -> bool {
    status.endpoint(endpoint, "state") == state
}

/// Sends a packet; whether a copy came to an endpoint, which the counters must say, too.
fn comes(edge: &mut Edge, endpoint: &str) -> Result<bool> {
    let packet = frame()
        .ip("10.0.0.1", "10.0.0.2")
        .udp(4000, 443)
        .payload("payload")
        .build();
    let seen = edge.pass(&packet, SkbLayout::Linear, Direction::Ingress)?;
    ensure!(seen.originals == [packet], "the original differs");
    let copies = seen.copies.get(endpoint).map_or(0, Vec::len) as u64;
    let dropped = count(
        &seen.moved,
        &format!("endpoint {endpoint} drop ipsec-policy"),
    );
    let sent = count(&seen.moved, &format!("endpoint {endpoint} packets"));
    ensure!(
        (copies, dropped) == (sent, 1 - sent),
        "{copies} copies came to {endpoint}: {:?}",
        seen.moved
    );
    Ok(copies == 1)
}

#[test]
fn policies_are_obeyed_as_they_come_and_go() -> Result<()> {
    if !is_there()? {
        return Ok(());
    }
    for &attach in Attach::all()? {
        let mut edge = Edge::new(&config(&filter("all", "", "\"a\", \"b\", \"six\"")), attach)?;
        for (endpoint, [from, to]) in HOSTS {
            ensure!(comes(&mut edge, endpoint)?, "no copy without a policy");
            let selector = format!("src {from} dst {to}");
            let ports = format!("{selector} proto 17 dport 6080");
            let esp = format!("tmpl src {from} dst {to} proto esp mode transport");
            for (selector, rest) in [
                (&selector, "action block"),
                (&selector, esp.as_str()),
                (&ports, "action block"),
                (&ports, &esp),
            ] {
                let context = || format!("{attach:?} {selector} {rest}");
                edge.edge
                    .run(&format!("ip xfrm policy add {selector} dir out {rest}"))?;
                edge.wait(|status| is(status, endpoint, "ipsec-policy"))
                    .with_context(context)?;
                ensure!(
                    !comes(&mut edge, endpoint)?,
                    "{}: a copy in clear",
                    context()
                );
                ensure!(
                    comes(&mut edge, "b")?,
                    "{}: none to another endpoint",
                    context()
                );
                let degraded = edge.daemon.run(&["status"])?.status.code() == Some(1);
                ensure!(degraded, "{}: status says that all is well", context());
                edge.edge
                    .run(&format!("ip xfrm policy delete {selector} dir out"))?;
                edge.wait(|status| is(status, endpoint, "ready"))
                    .with_context(context)?;
                ensure!(
                    comes(&mut edge, endpoint)?,
                    "{}: no copy when it is gone",
                    context()
                );
            }
            // those that are not for copies; the last one is told last
            let others = [
                format!("{selector} proto 6 dir out action block"),
                format!("{selector} dir fwd action block"),
                format!("{selector} dir out action block mark 7 mask 0xff"),
                format!("{selector} dir out action block if_id 5"),
            ];
            let last = "src 10.9.0.1 dst 10.9.0.12 dir out";
            for policy in others
                .iter()
                .map(String::as_str)
                .chain([format!("{last} action block").as_str()])
            {
                edge.edge.run(&format!("ip xfrm policy add {policy}"))?;
            }
            edge.wait(|status| is(status, "b", "ipsec-policy"))?;
            ensure!(
                comes(&mut edge, endpoint)?,
                "{attach:?}: no copy, though no policy is for it"
            );
            edge.edge.run("ip xfrm policy flush")?;
            edge.wait(|status| is(status, "b", "ready"))?;
        }
        // what no policy is for
        edge.edge.run("ip xfrm policy setdefault out block")?;
        edge.wait(|status| is(status, "a", "ipsec-policy") && is(status, "six", "ipsec-policy"))?;
        edge.edge.run("ip xfrm policy setdefault out accept")?;
        edge.wait(|status| is(status, "a", "ready") && is(status, "six", "ready"))?;
        edge.edge
            .run("ip xfrm policy add src 10.9.0.1 dst 10.9.0.11 dir out action block")?;
        edge.wait(|status| is(status, "a", "ipsec-policy"))?;
        let file = config(&filter("all", "", "\"a\", \"b\", \"six\""));
        edge.configure(&policy(&file, "ipsec = \"bypass\""))?;
        edge.wait(|status| is(status, "a", "ready"))?;
        ensure!(
            comes(&mut edge, "a")?,
            "{attach:?}: no copy though the file says so"
        );
    }
    Ok(())
}

/// As the README advises: by an interface that encrypts.
#[test]
fn an_xfrm_interface_encrypts_copies() -> Result<()> {
    if !is_there()? {
        return Ok(());
    }
    for &attach in Attach::all()? {
        let file = format!(
            "[[interface]]\nname = \"eth0\"\n[endpoint.far]\naddress = \"10.60.0.2\"\n{}",
            filter("all", "", "\"far\"")
        );
        let mut edge = Edge::with_live_collector(&config(""), attach)?;
        let ends = ["10.9.0.1", "10.9.0.11"];
        for (netns, device, host, [out, back]) in [
            (&edge.edge, "eth1", 1, ["out", "in"]),
            (edge.collector(), "eth0", 2, ["in", "out"]),
        ] {
            netns.run(&format!("ip link add xfrm0 type xfrm dev {device} if_id 7"))?;
            netns.run("ip link set xfrm0 up mtu 1400")?;
            netns.address("xfrm0", &format!("10.60.0.{host}/24"))?;
            for (from, to, spi, direction) in
                [(ends[0], ends[1], 1, out), (ends[1], ends[0], 2, back)]
            {
                let way = format!("src {from} dst {to}");
                netns.run(&format!(
                    "ip xfrm state add {way} proto esp spi {spi} mode tunnel if_id 7 {KEYS}"
                ))?;
                let template = format!("tmpl {way} proto esp mode tunnel");
                netns.run(&format!(
                    "ip xfrm policy add src 0.0.0.0/0 dst 0.0.0.0/0 dir {direction} if_id 7 {template}"
                ))?;
            }
        }
        let mut inside = Collector::start(edge.collector(), "xfrm0")?;
        edge.configure(&file)?;
        edge.wait(|status| is(status, "far", "ready"))?;
        let packet = frame()
            .ip("10.0.0.1", "10.0.0.2")
            .udp(4000, 443)
            .payload("in secret")
            .build();
        let mut wire = Collector::start(edge.collector(), "eth0")?;
        edge.originals(
            std::slice::from_ref(&packet),
            SkbLayout::Linear,
            Direction::Ingress,
        )?;
        let is_copy = |bytes: &[u8]| bytes.ends_with(&packet[14..]);
        inside
            .until(|bytes| is_copy(bytes), deadline())
            .with_context(|| format!("{attach:?}: nothing was decrypted"))?;
        let is_esp =
            |bytes: &[u8]| bytes.get(12..14) == Some(&[8, 0]) && bytes.get(23) == Some(&50);
        let before = wire
            .until(is_esp, deadline())
            .context("no ESP on the wire")?;
        ensure!(
            !before.iter().any(|bytes| is_copy(bytes)),
            "{attach:?}: a copy in clear"
        );
    }
    Ok(())
}
