//! `check`: is the file right?

use std::path::Path;
use std::process::ExitCode;

use traffic_mirror::desired::absent;
use traffic_mirror::kernel::netlink::Netlink;
use traffic_mirror::{diagnostic, status};

use super::{File, has_color, load};
use crate::FAILURE;

/// With `any_host` the interfaces of this one do not matter.
pub(crate) fn check(path: &Path, any_host: bool) -> anyhow::Result<ExitCode> {
    let file = File::read(path)?;
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

/// Warns of interfaces that this host does not have. Where the kernel does not say which it has, there is nothing to compare.
fn warn_of_absent(file: &File) {
    let Ok(links) = Netlink::open().and_then(|mut netlink| netlink.links()) else { return };
    let names: Vec<&str> = links.values().flat_map(|link| link.names()).collect();
    let text = String::from_utf8_lossy(&file.bytes);
    eprint!("{}", diagnostic::render(&absent(&text, &names), &file.name, &text, has_color(&std::io::stderr())));
}
