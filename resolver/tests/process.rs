//! The program as systemd starts it, with names of this host and with a DNS server on 127.0.0.1.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use traffic_mirror_resolver::{Failure, Name, Names};

/// A process and its files, all of which end with the test.
struct Resolver {
    directory: PathBuf,
    child: Option<Child>,
    /// What the service manager is told.
    notified: UnixDatagram,
}

impl Resolver {
    /// Files without a process.
    fn new(name: &str, wanted: &str, hosts: &str) -> Self {
        let directory = format!("resolver-process-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("own")).unwrap();
        let notified = UnixDatagram::bind(directory.join("notify")).unwrap();
        notified.set_read_timeout(Some(patience())).unwrap();
        let resolver = Self {
            directory,
            child: None,
            notified,
        };
        resolver.write("wanted-names", wanted);
        resolver.write("hosts", hosts);
        resolver.write(
            "resolv.conf",
            "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        );
        resolver
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Replaces a file as the daemon does.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn command(&self, port: u16) -> Command {
        self.command_with("wanted-names", "own/names.toml", port)
    }

    /// With other paths, below the directory or absolute.
    fn command_with(&self, wanted: &str, names: &str, port: u16) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_traffic-mirror-resolver"));
        for (option, path) in [
            ("--wanted", wanted),
            ("--names", names),
            ("--resolved", "no-socket"),
            ("--hosts", "hosts"),
            ("--resolv-conf", "resolv.conf"),
        ] {
            command.arg(option).arg(self.path(path));
        }
        command.args(["--port", &port.to_string()]);
        command
            .env("NOTIFY_SOCKET", self.path("notify"))
            .stderr(Stdio::piped());
        command
    }

    /// Starts the process and waits until it is ready.
    fn start(&mut self, port: u16) {
        self.child = Some(self.command(port).spawn().unwrap());
        while !self.told().contains("READY=1") {}
    }

    /// The next thing that the service manager is told.
    fn told(&self) -> String {
        let mut buffer = [0; 4096];
        let bytes = loop {
            match self.notified.recv(&mut buffer) {
                // a process that was stopped goes on (signal(7))
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.expect("a message to the service manager"),
            }
        };
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end of the process.
    fn end(&mut self) -> Output {
        let mut child = self.child.take().unwrap();
        let end = Instant::now() + patience();
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                child.kill().unwrap();
                panic!("it does not end: {:?}", child.wait_with_output());
            }
            thread::sleep(Duration::from_millis(10));
        }
        child.wait_with_output().unwrap()
    }

    /// Ends the process as systemd does; what it has said.
    fn stop(&mut self) -> String {
        self.signal("-TERM");
        let output = self.end();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn names(&self) -> Names {
        let text = fs::read_to_string(self.path("own/names.toml")).unwrap();
        Names::parse(&text).unwrap_or_else(|error| panic!("the file {error}: {text}"))
    }

    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        self.names()
            .addresses_of(&self::name(name))
            .map(|(address, _)| address)
            .collect()
    }

    /// Waits for a version of the file.
    fn wait(&self, what: &str, is_it: impl Fn(&Names) -> bool) {
        let end = Instant::now() + patience();
        while !is_it(&self.names()) {
            assert!(Instant::now() < end, "{what}: {:#?}", self.names());
            // each version of the file is told
            self.told();
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn patience() -> Duration {
    let times = std::env::var("TEST_PATIENCE")
        .ok()
        .and_then(|times| times.parse().ok());
    Duration::from_secs(20) * times.unwrap_or(1)
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A port of 127.0.0.1 on which nothing answers.
fn nobody() -> u16 {
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A DNS server that answers each question for IPv4 addresses with one, and for others with none.
fn dns(address: [u8; 4]) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((bytes, client)) = socket.recv_from(&mut buffer) {
            let mut message = buffer[..bytes].to_vec();
            message[2..4].copy_from_slice(&[0x81, 0x80]);
            if message[bytes - 4..] == [0, 1, 0, 1] {
                message[7] = 1;
                // a pointer to the question, A, IN, a TTL of a minute, four bytes
                message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                message.extend(address);
            }
            socket.send_to(&message, client).unwrap();
        }
    });
    port
}

#[test]
fn names_are_resolved_and_their_file_is_for_all_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut resolver = Resolver::new(
        "resolve",
        "db.example\nwww.example\n",
        "192.0.2.9 db.example\n2001:db8::9 db.example\n",
    );
    resolver.start(dns([192, 0, 2, 1]));
    assert_eq!(
        resolver.addresses("db.example"),
        [ip("192.0.2.9"), ip("2001:db8::9")]
    );
    assert_eq!(resolver.addresses("www.example"), [ip("192.0.2.1")]);
    let known = &resolver.names().0[&name("www.example")];
    let (_, times) = resolver
        .names()
        .addresses_of(&name("www.example"))
        .next()
        .unwrap();
    assert_eq!(Some(times.answered), known.answered);
    assert_eq!(times.until, times.answered + 3600);
    assert_eq!(known.failing, None);
    let mode = fs::metadata(resolver.path("own/names.toml"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o644);
    let said = resolver.stop();
    assert!(
        said.contains("2 names: 3 added, 0 removed, now 3 addresses\n"),
        "{said}"
    );
}

#[test]
fn a_changed_list_is_followed_and_a_wrong_one_changes_nothing() {
    let mut resolver = Resolver::new(
        "list",
        "a.example\n",
        "192.0.2.1 a.example\n192.0.2.2 b.example\n192.0.2.3 c.example\n",
    );
    resolver.start(nobody());
    resolver.write("wanted-names", "a.example\nb.example\n");
    resolver.wait("b.example has come", |names| names.count() == 2);
    resolver.write("wanted-names", "*.example\n");
    resolver.write("wanted-names", "b.example\nc.example\n");
    resolver.wait("a.example has gone", |names| {
        names
            .0
            .keys()
            .map(Name::as_str)
            .eq(["b.example", "c.example"])
            && names.count() == 2
    });
    // as an editor without a temporary file writes
    fs::write(resolver.path("wanted-names"), "c.example\n").unwrap();
    resolver.wait("b.example has gone", |names| names.0.len() == 1);
    resolver.stop();
}

#[test]
fn it_ends_with_the_list() {
    let mut resolver = Resolver::new("end", "a.example\n", "192.0.2.1 a.example\n");
    resolver.start(nobody());
    fs::remove_file(resolver.path("wanted-names")).unwrap();
    let output = resolver.end();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("the list of names was removed"));
    assert_eq!(resolver.addresses("a.example"), [ip("192.0.2.1")]);
}

#[test]
fn without_a_server_it_is_ready_and_says_what_is_missing() {
    let mut resolver = Resolver::new("dead", "a.example\n", "");
    resolver.start(nobody());
    resolver.wait("it fails", |names| {
        names.0[&name("a.example")].failing.is_some()
    });
    let failing = resolver.names().0[&name("a.example")].failing.unwrap();
    assert_eq!(failing.reason, Failure::Unreachable);
    let said = resolver.stop();
    let expected =
        "warning: a.example is not resolved: no DNS server can be reached; it has no address yet\n";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn what_was_known_survives_a_kill_and_an_outage() {
    let mut resolver = Resolver::new("restart", "a.example\n", "");
    resolver.start(dns([192, 0, 2, 1]));
    let before = resolver.names();
    resolver.signal("-KILL");
    resolver.end();
    resolver.start(nobody());
    resolver.wait("it fails", |names| {
        names.0[&name("a.example")].failing.is_some()
    });
    let times = |names: &Names| names.addresses_of(&name("a.example")).collect::<Vec<_>>();
    assert_eq!(times(&resolver.names()), times(&before));
    let said = resolver.stop();
    assert!(said.contains("; its address stays"), "{said}");
}

#[test]
fn sighup_resolves_all_names_at_once() {
    let mut resolver = Resolver::new("hurry", "a.example\n", "192.0.2.1 a.example\n");
    resolver.start(nobody());
    resolver.write("hosts", "192.0.2.2 a.example\n");
    resolver.signal("-HUP");
    resolver.wait("the new address", |names| names.count() == 2);
    let said = resolver.stop();
    assert!(
        said.contains("all names are resolved again (SIGHUP)"),
        "{said}"
    );
}

#[test]
fn what_is_wrong_has_its_exit_code_and_its_remedy() {
    let resolver = Resolver::new("wrong", "a.example\n", "");
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, said) = run(resolver.command(53).arg("--colour"));
    assert_eq!(code, Some(64), "{said}");
    let (code, said) = run(&mut resolver.command_with("wanted-names", "/no/such/names.toml", 53));
    assert_eq!(code, Some(1));
    assert!(
        said.contains("error: cannot write /no/such/names.toml: "),
        "{said}"
    );
    resolver.write("wanted-names", "a b\n");
    let (code, said) = run(&mut resolver.command(53));
    assert_eq!(code, Some(1));
    assert!(
        said.contains("wanted-names line 1: the name has the character ' '"),
        "{said}"
    );
    fs::remove_file(resolver.path("wanted-names")).unwrap();
    let (code, said) = run(&mut resolver.command(53));
    assert_eq!(code, Some(1));
    assert!(said.contains("is missing: the daemon writes it"), "{said}");
    let (code, said) = run(&mut resolver.command_with("/no/such/list", "own/names.toml", 53));
    assert_eq!(code, Some(1));
    assert!(said.contains("cannot watch /no/such"), "{said}");
}

#[test]
fn a_file_of_another_version_is_replaced() {
    let mut resolver = Resolver::new("version", "a.example\n", "192.0.2.1 a.example\n");
    fs::write(resolver.path("own/names.toml"), "version = 7\n").unwrap();
    resolver.start(nobody());
    assert_eq!(resolver.addresses("a.example"), [ip("192.0.2.1")]);
    let said = resolver.stop();
    assert!(said.contains("has version 7 of its format"), "{said}");
}

#[test]
fn it_waits_for_nobody() {
    // the unit forbids these calls
    let mut resolver = Resolver::new("sockets", "a.example\n", "");
    resolver.start(dns([192, 0, 2, 1]));
    let id = resolver.child.as_ref().unwrap().id();
    let inodes: Vec<String> = fs::read_dir(format!("/proc/{id}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let inode = link
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .to_owned();
            Some(inode)
        })
        .collect();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = fs::read_to_string(format!("/proc/{id}/net/{table}")).unwrap();
        let columns = text
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(9));
        let own: Vec<&str> = columns
            .filter(|inode| inodes.iter().any(|i| i == inode))
            .collect();
        assert_eq!(own, [] as [&str; 0], "{table}");
    }
    resolver.stop();
}
