//! nginx, and the connections of curl and OpenSSL to it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::{TempDir, deadline, patience, process};

use crate::host::SERVER;
use crate::streams::{Streams, Way};

/// Bytes of each answer's body.
pub(crate) const BODY_BYTES: usize = 20_000;

/// The client's port of the first connection: none is used twice.
const FIRST_PORT: usize = 20_000;

/// Some clients check the certificate.
const NAMES: &str = "subjectAltName=DNS:*.shop.example,DNS:*.other.example";

/// nginx with one certificate for all names.
pub(crate) struct Nginx {
    process: Child,
    directory: TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM);
        let _ = process::wait(&mut self.process, deadline());
    }
}

impl Nginx {
    pub(crate) fn start(host: &Netns) -> Result<Self> {
        let directory = TempDir::new()?;
        let path = directory.path();
        certificate(host, path)?;
        fs::write(path.join("body"), vec![b'x'; BODY_BYTES])?;
        fs::write(path.join("nginx.conf"), settings(path))?;
        let mut command = host.command("nginx")?;
        let conf = path.join("nginx.conf");
        command.arg("-p").arg(path).arg("-c").arg(conf);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.spawn().context("start nginx")?;
        let nginx = Self { process, directory };
        host.run_until(
            "ss --listening --tcp --numeric --no-header",
            |printed| printed.matches(":443").count() == SERVER.len(),
            deadline(),
        )?;
        Ok(nginx)
    }

    /// Where its certificate is.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// A key and a certificate for some names.
pub(crate) fn certificate(host: &Netns, path: &Path) -> Result<()> {
    let mut command = host.command("openssl")?;
    command.args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "1"]);
    command.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=test"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.args(["-addext", NAMES]);
    command.arg("-keyout").arg(path.join("key"));
    command.arg("-out").arg(path.join("certificate"));
    process::succeed(&mut command, deadline())?;
    Ok(())
}

fn settings(path: &Path) -> String {
    let path = path.display();
    let [four, six] = SERVER;
    format!(
        "daemon off; master_process off; user root; pid {path}/pid; error_log {path}/error;
         events {{ worker_connections 4096; }}
         http {{
             access_log off; client_body_temp_path {path}/a; proxy_temp_path {path}/b;
             fastcgi_temp_path {path}/c; uwsgi_temp_path {path}/d; scgi_temp_path {path}/e;
             server {{
                 listen {four}:80; listen [{six}]:80;
                 listen {four}:443 ssl backlog=4096; listen [{six}]:443 ssl backlog=4096;
                 ssl_certificate {path}/certificate; ssl_certificate_key {path}/key;
                 ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:all:1m;
                 root {path}; location / {{ try_files /body =404; }}
             }}
         }}\n"
    )
}

/// A connection that was made.
#[derive(Debug)]
pub(crate) struct Made {
    /// Whom it asked for.
    pub(crate) name: String,
    /// The client's address and port.
    pub(crate) client: (IpAddr, u16),
    /// The server's address.
    pub(crate) server: IpAddr,
}

/// One connection for each URL of `scheme` with these names, at most `at_once` at a time.
pub(crate) fn curl(
    client: &Netns,
    scheme: &str,
    names: &[String],
    at_once: usize,
) -> Result<Vec<Made>> {
    let directory = TempDir::new()?;
    let list = directory.path().join("list");
    let urls = names.iter().enumerate().map(|(nth, name)| {
        let to = [SERVER[0].to_owned(), format!("[{}]", SERVER[1])];
        format!(
            "url = \"{scheme}://{name}/\"\nconnect-to = \"{name}::{}:\"\nlocal-port = {}\n\
             output = /dev/null\ninsecure\nhttp1.1\nfail\nwrite-out = \"%{{size_download}} \
             %{{local_ip}} %{{local_port}} %{{remote_ip}} {name}\\n\"\n",
            to[nth % 2],
            FIRST_PORT + nth,
        )
    });
    fs::write(&list, urls.collect::<Vec<_>>().join("next\n"))?;
    let mut command = client.command("curl")?;
    command.args([
        "--no-progress-meter",
        "--parallel",
        "--parallel-immediate",
        "--parallel-max",
    ]);
    command.arg(at_once.to_string()).arg("--config").arg(&list);
    let until = Instant::now() + Duration::from_secs(60) * patience();
    let printed = process::succeed(&mut command, until)?;
    let made = printed.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [bytes, from, port, to, name] = words[..] else {
            anyhow::bail!("curl printed {line:?}");
        };
        ensure!(
            bytes.parse() == Ok(BODY_BYTES),
            "{name}: {bytes} bytes came"
        );
        Ok(Made {
            name: name.to_owned(),
            client: (from.parse()?, port.parse()?),
            server: to.parse()?,
        })
    });
    let made: Vec<Made> = made.collect::<Result<_>>()?;
    ensure!(made.len() == names.len(), "{} connections", made.len());
    Ok(made)
}

/// A connection of `openssl s_client` with these arguments, from a port.
pub(crate) fn openssl(client: &Netns, name: &str, port: u16, args: &[&str]) -> Result<Made> {
    let from = "10.2.0.2";
    let mut command = client.command("openssl")?;
    command.args(["s_client", "-quiet", "-no_ign_eof", "-servername", name]);
    command.args(["-connect", &format!("{}:443", SERVER[0])]);
    command
        .args(["-bind", &format!("{from}:{port}")])
        .args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    // it tells of the certificate
    command.stderr(Stdio::null());
    let mut child = command.spawn().context("start openssl")?;
    // it ends the connection at the end of its input
    let mut stdin = child.stdin.take().context("its input")?;
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    stdin.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut stdout = child.stdout.take().context("its output")?;
    stdout.read_to_end(&mut answer)?;
    drop(stdin);
    process::wait(&mut child, deadline())?.context("openssl does not end")?;
    ensure!(answer.len() > BODY_BYTES, "{} bytes came", answer.len());
    Ok(Made {
        name: name.to_owned(),
        client: (from.parse()?, port),
        server: SERVER[0].parse()?,
    })
}

/// That of a wanted connection all was copied, once, and of another no more than what comes before
/// the hello is whole: `before` bytes.
pub(crate) fn check(
    made: &Made,
    is_wanted: bool,
    before: usize,
    originals: &Streams,
    copies: &Streams,
) -> Result<()> {
    for sender in [made.client.0, made.server] {
        let original = originals.way(sender, made.client.1);
        let copy = copies.way(sender, made.client.1);
        check_way(&original, &copy, is_wanted, before).with_context(|| {
            format!("{made:?}, sent by {sender}: {original:?}, copied {copy:?}")
        })?;
    }
    Ok(())
}

fn check_way(original: &Way, copy: &Way, is_wanted: bool, before: usize) -> Result<()> {
    let said = original.whole().context("the connection itself")?;
    ensure!(!said.is_empty(), "nothing was said");
    if !is_wanted {
        let [first, last] = copy.ends;
        ensure!(first.is_some() && last.is_none(), "SYN or FIN");
        ensure!(copy.bytes <= before && copy.bare <= 2, "it is not wanted");
        return Ok(());
    }
    ensure!(copy.whole()? == said, "other bytes");
    let counts = |way: &Way| (way.ends, way.bytes, way.bare);
    ensure!(counts(copy) == counts(original), "not each segment once");
    Ok(())
}
