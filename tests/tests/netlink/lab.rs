//! Two namespaces, and what `ip` and `tc` say of them.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;
use traffic_mirror::kernel::netlink::{Event, Monitor};
use traffic_mirror::network::{Route, RouteKind};

const DEADLINE: Duration = Duration::from_secs(10);

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
    let deadline = Instant::now() + DEADLINE;
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
            lab.far.name
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

/// A network namespace with `lo` up, deleted on drop.
pub(crate) struct Netns {
    pub(crate) name: String,
}

impl Netns {
    pub(crate) fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "netlink-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Runs `f` on a thread of this namespace.
    pub(crate) fn inside<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let enter = || -> Result<T> {
            setns(
                File::open(format!("/run/netns/{}", self.name))?,
                CloneFlags::CLONE_NEWNET,
            )?;
            f()
        };
        thread::scope(|scope| scope.spawn(enter).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    pub(crate) fn ip(&self, arguments: &str) -> Result<String> {
        run(Command::new("ip")
            .args(["-n", &self.name])
            .args(arguments.split_whitespace()))
    }

    pub(crate) fn tc(&self, arguments: &str) -> Result<String> {
        run(Command::new("tc")
            .args(["-n", &self.name])
            .args(arguments.split_whitespace()))
    }

    pub(crate) fn json(&self, arguments: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.ip(&format!("-j {arguments}"))?)?)
    }

    pub(crate) fn index(&self, interface: &str) -> Result<u32> {
        let index = self.json(&format!("link show dev {interface}"))?[0]["ifindex"].as_u64();
        Ok(u32::try_from(index.context("no ifindex")?)?)
    }

    /// Runs one `ip` command per line.
    pub(crate) fn batch(&self, commands: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
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

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = run(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {error}");
    Ok(String::from_utf8(output.stdout)?)
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
    run(Command::new("tc").args(filter.split_whitespace())).map(drop)
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
