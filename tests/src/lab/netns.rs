//! Network namespaces that go away with the test.

use super::{deadline, pause, process, unique};
use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::Once;
use std::time::Instant;

/// A network namespace, deleted on drop, also when a test panics.
///
/// Only the network is apart: file system, mounts and `/sys/fs/bpf` are those of the machine, for
/// threads ([`Netns::enter`]) and for child processes ([`Netns::command`]) alike.
#[derive(Debug)]
pub struct Netns {
    prefix: String,
    name: String,
    fd: OwnedFd,
}

impl Netns {
    /// Makes the namespace `<prefix>-<pid>-<n>` with `lo` up. Interfaces made in it later send no
    /// router solicitations and use their IPv6 addresses at once (no duplicate address detection).
    ///
    /// IPv6 still sends multicast listener reports when an address is added; where a test wants
    /// silence, set `net.ipv6.conf.default.disable_ipv6` to 1 before it makes an interface.
    pub fn new(prefix: &str) -> Result<Self> {
        static BACKLOG: Once = Once::new();
        BACKLOG.call_once(raise_backlog);
        let name = unique(prefix);
        process::succeed(Command::new("ip").args(["netns", "add", &name]), deadline())?;
        let opened = File::open(format!("/run/netns/{name}"))
            .with_context(|| format!("open namespace {name}"));
        if opened.is_err() {
            delete(&name);
        }
        let netns = Self {
            prefix: prefix.to_owned(),
            name,
            fd: opened?.into(),
        };
        netns.run("ip link set lo up")?;
        netns.sysctl("net.ipv6.conf.default.accept_ra", "0")?;
        netns.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
        Ok(netns)
    }

    /// Its name for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the test called it.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Runs `work` on a thread inside the namespace. Sockets opened there stay in it; a panic is
    /// passed on.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        enter(&self.fd, work).with_context(|| format!("in namespace {}", self.name))
    }

    /// A command that will run inside the namespace.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        command_in(&self.fd, program)
    }

    /// Runs a command line inside the namespace and returns what it printed; a failure is an error
    /// that holds it. Words end at white space and nothing is quoted: for anything else there is
    /// [`Netns::command`].
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().context("an empty command line")?);
        self.enter(|| process::succeed(command.args(words), deadline()))
    }

    /// Runs a command line again and again until `wanted` holds for what it prints, and returns
    /// that.
    pub fn run_until(
        &self,
        line: &str,
        wanted: impl Fn(&str) -> bool,
        deadline: Instant,
    ) -> Result<String> {
        loop {
            let printed = self.run(line)?;
            if wanted(&printed) {
                return Ok(printed);
            }
            let name = &self.name;
            ensure!(
                Instant::now() < deadline,
                "`{line}` in namespace {name} still prints\n{printed}"
            );
            pause();
        }
    }

    /// Sets a variable such as `net.ipv4.ip_forward` in the namespace. `/` stands for a dot in an
    /// interface's name.
    pub fn sysctl(&self, variable: &str, value: &str) -> Result<()> {
        let path: String = variable
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect();
        self.enter(|| {
            fs::write(format!("/proc/sys/{path}"), value).with_context(|| format!("set {variable}"))
        })
    }

    /// Adds an address such as `10.0.0.1/24` or `2001:db8::1/64` to an interface, and waits until
    /// it is in use.
    pub fn address(&self, interface: &str, address: &str) -> Result<()> {
        if !address.contains(':') {
            return self
                .run(&format!("ip address add {address} dev {interface}"))
                .map(drop);
        }
        self.run(&format!("ip address add {address} dev {interface} nodad"))?;
        // Even without duplicate address detection a work queue (`addrconf_dad_work`) makes the
        // address local.
        let host = address.split('/').next().unwrap_or(address);
        let routes = format!("ip -6 route show table local {host}");
        self.run_until(&routes, |routes| !routes.is_empty(), deadline())
            .map(drop)
    }

    /// Lets the namespace forward packets between its interfaces (`true`), and switches the reverse
    /// path filter off.
    pub fn forward(&self, forward: bool) -> Result<()> {
        let value = if forward { "1" } else { "0" };
        self.sysctl("net.ipv4.ip_forward", value)?;
        self.sysctl("net.ipv6.conf.all.forwarding", value)?;
        self.rp_filter(false)
    }

    /// Sets the reverse path filter of interfaces that exist and that will come, strict or off.
    pub fn rp_filter(&self, strict: bool) -> Result<()> {
        let value = if strict { "1" } else { "0" };
        let inside = self.enter(|| {
            let entries = fs::read_dir("/proc/sys/net/ipv4/conf").context("list net.ipv4.conf")?;
            Ok(entries
                .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
                .collect())
        });
        let interfaces: Vec<String> = inside?;
        for interface in interfaces {
            self.sysctl(
                &format!("net.ipv4.conf.{}.rp_filter", interface.replace('.', "/")),
                value,
            )?;
        }
        Ok(())
    }

    /// The index of an interface.
    pub fn index(&self, interface: &str) -> Result<u32> {
        let index = self.enter(|| Ok(nix::net::if_::if_nametoindex(interface)?));
        index.with_context(|| format!("index of {interface} in namespace {}", self.name))
    }

    /// The MAC address of an interface.
    pub fn mac(&self, interface: &str) -> Result<super::packet::Mac> {
        let addresses = self.enter(|| Ok(nix::ifaddrs::getifaddrs()?.collect::<Vec<_>>()))?;
        let link = addresses
            .iter()
            .filter(|entry| entry.interface_name == interface);
        let mac = link
            .filter_map(|entry| entry.address.as_ref()?.as_link_addr()?.addr())
            .next();
        mac.with_context(|| format!("MAC address of {interface} in namespace {}", self.name))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// Runs `work` on a thread inside the namespace of a descriptor; a panic is passed on. Processes
/// are best started there: what [`command_in`] makes takes a copy of this process first, which is
/// slow.
pub(super) fn enter<T: Send>(
    netns: &OwnedFd,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(netns, CloneFlags::CLONE_NEWNET).context("enter a namespace")?;
            work()
        });
        inside.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// A command that will run inside the namespace of a descriptor.
