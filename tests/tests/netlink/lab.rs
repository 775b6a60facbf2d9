//! Two namespaces, and what `ip` and `tc` say of them.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use traffic_mirror::kernel::netlink::{Event, Monitor};
use traffic_mirror::network::{Route, RouteKind};
use traffic_mirror_tests::lab::{deadline, netns, process};

/// An index that no interface has.
pub(crate) const ABSENT: u32 = 4_000_000;

/// The port that ways are asked for.
pub(crate) const PORT: u16 = 6080;

/// What `ip route get` says, in our terms.
pub(crate) fn expected_route(
    namespace: &Netns,
    destination: &str,
    interface: Option<&str>,
) -> Result<Option<Route>> {
    let oif = interface.map_or(String::new(), |name| format!(" oif {name}"));
    let Ok(answer) = namespace.json(&format!(
        "route get {destination}{oif} ipproto udp dport {PORT}"
    )) else {
        return Ok(None);
    };
    let answer = &answer[0];
    let address = |value: &Value| value.as_str().map(str::parse).transpose();
    Ok(Some(Route {
        interface: namespace.index(answer["dev"].as_str().context("no dev")?)?,
        gateway: address(&answer["gateway"])?.or(address(&answer["via"]["host"])?),
        source: address(&answer["prefsrc"])?,
        mtu: answer["metrics"][0]["mtu"]
            .as_u64()
            .map(u32::try_from)
            .transpose()?,
        kind: match answer["type"].as_str() {
            None | Some("unicast") => RouteKind::Unicast,
            Some("local") => RouteKind::Local,
            Some("broadcast") => RouteKind::Broadcast,
            Some("multicast") => RouteKind::Multicast,
            other => bail!("type {other:?}"),
        },
        assumed: false,
    }))
}

pub(crate) fn wait_for(monitor: &mut Monitor, event: Event) -> Result<()> {
    let deadline = deadline();
    let mut seen = BTreeSet::new();
    while !seen.contains(&event) {
        let left = deadline.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "{event:?} did not come, but {seen:?}");
        monitor.wait(Some(left))?;
        seen.extend(monitor.drain()?);
    }
    Ok(())
}

pub(crate) fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Two namespaces with a veth between them: `va` in `near`, `vb` in `far`, 10.9.0.{1,2} and
/// fd09::{1,2}. A second veth, `vy` with 10.8.0.1, leads nowhere.
pub(crate) struct Lab {
    pub(crate) near: Netns,
    pub(crate) far: Netns,
}

impl Lab {
    pub(crate) fn new() -> Result<Self> {
        let lab = Self {
            near: Netns::new()?,
            far: Netns::new()?,
        };
        lab.near.ip(&format!(
            "link add va type veth peer name vb netns {}",
            lab.far.name()
        ))?;
        for (namespace, interface, host) in [(&lab.near, "va", 1), (&lab.far, "vb", 2)] {
            namespace.ip(&format!("link set {interface} addrgenmode none up"))?;
            namespace.ip(&format!("address add 10.9.0.{host}/24 dev {interface}"))?;
            namespace.ip(&format!(
                "address add fd09::{host}/64 dev {interface} nodad"
            ))?;
            namespace.ip(&format!(
                "address add fe80::{host}/64 dev {interface} nodad"
            ))?;
        }
        lab.near.ip("link add vy type veth peer name vz")?;
        lab.near.ip("link set vz addrgenmode none up")?;
        lab.near.ip("link set vy addrgenmode none up")?;
        lab.near.ip("address add 10.8.0.1/24 dev vy")?;
        lab.near.ip("address add 10.9.0.9/24 dev va")?;
        lab.near
            .ip("address add fd09::9/64 dev va nodad preferred_lft 0")?;
        Ok(lab)
    }
}

/// A namespace, with what `ip` and `tc` say in it.
pub(crate) struct Netns(netns::Netns);

impl Netns {
    pub(crate) fn new() -> Result<Self> {
        netns::Netns::new("netlink").map(Self)
    }

    pub(crate) fn name(&self) -> &str {
        self.0.name()
    }

    /// Runs `work` on a thread of this namespace.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.0.enter(work)
    }

    pub(crate) fn ip(&self, arguments: &str) -> Result<String> {
        self.0.run(&format!("ip {arguments}"))
    }

    pub(crate) fn tc(&self, arguments: &str) -> Result<String> {
        self.0.run(&format!("tc {arguments}"))
    }

    pub(crate) fn json(&self, arguments: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.ip(&format!("-j {arguments}"))?)?)
    }

    pub(crate) fn index(&self, interface: &str) -> Result<u32> {
        self.0.index(interface)
    }

    /// Runs one `ip` command per line.
    pub(crate) fn batch(&self, commands: &str) -> Result<()> {
        let mut child = self
            .0
            .command("ip")?
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .context("no stdin")?
            .write_all(commands.as_bytes())?;
        ensure!(child.wait()?.success(), "ip -batch failed");
        Ok(())
    }
}

/// Attaches a tc program that does nothing, by way of a bpffs that only this thread sees.
pub(crate) fn attach_bpf(interface: &str, arguments: &str) -> Result<()> {
    const BPF_PROG_LOAD: i32 = 5;
    const BPF_OBJ_PIN: i32 = 6;
    const BPF_PROG_TYPE_SCHED_CLS: u64 = 3;
    const PATH: &str = "/sys/fs/bpf/nothing";

    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )?;
    mount(
        None::<&str>,
        "/sys/fs/bpf",
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )?;

    // r0 = -1 (TC_ACT_UNSPEC); exit
    let program: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];
    let length = (program.len() as u64) << 32;
    let load = [
        BPF_PROG_TYPE_SCHED_CLS | length,
        program.as_ptr() as u64,
        c"MIT".as_ptr() as u64,
    ];
    let program = bpf(BPF_PROG_LOAD, &load).context("load")?;
    let path = CString::new(PATH)?;
    bpf(
        BPF_OBJ_PIN,
        &[path.as_ptr() as u64, u64::from(program.cast_unsigned())],
    )
    .context("pin")?;
    nix::unistd::close(program)?;
    let filter =
        format!("filter add dev {interface} {arguments} bpf direct-action object-pinned {PATH}");
    process::succeed(
        Command::new("tc").args(filter.split_whitespace()),
        deadline(),
    )
    .map(drop)
}

pub(crate) fn bpf(command: i32, attributes: &[u64]) -> Result<i32> {
    // SAFETY: `attributes` holds the fields of `union bpf_attr` for `command`; its pointers outlive
    // the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_ptr(),
            size_of_val(attributes),
        )
    };
    nix::errno::Errno::result(result)?;
    Ok(i32::try_from(result)?)
}
