//! The daemon with the real resolver and a DNS server.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::netns::command_in;
use traffic_mirror_tests::lab::{deadline, process};

use super::{config, start};
use crate::site::{Site, status_until};

/// The program, which `cargo test --workspace` builds beside the tests.
fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let built = own.parent().and_then(|deps| deps.parent());
    let path = built
        .context("a directory")?
        .join("traffic-mirror-resolver");
    ensure!(
        path.exists(),
        "{} is not built: run `cargo build --profile tests --package traffic-mirror-resolver`",
        path.display()
    );
    Ok(path)
}

/// A DNS server of the edge. `None`: it answers that it has failed.
#[derive(Clone)]
struct Server {
    port: u16,
    address: Arc<Mutex<Option<Ipv4Addr>>>,
}

impl Server {
    fn start(site: &Site) -> Result<Self> {
        let socket = site.edge.enter(|| Ok(UdpSocket::bind("127.0.0.1:0")?))?;
        let server = Self {
            port: socket.local_addr()?.port(),
            address: Arc::default(),
        };
        let answers = server.clone();
        // it ends with the test's process
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((bytes, client)) = socket.recv_from(&mut buffer) {
                let message = answers.answer(&buffer[..bytes]);
                let _ = socket.send_to(&message, client);
            }
        });
        Ok(server)
    }

    fn answer(&self, question: &[u8]) -> Vec<u8> {
        let address = *self.address.lock().expect("a lock");
        let mut message = question.to_vec();
        message[2..4].copy_from_slice(&[0x81, 0x80]);
        match address {
            None => message[3] |= 2,
            // of a question for AAAA there is no answer
            Some(address) if question.ends_with(&[0, 1, 0, 1]) => {
                message[7] = 1;
                // a pointer to the question, A, IN, a TTL of a minute, four bytes
                message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                message.extend(address.octets());
            }
            Some(_) => {}
        }
        message
    }

    fn set(&self, address: Option<&str>) -> Result<()> {
        let address = address.map(str::parse).transpose()?;
        *self.address.lock().expect("a lock") = address;
        Ok(())
    }
}

/// Ends with the test.
struct Resolver(Child);

impl Resolver {
    fn start(site: &Site, daemon: &Daemon, port: u16) -> Result<Self> {
        let directory = daemon.names_path().with_file_name("");
        fs::create_dir_all(&directory)?;
        let conf = directory.join("resolv.conf");
        fs::write(
            &conf,
            "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        )?;
        let mut command: Command = command_in(&site.edge.as_fd().try_clone_to_owned()?, binary()?)?;
        command.arg("--wanted").arg(daemon.wanted_names_path());
        command.arg("--names").arg(daemon.names_path());
        command.arg("--resolv-conf").arg(conf);
        command.args(["--hosts", "/no/hosts", "--resolved", "/no/socket"]);
        command.args(["--port", &port.to_string()]);
        Ok(Self(command.stderr(Stdio::null()).spawn()?))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.0.id() as i32), signal)?)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_dns_answers_is_mirrored() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = start(&site, &config("destination", "\"edge.example\""))?;
    let server = Server::start(&site)?;
    let mut resolver = Resolver::start(&site, &daemon, server.port)?;
    let failing = |reason: &'static str| {
        status_until(&daemon, move |_, status| {
            status["dns_names"][0]["failing"]["reason"] == reason
        })
    };
    failing("server-failure")?;
    site.expect(4000, 0)?;
    server.set(Some("10.0.0.254"))?;
    resolver.signal(Signal::SIGHUP)?;
    let added = |line: &str| line.contains("DNS name edge.example: added 10.0.0.254");
    daemon.wait_line(added, deadline())?;
    daemon.wait_line(|line| line.contains("loaded the addresses"), deadline())?;
    site.expect(4000, 1)?;
    // answers add up, and failures take nothing away
    server.set(Some("10.0.0.253"))?;
    resolver.signal(Signal::SIGHUP)?;
    let both = |line: &str| line.ends_with("added 10.0.0.253; it has 2 addresses now");
    daemon.wait_line(both, deadline())?;
    server.set(None)?;
    resolver.signal(Signal::SIGHUP)?;
    failing("server-failure")?;
    site.expect(4000, 1)?;
    // without the process, too
    resolver.signal(Signal::SIGKILL)?;
    resolver.0.wait()?;
    site.expect(4000, 1)?;
    let mut resolver = Resolver::start(&site, &daemon, server.port)?;
    site.expect(4000, 1)?;
    // it ends with the last name of the file
    daemon.write_config(&crate::site::config(&[4001]))?;
    daemon.reload_done(deadline())?;
    let ended = process::wait(&mut resolver.0, deadline())?;
    assert_eq!(ended.map(process::code), Some(0));
    site.expect(4000, 0)
}