pub fn command_in(netns: &OwnedFd, program: impl AsRef<OsStr>) -> Result<Command> {
    let netns = netns
        .try_clone()
        .context("duplicate the descriptor of a namespace")?;
    let mut command = Command::new(program);
    // SAFETY: between fork and exec the closure makes one system call, and neither allocates nor
    // locks.
    unsafe {
        command.pre_exec(move || Ok(setns(&netns, CloneFlags::CLONE_NEWNET)?));
    }
    Ok(command)
}

fn delete(name: &str) {
    if let Err(error) = process::succeed(
        Command::new("ip").args(["netns", "delete", name]),
        deadline(),
    ) {
        eprintln!("{error:#}");
    }
}

/// The receive queue between veth ends drops beyond `net.core.netdev_max_backlog` packets, 1,000 by
/// default: too few for a burst on a slow machine. It belongs to the first namespace alone; where
/// it is out of reach it stays.
fn raise_backlog() {
    const PACKETS: u32 = 100_000;
    let path = "/proc/sys/net/core/netdev_max_backlog";
    let value = fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok());
    if value.is_some_and(|value| value < PACKETS)
        && let Err(error) = fs::write(path, PACKETS.to_string())
    {
        eprintln!("set net.core.netdev_max_backlog: {error}");
    }
}

/// Mounts the BPF file system on `/sys/fs/bpf` if nobody has.
pub fn ensure_bpffs() -> Result<()> {
    let path = "/sys/fs/bpf";
    let mounted = || -> Result<bool> {
        let found = statfs(path).with_context(|| format!("statfs {path}"))?;
        Ok(found.filesystem_type() == BPF_FS_MAGIC)
    };
    if mounted()? {
        return Ok(());
    }
    // Two mounts would lie on top of each other; whoever comes second finds the first one's.
    let directory = File::open(path).with_context(|| format!("open {path}"))?;
    let _one_at_a_time = Flock::lock(directory, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .context("lock /sys/fs/bpf")?;
    if mounted()? {
        return Ok(());
    }
    mount(
        Some("bpf"),
        path,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("mount {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::veth::{Veth, veth};
    use std::path::Path;

    #[test]
    fn namespaces_are_apart_and_go_away() -> Result<()> {
        let netns = Netns::new("lab-ns")?;
        let path = format!("/run/netns/{}", netns.name());
        let links =
            |command: &mut Command| process::succeed(command.args(["-o", "link"]), deadline());
        veth(&netns, "m0", &netns, "m1.5")?;
        assert!(links(&mut netns.command("ip")?)?.contains("m1.5@m0"));
        assert!(!links(&mut Command::new("ip"))?.contains("m1.5@m0"));
        assert_eq!(
            netns.enter(|| Ok(nix::net::if_::if_nametoindex("m0")?))?,
            netns.index("m0")?
        );
        netns.sysctl("net.ipv4.conf.m1/5.forwarding", "1")?;
        netns.rp_filter(true)?;
        netns.forward(true)?;
        assert_eq!(
            netns
                .run("cat /proc/sys/net/ipv4/conf/m1.5/rp_filter /proc/sys/net/ipv4/ip_forward")?,
            "0\n1\n"
        );
        ensure_bpffs()?;
        assert!(
            netns
                .run("stat --file-system --format %T /sys/fs/bpf")?
                .starts_with("bpf")
        );
        let error = netns
            .run("ip link show dev nothing")
            .expect_err("no such interface");
        assert!(
            format!("{error:#}").contains("Device \"nothing\" does not exist"),
            "{error:#}"
        );
        assert!(
            Veth {
                macs: Some([[2; 6]; 2]),
                ..Veth::default()
            }
            .create(&netns, "x", &netns, "y")
            .is_err()
        );

        let panicked = std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                netns
                    .enter(|| -> Result<()> { panic!("a test that fails") })
                    .expect("a panic is passed on");
            });
            inside.join()
        });
        assert!(panicked.is_err());
        assert!(!Path::new(&path).exists());
        Ok(())
    }
}
