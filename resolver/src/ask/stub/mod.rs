//! Input: a name, and the servers of resolv.conf(5). Output: its addresses, as those servers answer.
//! Names are absolute: neither a search list nor `ndots` applies.

use std::time::{Duration, Instant};

use traffic_mirror_resolver::{Failure, Name};

use crate::ask::message::{MOST_ALIASES, Question, Reading, Target};
use crate::ask::settings::Settings;
use crate::ask::{Family, transport};
use crate::cache::Answer;
use crate::random;

/// A question ends after this time, however many servers and attempts resolv.conf(5) has.
const LONGEST: Duration = Duration::from_secs(60);

/// Asks for the addresses of a name.
pub(crate) fn resolve(name: &Name, family: Family, settings: &Settings) -> Answer {
    if settings.servers.is_empty() {
        return Err(Failure::Unreachable);
    }
    // a name that was checked has no label that is too long
    let mut target = Target::vec_from_str(name.as_str()).map_err(|_| Failure::Malformed)?;
    let (mut ttl, mut aliases) = (u32::MAX, 0);
    let end = Instant::now() + LONGEST;
    loop {
        match exchange(&target, family, settings, end)? {
            Reading::Addresses(mut addresses) => {
                for (_, its_ttl) in &mut addresses {
                    *its_ttl = ttl.min(*its_ttl);
                }
                return Ok(addresses);
            }
            Reading::Alias {
                to,
                ttl: its_ttl,
                count,
            } => {
                aliases += count;
                if aliases > MOST_ALIASES {
                    return Err(Failure::AliasLoop);
                }
                ttl = ttl.min(its_ttl);
                target = to;
            }
            Reading::Truncated => return Err(Failure::Malformed),
        }
    }
}

/// Asks one server after the other, as often as resolv.conf(5) says, until one answers.
fn exchange(
    target: &Target,
    family: Family,
    settings: &Settings,
    end: Instant,
) -> Result<Reading, Failure> {
    let servers = &settings.servers;
    let first = if settings.rotate {
        random::number() as usize
    } else {
        0
    };
    let mut failed = None;
    for turn in 0..settings.attempts * servers.len() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let server = servers[first.wrapping_add(turn) % servers.len()];
        // an id that can be guessed is none
        let id = random::id().ok_or(Failure::Unreachable)?;
        let question = Question::new(id, target, family);
        let patience = settings.timeout.min(left);
        match transport::ask(server, &question, settings.only_tcp, patience) {
            Err(failure) if !is_final(failure) => failed = Some(worse(failed, failure)),
            answer => return answer,
        }
    }
    Err(failed.unwrap_or(Failure::Timeout))
}

/// Whether another server would say the same.
fn is_final(failure: Failure) -> bool {
    failure.is_authoritative() || failure == Failure::AliasLoop
}

/// The reason to tell: what a server has said, rather than that another one is silent.
fn worse(before: Option<Failure>, failure: Failure) -> Failure {
    let is_silence = |failure| matches!(failure, Failure::Timeout | Failure::Unreachable);
    match before {
        Some(before) if is_silence(failure) && !is_silence(before) => before,
        _ => failure,
    }
}

#[cfg(test)]
mod tests;
