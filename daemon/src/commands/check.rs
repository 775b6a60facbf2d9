//! `check`: is the file right?

use std::path::Path;
use std::process::ExitCode;

use nix::unistd::geteuid;
use traffic_mirror::desired::absent;
use traffic_mirror::kernel::netlink::Netlink;
use traffic_mirror::{diagnostic, status};

use super::{File, distrust_of, has_color, load};
use crate::FAILURE;

/// With `is_followed` the file is that of a daemon: no other user may write it. With `any_host` the
/// interfaces of this host do not matter.
pub(crate) fn check(path: &Path, is_followed: bool, any_host: bool) -> anyhow::Result<ExitCode> {
    let file = File::read(path)?;
    if let Some(why) = distrust_of(path, is_followed) {
        // another user than the daemon's sees other rights
        let is_root = geteuid().is_root();
        eprintln!("{}: {why}", if is_root { "error" } else { "warning" });
        if is_root {
            return Ok(FAILURE.into());
        }
    }
    Ok(match load(&file) {
        Some(desired) => {
            if !any_host {
                warn_of_absent(&file);
            }
            println!("{}: ok, {}", file.name, status::summary(&desired));
            ExitCode::SUCCESS
        }
        None => FAILURE.into(),
    })
}

/// Warns of interfaces that this host does not have. Does nothing if the kernel does not list its
/// interfaces.
fn warn_of_absent(file: &File) {
    let Ok(links) = Netlink::open().and_then(|mut netlink| netlink.links()) else {
        return;
    };
    let names: Vec<&str> = links.values().flat_map(|link| link.names()).collect();
    let text = String::from_utf8_lossy(&file.bytes);
    eprint!(
        "{}",
        diagnostic::render(
            &absent(&text, &names),
            &file.name,
            &text,
            has_color(&std::io::stderr())
        )
    );
}
