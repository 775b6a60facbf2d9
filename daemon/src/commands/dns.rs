//! DNS names and their addresses, as the commands read them.

use std::path::Path;

use traffic_mirror::compile::addresses;
use traffic_mirror::desired::{Addresses, Desired};
use traffic_mirror::dns;
use traffic_mirror::kernel::{Observer, record};
use traffic_mirror::source::reader::Reader;
use traffic_mirror_resolver::Names;

use super::File;

/// What is known of names, or a sentence why nothing is.
pub(super) fn known(path: &Path) -> Result<Names, String> {
    let remedy = "\"systemctl status traffic-mirror-resolver\" says more";
    match dns::read(path) {
        Ok(Some(names)) => Ok(names),
        Ok(None) => {
            let path = path.display();
            Err(format!(
                "no address of a DNS name is known: {path} is missing; {remedy}"
            ))
        }
        Err(why) => Err(format!(
            "no address of a DNS name is known: {why}; {remedy}"
        )),
    }
}

/// The file that the daemon follows, and what is known of its DNS names. `None` if it has none:
/// unless something `lacks_address`, that is so without reading it if no address is known.
pub(super) fn of_daemon(
    pin_path: &Path,
    names: &Path,
    lacks_address: bool,
) -> Option<(Desired, Result<Names, String>)> {
    let known = known(names);
    if !lacks_address && known.as_ref().map_or(true, |names| names.0.is_empty()) {
        return None;
    }
    let file = File::read(&record(pin_path)?.path).ok()?;
    let (desired, _) = Reader::default().load(&file.bytes).ok()?;
    desired.has_dns_names().then_some((desired, known))
}

/// What the daemon would make of a file, with the addresses that are known. Endpoints keep those
/// that they have.
///
/// # Errors
/// The live tables cannot be read.
pub(super) fn resolved(
    written: Desired,
    names: &Path,
    observer: &mut Observer,
) -> anyhow::Result<Desired> {
    if !written.has_dns_names() {
        return Ok(written);
    }
    let live = observer.live()?;
    let kept = live.map_or_else(Addresses::new, |live| addresses(&live.tables));
    let known = known(names).unwrap_or_default();
    Ok(written.resolved(&known, None, &kept))
}
