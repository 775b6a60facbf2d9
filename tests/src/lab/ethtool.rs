//! Device features (offloads) by the names of `ethtool -k`, through the ioctls of
//! `linux/ethtool.h`.

use super::netns::Netns;
use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::AsRawFd as _;

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
const NAME_BYTES: usize = 32;

/// A feature of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The kernel's name, such as `tx-tcp-segmentation`.
    pub name: String,
    /// Whether it can be changed.
    pub available: bool,
    /// Whether it is on.
    pub active: bool,
}

/// All features of an interface, in the kernel's order.
pub fn features(netns: &Netns, interface: &str) -> Result<Vec<Feature>> {
    let names = names(netns, interface)?;
    // struct ethtool_gfeatures: cmd, size, then for each 32 features available, requested, active,
    // never_changed
    let blocks = names.len().div_ceil(32);
    let mut words = vec![0; 2 + 4 * blocks];
    words[..2].copy_from_slice(&[ETHTOOL_GFEATURES, blocks as u32]);
    ioctl(netns, interface, &mut words)?;
    let bit = |index: usize, word: usize| words[2 + index / 32 * 4 + word] >> (index % 32) & 1 == 1;
    let features = names.into_iter().enumerate();
    Ok(features
        .map(|(index, name)| Feature {
            name,
            available: bit(index, 0),
            active: bit(index, 2),
        })
        .collect())
}

/// Switches features to what `wish` says; `None` leaves one as it is. Wishes for features that
/// cannot be changed, and wishes that the kernel does not fulfil because of others, are errors.
pub fn set_features(
    netns: &Netns,
    interface: &str,
    wish: impl Fn(&Feature) -> Option<bool>,
) -> Result<()> {
    let live = features(netns, interface)?;
    // struct ethtool_sfeatures: cmd, size, then for each 32 features valid, requested
    let blocks = live.len().div_ceil(32);
    let mut words = vec![0; 2 + 2 * blocks];
    words[..2].copy_from_slice(&[ETHTOOL_SFEATURES, blocks as u32]);
    for (index, feature) in live.iter().enumerate() {
        let Some(on) = wish(feature) else { continue };
        ensure!(
            feature.available || feature.active == on,
            "{} of {interface} cannot be changed",
            feature.name
        );
        words[2 + index / 32 * 2] |= u32::from(feature.available) << (index % 32);
        words[3 + index / 32 * 2] |= u32::from(on) << (index % 32);
    }
    ioctl(netns, interface, &mut words)?;
    let differs: Vec<_> = features(netns, interface)?
        .into_iter()
        .zip(&live)
        .filter(|(feature, before)| wish(before).is_some_and(|on| on != feature.active))
        .map(|(feature, _)| feature.name)
        .collect();
    ensure!(
        differs.is_empty(),
        "{interface} does not take a change of {}",
        differs.join(", ")
    );
    Ok(())
}

/// Switches everything that merges, splits or leaves checksums open: segmentation, scatter-gather,
/// checksums of transmitted packets, receive aggregation (GRO). Features that the device cannot
/// change stay.
pub fn offload(netns: &Netns, interface: &str, on: bool) -> Result<()> {
    set_features(netns, interface, |feature| {
        let name = feature.name.as_str();
        let group = name.ends_with("-segmentation")
            || ["tx-checksum-", "tx-scatter-gather", "tx-gso-", "rx-gro"]
                .iter()
                .any(|start| name.starts_with(start));
        (group && feature.available).then_some(on)
    })
}

fn names(netns: &Netns, interface: &str) -> Result<Vec<String>> {
    // struct ethtool_sset_info: cmd, reserved, a 64-bit mask, then one length for each bit of the
    // mask
    let mut info = [ETHTOOL_GSSET_INFO, 0, 0, 0, 0];
    let mask = (1_u64 << ETH_SS_FEATURES).to_ne_bytes();
    for (word, bytes) in info[2..4].iter_mut().zip(mask.as_chunks().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    ioctl(netns, interface, &mut info)?;
    let count = info[4] as usize;
    // struct ethtool_gstrings: cmd, string_set, len, then the names
    let mut words = vec![0; 3 + count * NAME_BYTES / 4];
    words[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count as u32]);
    ioctl(netns, interface, &mut words)?;
    let bytes: Vec<u8> = words[3..]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    let name = |name: &[u8; NAME_BYTES]| {
        String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or(name)).into_owned()
    };
    Ok(bytes.as_chunks().0.iter().map(name).collect())
}

/// One `SIOCETHTOOL`; the first word is the command, and `words` has room for the answer it asks
/// for.
fn ioctl(netns: &Netns, interface: &str, words: &mut [u32]) -> Result<()> {
    ensure!(
        interface.len() < libc::IFNAMSIZ,
        "interface name {interface:?} is too long"
    );
    let command = words[0];
    netns.enter(|| {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .context("open a socket for ethtool")?;
        let mut request = libc::ifreq {
            ifr_name: [0; libc::IFNAMSIZ],
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_data: words.as_mut_ptr().cast(),
            },
        };
        for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: the request is valid and ends its name with 0; the kernel writes no more than the
        // sizes within `words` announce, for which there is room.
        let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &mut request) };
        if done < 0 {
            let error = std::io::Error::last_os_error();
            return Err(error)
                .with_context(|| format!("ethtool command {command:#x} on {interface}"));
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::veth::veth;

    #[test]
    fn features_are_switched_by_name() -> Result<()> {
        let netns = Netns::new("lab-ethtool")?;
        veth(&netns, "eth0", &netns, "eth1")?;
        let change = |name: &str, on| {
            set_features(&netns, "eth0", |feature| {
                (feature.name == name).then_some(on)
            })
        };
        let active = || -> Result<Vec<String>> {
            let all = features(&netns, "eth0")?;
            Ok(all
                .into_iter()
                .filter(|feature| feature.active)
                .map(|feature| feature.name)
                .collect())
        };
        let before = active()?;
        let name = "tx-udp-segmentation";
        assert!(before.iter().any(|active| active == name));
        change(name, false)?;
        assert_eq!(
            active()?,
            before
                .iter()
                .filter(|active| *active != name)
                .cloned()
                .collect::<Vec<_>>()
        );
        change(name, true)?;
        assert_eq!(active()?, before);
        let all = features(&netns, "eth0")?;
        let fixed = all
            .iter()
            .find(|feature| !feature.available && !feature.active)
            .context("all can be changed")?;
        assert!(change(&fixed.name, true).is_err());
        Ok(())
    }
}
