use std::fs;
use std::path::Path;

use super::*;
use crate::ask::fake::{A, QUESTION, Server};

/// Files of a host in a directory of their own, which the test removes.
struct Host(PathBuf);

impl Host {
    fn new(name: &str, hosts: &str, resolv_conf: &str) -> Self {
        let directory = format!("resolver-ask-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("hosts"), hosts).unwrap();
        fs::write(directory.join("resolv.conf"), resolv_conf).unwrap();
        Self(directory)
    }

    fn asker(&self, port: u16) -> Asker {
        Asker::new(Sources {
            resolved: self.0.join("resolved"),
            resolv_conf: self.0.join("resolv.conf"),
            hosts: self.0.join("hosts"),
            port,
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn one(address: &str, ttl: u32) -> Answer {
    Ok(vec![(address.parse().unwrap(), ttl)])
}

#[test]
fn hosts_come_before_dns() {
    let server = Server::simple(|asked| match asked.kind {
        A => asked.reply().address(QUESTION, 60, "192.0.2.1"),
        _ => asked.reply().no_data(),
    });
    let host = Host::new("hosts", "192.0.2.9 db.example\n", "nameserver 127.0.0.1\n");
    let asker = host.asker(server.address.port());
    let answers = asker.ask(&name("db.example"));
    assert_eq!(answers.four, one("192.0.2.9", NO_TTL));
    assert_eq!(answers.six, Err(Failure::NoAddress));
    assert_eq!(server.asked(), []);
    let answers = asker.ask(&name("www.example"));
    assert_eq!(answers.four, one("192.0.2.1", 60));
    assert_eq!(answers.six, Err(Failure::NoAddress));
}

#[test]
fn no_search_list_applies() {
    let server = Server::simple(|asked| asked.reply().code(3));
    let resolv_conf = "nameserver 127.0.0.1\nsearch example.com\noptions ndots:5\n";
    let host = Host::new("search", "", resolv_conf);
    let answers = host.asker(server.address.port()).ask(&name("db"));
    assert_eq!(answers.four, Err(Failure::NoSuchName));
    assert!(server.asked().iter().all(|asked| asked.name == "db"));
}

#[test]
fn ipv6_is_not_asked_for_if_resolv_conf_says_so() {
    let server = Server::simple(|asked| asked.reply().address(QUESTION, 60, "192.0.2.1"));
    let host = Host::new("no-aaaa", "", "nameserver 127.0.0.1\noptions no-aaaa\n");
    let answers = host.asker(server.address.port()).ask(&name("www.example"));
    assert_eq!(answers.six, Err(Failure::NoAddress));
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn an_answer_with_addresses_of_no_host_has_no_address() {
    let server = Server::simple(|asked| asked.reply().address(QUESTION, 60, "0.0.0.0"));
    let host = Host::new("blocked", "", "nameserver 127.0.0.1\n");
    let answers = host.asker(server.address.port()).ask(&name("www.example"));
    assert_eq!(answers, Answers::failed(Failure::NoAddress));
}

#[test]
fn resolved_comes_before_all_and_dns_behind_it_if_it_ends() {
    let server = Server::simple(|asked| asked.reply().address(QUESTION, 60, "192.0.2.1"));
    let host = Host::new(
        "resolved",
        "192.0.2.9 db.example\n",
        "nameserver 127.0.0.1\n",
    );
    let asker = host.asker(server.address.port());
    let socket = host.0.join("resolved");
    serve_once(
        &socket,
        b"{\"parameters\":{\"addresses\":[{\"family\":2,\"address\":[192,0,2,7]}]}}\0",
    );
    let ask = |text| asker.ask_family(&name(text), Family::Four);
    assert_eq!(ask("db.example"), one("192.0.2.7", NO_TTL));
    serve_once(&socket, b"{");
    assert_eq!(ask("www.example"), one("192.0.2.1", 60));
    fs::remove_file(&socket).unwrap();
    assert_eq!(ask("db.example"), one("192.0.2.9", NO_TTL));
}

/// Answers one call on a socket, and ends.
fn serve_once(path: &Path, reply: &'static [u8]) {
    use std::io::{Read as _, Write as _};
    let _ = fs::remove_file(path);
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 1024];
        let _ = stream.read(&mut buffer).unwrap();
        stream.write_all(reply).unwrap();
    });
}
