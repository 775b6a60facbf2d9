//! What this mirror has to do with others: `peers`, `seed`.

use ipnet::IpNet;
use toml::Spanned;
use traffic_mirror_ebpf::abi::MAX_PEERS;

use super::address;
use super::field::optional;
use super::problem::value;
use crate::config::{Config, Secret};
use crate::diagnostic::{Checked, Code, Diagnostic, Diagnostics};

/// Least characters of a `seed`.
const SEED_MIN: usize = 16;

/// `peers`: sorted, without the networks that lie in another one.
pub(super) fn peers(config: &Config, diagnostics: &mut Diagnostics) -> Checked<Vec<IpNet>> {
    let Some(list) = optional(&config.peers)? else {
        return Ok(Vec::new());
    };
    let read: Vec<Checked<IpNet>> = list
        .get_ref()
        .iter()
        .map(|element| {
            let element = element.as_ref().map_err(|reported| *reported)?;
            value(diagnostics, "the file", "peers", element, |text| {
                address::network(text)
            })
        })
        .collect();
    let peers = address::normalized(read.into_iter().collect::<Checked<_>>()?);
    if peers.len() > MAX_PEERS {
        let message = format!(
            "the file has {} peers, but the limit is {MAX_PEERS}",
            peers.len()
        );
        let help = "name networks in place of single addresses";
        return Err(diagnostics
            .report(Diagnostic::new(Code::LimitExceeded, list.span(), message).help(help)));
    }
    Ok(peers)
}

/// `seed`. No message contains its value.
pub(super) fn seed(config: &Config, diagnostics: &mut Diagnostics) -> Checked<Option<Secret>> {
    let Some(seed) = optional(&config.seed)? else {
        return Ok(None);
    };
    check(seed, diagnostics)?;
    Ok(Some(seed.get_ref().clone()))
}

fn check(seed: &Spanned<Secret>, diagnostics: &mut Diagnostics) -> Checked<()> {
    if seed.get_ref().text().chars().count() >= SEED_MIN {
        return Ok(());
    }
    let message =
        format!("the file has a seed of fewer than {SEED_MIN} characters, which can be guessed");
    let help = "write a long random text, such as openssl rand -hex 16 prints";
    Err(diagnostics.report(Diagnostic::new(Code::BadSeed, seed.span(), message).help(help)))
}
