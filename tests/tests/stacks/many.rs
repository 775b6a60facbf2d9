//! A thousand connections, of which half are wanted.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::{deadline, file};

use crate::host::{Host, config};
use crate::web::{Made, Nginx, check, curl};

const CONNECTIONS: usize = 1000;
const AT_ONCE: usize = 50;
const WANTED: &str = "server_name = [\"*.shop.example\"]";

fn names() -> Vec<String> {
    let domain = |nth: usize| {
        if (nth / 2).is_multiple_of(2) {
            "shop"
        } else {
            "other"
        }
    };
    let names = (0..CONNECTIONS).map(|nth| format!("n{nth}.{}.example", domain(nth)));
    names.collect()
}

fn check_all(host: &mut Host, made: &[Made]) -> Result<()> {
    let (originals, copies) = host.settle()?;
    let mut wanted = 0;
    for one in made {
        let is_wanted = one.name.ends_with(".shop.example");
        wanted += usize::from(is_wanted);
        check(one, is_wanted, 0, &originals, &copies)?;
    }
    ensure!(wanted * 2 == made.len(), "{wanted} of {}", made.len());
    Ok(())
}

#[test]
fn half_of_a_thousand_connections_are_whole() -> Result<()> {
    for (offload, scheme) in [(true, "https"), (false, "https"), (true, "http")] {
        let mut host = Host::new(&config(WANTED), offload)?;
        let _nginx = Nginx::start(&host.host)?;
        let made = curl(&host.client, scheme, &names(), AT_ONCE)?;
        check_all(&mut host, &made).with_context(|| format!("{scheme}, offload: {offload}"))?;
    }
    Ok(())
}

/// The connections, while something else goes on until they have ended.
fn connect_during(
    host: &mut Host,
    mut other: impl FnMut(&mut Daemon, usize) -> Result<()>,
) -> Result<Vec<Made>> {
    let Host { client, daemon, .. } = host;
    thread::scope(|scope| {
        let connecting = scope.spawn(|| curl(client, "https", &names(), AT_ONCE));
        let mut times = 0;
        while !connecting.is_finished() {
            other(daemon, times)?;
            times += 1;
        }
        ensure!(times > 2, "it went on {times} times only");
        connecting.join().expect("the client does not panic")
    })
}

#[test]
fn reloads_lose_nothing_of_what_stays() -> Result<()> {
    let mut host = Host::new(&config(WANTED), true)?;
    let _nginx = Nginx::start(&host.host)?;
    let made = connect_during(&mut host, |daemon, nth| {
        // names that come and go, in the same filter and in another one
        let names = (0..=nth % 50).map(|more| format!("\"m{nth}.{more}.example\", "));
        let list = format!(
            "server_name = [{}\"*.shop.example\"]",
            names.collect::<String>()
        );
        let text = config(&list) + &more_filters(nth % 3);
        daemon.write_config(&text)?;
        daemon.reload_done(deadline()).map(drop)
    })?;
    check_all(&mut host, &made)
}

/// So many filters with names that nobody asks for.
fn more_filters(count: usize) -> String {
    let filter = |nth: usize| {
        let names =
            format!("protocol = [\"tcp\"]\nserver_name = [\"*.{nth}.example\", \"{nth}.example\"]");
        file::filter(&format!("more-{nth}"), &names, "\"ids\"")
    };
    (0..count).map(filter).collect()
}

#[test]
fn kills_lose_nothing() -> Result<()> {
    let mut host = Host::new(&config(WANTED), true)?;
    let _nginx = Nginx::start(&host.host)?;
    let made = connect_during(&mut host, |daemon, _| {
        daemon.signal(Signal::SIGKILL)?;
        daemon.wait_exit(deadline())?;
        daemon.restart()?;
        daemon.ready(deadline())
    })?;
    check_all(&mut host, &made)
}
